r"""Try a network of every family of mmseg's zoo in every role, and write configs/ZOO.md.

    python tools/zoo.py [FOLDER ...] [--write]

One training step each, with random weights: alone, as a student of a small PSPNet, and as its
teacher. Without folders all are tried, which takes minutes on two cores; --write makes the page of
what was seen. tests/test_zoo.py holds the page to the same steps.
"""

import argparse
import copy
import re
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import mmseg
import torch
from mmengine.logging import MMLogger
from mmengine.registry import init_default_scope
from mmengine.structures import PixelData
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from zoo_families import FAMILIES

from balkd_seg.distillers.model_config import resolve_model_config
from balkd_seg.distillers.supported import check_heads

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'configs' / 'ZOO.md'
ZOO = Path(mmseg.__file__).parent / '.mim' / 'configs'
NOT_TRIED = 'not tried'


class Row(NamedTuple):
    """What was seen of a family: for each role None, or why it does not run."""

    alone: str | None
    student: str | None
    teacher: str | None


def try_family(folder: str) -> Row:
    """Take a training step with a network of a family in each role."""
    family = FAMILIES[folder]
    try:
        model = plain(resolve_model_config(config_of(folder), 'student'))
        check_heads(model, 'student')
    except ValueError as error:
        return Row(NOT_TRIED, *[reason_of(error)] * 2)
    inputs, samples = images(family.size, classes_of(model))
    small = partner(classes_of(model))
    with tempfile.TemporaryDirectory() as folder:
        path = f'{folder}/weights.pth'

        def learn() -> None:
            torch.save(MODELS.build(copy.deepcopy(small)).state_dict(), path)
            student = distiller(model, small, path)
            torch.save(student.state_dict(), path)  # the same weights teach next
            step(student, inputs, samples)

        def teach() -> None:
            step(distiller(small, model, path), inputs, samples)

        student = attempt(learn)
        # a student's step holds the one that it would take alone
        alone = student and attempt(lambda: step(MODELS.build(plain(model)), inputs, samples))
        return Row(alone, student, attempt(teach))


def config_of(folder: str) -> dict[str, Any]:
    """Return the network that is tried of a family, as `student` or `teacher` of a config."""
    family = FAMILIES[folder]
    return dict(config=str(ZOO / folder / f'{family.config}.py'), **family.shrunk)


def plain(config: Any) -> Any:
    """Return a config without pretrained weights, and with BN in place of SyncBN."""
    if isinstance(config, dict):
        pretrained = config.get('init_cfg')
        if isinstance(pretrained, dict) and pretrained.get('type') == 'Pretrained':
            config['init_cfg'] = None
        return type(config)({k: None if k == 'pretrained' else plain(v) for k, v in config.items()})
    if isinstance(config, (list, tuple)):
        return type(config)(plain(item) for item in config)
    return 'BN' if config == 'SyncBN' else config


def classes_of(model: dict[str, Any]) -> int:
    """Return the number of classes of a model dict."""
    head = model['decode_head']
    head = head[-1] if isinstance(head, (list, tuple)) else head
    return head.get('num_classes') or head.get('kernel_generate_head', {}).get('num_classes', 19)


def partner(num_classes: int) -> dict[str, Any]:
    """Return a small PSPNet, of which every family is student and teacher."""
    norm = dict(type='BN')
    backbone = dict(type='ResNetV1c', depth=18, stem_channels=8, base_channels=8, norm_cfg=norm)
    head = dict(type='PSPHead', in_channels=64, in_index=3, channels=16, norm_cfg=norm)
    preprocessor = dict(type='SegDataPreProcessor')
    return dict(
        type='EncoderDecoder', data_preprocessor=preprocessor, backbone=backbone,
        decode_head=dict(head, num_classes=num_classes), test_cfg=dict(mode='whole'),
    )  # fmt: skip


