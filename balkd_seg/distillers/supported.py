"""What a network has to be for distillation: installed, and with logits for every pixel."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import torch
from mmengine.config.utils import MODULE2PACKAGE
from mmseg.models.decode_heads import (
    Mask2FormerHead,
    MaskFormerHead,
    PointHead,
    SideAdapterCLIPHead,
    VPDDepthHead,
)
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.registry import MODELS

from balkd_seg.kinds import kind_of

_WITHOUT_LOGITS = {
    MaskFormerHead: 'classifies masks',
    Mask2FormerHead: 'classifies masks',
    SideAdapterCLIPHead: 'classifies masks',
    PointHead: 'gives logits at single points',
    VPDDepthHead: 'gives depth',
}
# What serves models of mmseg: packages, by the name under which they are imported. mmpretrain does
# not ask for torchvision, but imports it.
_PACKAGES = {'mmpretrain': 'mmpretrain torchvision', 'timm': 'timm', 'torchvision': 'torchvision'}
_KNOWN = {*MODULE2PACKAGE, *_PACKAGES}
_REMEDY = 'That cannot be distilled: take another network, configs/ZOO.md lists them.'


def check_heads(model: dict, role: str) -> None:
    """Raise ValueError if a decode head gives no logits of every class at every pixel.

    Args:
        model: A model dict, of which nothing has been built yet.
        role: `'student'`, `'teacher'` or another name, for the message.
    """
    heads = model.get('decode_head') or []
    for head in heads if isinstance(heads, (list, tuple)) else [heads]:
        known = kind_of(head, MODELS)
        if not isinstance(known, type):  # what building it says is better
            continue
        does = [text for refused, text in _WITHOUT_LOGITS.items() if issubclass(known, refused)]
        if not issubclass(known, BaseDecodeHead):
            does.append("is no subclass of mmseg's BaseDecodeHead")
        if does:
            raise ValueError(
                f'Expected the decode head of the {role} to give logits for every pixel, but got '
                f'{known.__name__}, which {does[0]}. {_REMEDY}'
            )


def check_packages(model: dict, role: str) -> None:
    """Raise ValueError if a part of a network comes from a package that is not installed.

    Args:
        model: A model dict.
        role: `'student'`, `'teacher'` or another name, for the message.
    """
    for kind in _types(model):
        scope = 'timm' if kind.rpartition('.')[2] == 'TIMMBackbone' else kind.partition('.')[0]
        if scope in _KNOWN:
            check_installed(scope, f'`{kind}` of the {role}')


def check_missing_module(error: ImportError, what: str) -> None:
    """Raise ValueError with the command that installs a package if an import failed for one.

    Args:
        error: What the import raised.
        what: What wanted to import, for the message.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ModuleNotFoundError):
        cause = cause.__cause__ or cause.__context__
    package = ((cause and cause.name) or '').partition('.')[0]
    if package in _KNOWN:
        check_installed(package, what)


def check_installed(package: str, what: str) -> None:
    """Raise ValueError with the command that installs a package if it is missing.

    Args:
        package: The name under which it is imported.
        what: What needs it, for the message.
    """
    if find_spec(package) is not None:
        return
    if package == 'mmdet':
        raise ValueError(
            f'Expected {what} to give logits for every pixel, but it needs mmdet, with which mmseg '
            f'classifies masks (MaskFormer, Mask2Former). {_REMEDY}'
        )
    packages = _PACKAGES.get(package, package)
    version = torch.__version__.partition('+')[0]  # so that pip leaves it alone
    raise ValueError(
        f'Expected {package} to be installed, because {what} needs it, but it is not. Run '
        f'`pip install {packages} torch=={version}`.'
    )


def _types(config: Any) -> Iterator[str]:
    """Yield every `type` that a config gives by name, wherever it stands."""
    if isinstance(config, dict):
        if isinstance(config.get('type'), str):
            yield config['type']
        config = list(config.values())
    if isinstance(config, (list, tuple)):
        for item in config:
            yield from _types(item)
