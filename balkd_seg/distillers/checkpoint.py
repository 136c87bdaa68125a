"""Read a teacher's checkpoint and load it without mercy: every key, every shape, no code."""

import hashlib
import os
import re
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_local_rank
from torch import Tensor, nn

from balkd_seg.compat.checkpoints import load_weights

# The auxiliary head only serves a network's own training: a frozen one is built without it.
_UNUSED_PREFIX = 'auxiliary_head.'


def read_checkpoint(
    path: str | os.PathLike, role: str, setting: str | None = None
) -> dict[str, Any]:
    """Read a checkpoint file or URL without running anything of it.

    Args:
        path: A file, or an http(s) URL, which is kept in PyTorch's hub cache.
        role: Whose checkpoint it is, in messages: `'teacher'`.
        setting: Where a config describes that network, for messages: `'model.teacher'`.

    Returns:
        The checkpoint as saved, on the CPU.

    Raises:
        FileNotFoundError: If the file is missing or the URL cannot be reached.
        ValueError: If it is no checkpoint, is truncated, or would run code when loaded.
    """
    file = local_checkpoint(path, role)
    if not os.path.isfile(file):
        where = ''
        if setting:
            where = (
                f'; in a config it is {setting}.checkpoint, on the command line --cfg-options '
                f'{setting}.checkpoint=PATH'
            )
        raise FileNotFoundError(
            f'Expected the checkpoint of the {role} at `{path}`, but there is no such file below '
            f'`{os.getcwd()}`. Give a file or URL{where}.'
        )
    try:
        checkpoint = load_weights(file, map_location='cpu')
    except Exception as error:  # whatever a malformed pickle raises while it is read
        raise ValueError(
            f'Expected the checkpoint of the {role}, `{path}`, to be a complete file of weights '
            f'and plain values, but {_complaint(error)}. Nothing of it was run. Copy, download or '
            'train it again; do not load it in a way that runs code.'
        ) from error
    if not isinstance(checkpoint, dict):
        raise ValueError(
            f'Expected the checkpoint of the {role}, `{path}`, to be a dict, but got '
            f'{type(checkpoint).__name__}.'
        )
    return checkpoint


def load_strictly(
    network: nn.Module,
    checkpoint: dict[str, Any],
    path: str,
    role: str,
    setting: str | None = None,
) -> None:
    """Load every weight of a network, or nothing and raise; see `fitting_weights`."""
    weights = fitting_weights(network, checkpoint, path, role, setting)
    network.load_state_dict(weights, strict=False)


def fitting_weights(
    network: nn.Module,
    checkpoint: dict[str, Any],
    path: str,
    role: str,
    setting: str | None = None,
) -> dict[str, Tensor]:
    """Return the weights of a checkpoint that fits a network exactly.

    Args:
        network: With or without auxiliary head; one without ignores the checkpoint's.
        checkpoint: From `read_checkpoint`, with or without `'state_dict'` around the weights.
        path: Where it came from, for the message.
        role: Whose it is, for the message.
        setting: Where a config describes that network, for messages: `'model.teacher'`.

    Raises:
        ValueError: If a key is missing or too many, or a shape differs; names the first of each.
    """
    found = checkpoint.get('state_dict', checkpoint)
    if not isinstance(found, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in found.items()
    ):
        raise ValueError(
            f'Expected the checkpoint `{path}` of the {role} to hold a state dict of names and '
            f"tensors, but got something else under 'state_dict' or at its top level."
        )
    weights = {key.removeprefix('module.'): value for key, value in found.items()}
    expected = network.state_dict()
    if not any(k.startswith(_UNUSED_PREFIX) for k in expected):
        weights = {k: v for k, v in weights.items() if not k.startswith(_UNUSED_PREFIX)}
    missing = [k for k in expected if k not in weights and 'num_batches_tracked' not in k]
    unexpected = [k for k in weights if k not in expected]
    shapes = [
        f'{k} {tuple(weights[k].shape)} instead of {tuple(expected[k].shape)}'
        for k in expected
        if k in weights and weights[k].shape != expected[k].shape
    ]
    if missing or unexpected or shapes:
        raise ValueError(
            f'Expected the checkpoint `{path}` to fit the {role} exactly, but it belongs to '
            f'another architecture or class count: {_few("missing", missing)}; '
            f'{_few("unexpected", unexpected)}; {_few("other shape", shapes)}. '
            f'Give the config that the checkpoint was trained with'
            f'{f" as {setting}.config" if setting else ""}.'
        )
    return weights


def checkpoint_classes(checkpoint: dict[str, Any]) -> tuple[str, ...] | None:
    """Return the class names a checkpoint was trained with, in order, or None if it has none.

    mmengine stores them under `meta.dataset_meta.classes`, the older zoo under `meta.CLASSES`.
    """
    meta = checkpoint.get('meta')
    if not isinstance(meta, dict):
        return None
    dataset_meta = meta.get('dataset_meta')
    classes = dataset_meta.get('classes') if isinstance(dataset_meta, dict) else None
    classes = classes or meta.get('CLASSES')
    return tuple(classes) if isinstance(classes, (list, tuple)) and classes else None


def local_checkpoint(path: str | os.PathLike, role: str) -> str:
    """Return the file of a checkpoint; a URL is downloaded once per machine.

    Raises:
        FileNotFoundError: If a URL cannot be reached.
    """
    path = os.path.expanduser(os.fspath(path))
    if urlparse(path).scheme not in ('http', 'https'):
        return path
    # URLs of one base name (…/a/best.pth, …/b/best.pth) must not share a file
    key = hashlib.sha256(path.encode()).hexdigest()[:8]
    name = f'{key}_{os.path.basename(urlparse(path).path)}'
    file = os.path.join(torch.hub.get_dir(), 'checkpoints', name)
    error: Exception | None = None
    if get_local_rank() == 0 and not os.path.isfile(file):
        os.makedirs(os.path.dirname(file), exist_ok=True)
        try:
            torch.hub.download_url_to_file(path, file)
        except (OSError, RuntimeError) as caught:  # URLError is an OSError
            error = caught
    barrier()
    if not os.path.isfile(file):
        raise FileNotFoundError(
            f'Expected to download the checkpoint of the {role} from `{path}`, but that failed '
            f'({error or "on another process"}). Download it by hand and give the file instead.'
        ) from error
    return file


def _complaint(error: Exception) -> str:
    """Say what is wrong with a checkpoint file, without PyTorch's advice to trust it."""
    forbidden = re.search(r'GLOBAL (\S+)', str(error))
    if forbidden:
        return f'it asks for `{forbidden.group(1)}`, which is neither'
    if isinstance(error, ValueError):
        return str(error)
    return f'reading it failed with {type(error).__name__}: it is malformed or truncated'


def _few(what: str, items: list[str], limit: int = 3) -> str:
    """Describe a list by its length and its first items."""
    shown = ', '.join(items[:limit]) + (', …' if len(items) > limit else '')
    return f'{len(items)} {what}' + (f' ({shown})' if items else '')