def images(size: int, num_classes: int) -> tuple[torch.Tensor, list[SegDataSample]]:
    """Return two random images and their labels, a tenth of them ignored."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(num_classes, (2, 1, size, size), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255
    edges = (torch.rand(labels.shape, generator=generator) < 0.1).float()
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=label), gt_edge_map=PixelData(data=edge))
        for label, edge in zip(labels, edges, strict=True)
    ]
    return torch.randn(2, 3, size, size, generator=generator), samples


def distiller(student: dict[str, Any], teacher: dict[str, Any], checkpoint: str) -> Any:
    """Return a distiller whose teacher is loaded."""
    model = dict(
        type='OfflineDistiller', student=student, teacher=dict(teacher, checkpoint=checkpoint),
        distill=[dict(type='BalancedDivergenceLoss')],
    )  # fmt: skip
    built = MODELS.build(model)
    built.build_teacher()
    return built


def step(model: Any, inputs: torch.Tensor, samples: list[SegDataSample]) -> None:
    """Take a training step up to the gradients, which have to be finite."""
    losses = model.train().loss(inputs, samples)
    parsed, _ = model.parse_losses(losses)
    parsed.backward()
    if 'distill.loss_balkd' in losses and not losses['distill.loss_balkd'] > 0:
        raise ArithmeticError('the divergence is not positive')
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    if not gradients or not all(bool(g.isfinite().all()) for g in gradients):
        raise ArithmeticError('a gradient is not finite')


def attempt(run: Callable[[], None]) -> str | None:
    """Return why something does not run, or None."""
    try:
        run()
    except Exception as error:  # whatever a network of the zoo raises
        return reason_of(error)
    return None


def reason_of(error: Exception) -> str:
    """Return an error in a few words."""
    text = str(error)
    for pattern, words in (
        (r'`mmcv\.ops\.(\w+)` is a compiled op', r'needs full mmcv: `\1`'),
        (r'Expected (\w+) to be installed', r'needs \1'),
        (r'classifies masks', 'classifies masks'),
        (r'but got (\w+), which ([^.]+)\.', r'`\1` \2'),
    ):
        match = re.search(pattern, text)
        if match:
            return match.expand(words)
    return f'{type(error).__name__}: {text.splitlines()[0][:80] if text else ""}'


def page(rows: dict[str, Row]) -> str:
    """Return configs/ZOO.md of what was seen."""
    return '\n'.join([ABOUT, *(line_of(*item) for item in sorted(rows.items()))]) + '\n'


def line_of(folder: str, row: Row) -> str:
    """Return what the page says of a family."""
    words = {None: 'yes', NOT_TRIED: '-'}
    roles = [words.get(reason, 'no') for reason in row]
    why = '; '.join(dict.fromkeys(reason for reason in row if reason not in words))
    return ' | '.join(['| ' + folder, f'`{FAMILIES[folder].config}`', *roles, f'{why} |'])


ABOUT = """# Which networks of mmseg's zoo can be distilled

Every family of MMSegmentation 1.2.2, one config each: a training step with random weights on two
tiny images, alone as in stock mmseg, as the student of a small PSPNet, and as its teacher, with
nothing set but the pair. `python tools/zoo.py --write` makes this page with `mmcv-lite`, and
`tests/test_zoo.py` holds it to what it sees. Of the largest networks four layers are left.
`-` was not tried.

| family | config | alone | student | teacher | why not |
|---|---|---|---|---|---|"""


def main(argv: list[str] | None = None) -> int:
    """Run the command; the exit status is 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('folders', nargs='*', choices=[[], *FAMILIES], metavar='FOLDER')
    parser.add_argument('--write', action='store_true', help='write configs/ZOO.md')
    arguments = parser.parse_args(argv)
    if arguments.write and arguments.folders:
        parser.error('the page is made of all families: --write takes no folder')
    rows = {}
    for folder in arguments.folders or FAMILIES:
        start = time.perf_counter()
        rows[folder] = try_family(folder)
        print(f'{folder}: {rows[folder]} ({time.perf_counter() - start:.1f} s)', flush=True)
    if arguments.write:
        PAGE.write_text(page(rows), encoding='utf-8')
        print(f'wrote {PAGE}')
    return 0


if __name__ == '__main__':
    init_default_scope('mmseg')
    MMLogger.get_current_instance().setLevel('ERROR')  # each teacher says that it was loaded
    sys.exit(main())
