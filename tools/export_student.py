r"""Turn a training checkpoint into clean student weights, and optionally into ONNX.

    python tools/export_student.py work_dirs/NAME/iter_300.pth student.pth
    python tools/export_student.py work_dirs/NAME/iter_300.pth student.pth \
        --onnx student.onnx --config CONFIG --size 512x256

After mutual training `--network teacher` takes that network in place of the student.

OUT holds `state_dict` and the class names and colours (`meta.dataset_meta`), plain values only:
PyTorch loads it with `weights_only=True`, mmengine and mmseg as any other checkpoint of the
student. The ONNX file maps normalised images (N, channels, H, W) to logits (N, C, H, W); N is free
unless --batch fixes it, which networks need whose trace counts images (Swin).
"""

import argparse
import importlib.util
import sys
from pathlib import Path

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
import torch
from mmseg.utils import register_all_modules
from onnx_export import export_onnx
from torch import Tensor

from balkd_seg.distillers.checkpoint import checkpoint_classes, read_checkpoint
from balkd_seg.distillers.model_config import load_config
from balkd_seg.networks.build import build_network


def choose(checkpoint: dict, network: str) -> dict:
    """Return a checkpoint with the weights of one network of a MutualDistiller.

    Args:
        checkpoint: As `read_checkpoint` returns it.
        network: 'student', or the name of a peer.

    Raises:
        ValueError: If there is no such network in it.
    """
    if network == 'student':
        return checkpoint
    peers = checkpoint.get('peers') or {}
    if network not in peers:
        raise ValueError(
            f'Expected the checkpoint to hold one of {["student", *peers]}, but got --network '
            f'{network}. Peers are in checkpoints that a MutualDistiller wrote with '
            "dict(type='DistillStateHook') in custom_hooks."
        )
    return {'state_dict': peers[network], 'meta': checkpoint.get('meta')}


def clean(checkpoint: dict, drop_auxiliary: bool = False) -> dict:
    """Return a checkpoint of nothing but tensors and plain values.

    Args:
        checkpoint: As `read_checkpoint` returns it.
        drop_auxiliary: Leave the auxiliary head out, which only training uses.

    Raises:
        ValueError: If it holds no weights, or something else among them.
    """
    weights = checkpoint.get('state_dict', checkpoint)
    strange = [key for key, value in weights.items() if not isinstance(value, Tensor)]
    if strange or not weights:
        raise ValueError(
            'Expected a checkpoint with `state_dict` (tensors by name), but got '
            f'{"other things: " + ", ".join(map(str, strange[:5])) if strange else "no tensor"}. '
            'Give a checkpoint that training wrote, such as work_dirs/NAME/iter_300.pth.'
        )
    kept = {
        key.removeprefix('module.'): value.detach().clone()  # a view would bring all its storage
        for key, value in weights.items()
        if not (drop_auxiliary and key.removeprefix('module.').startswith('auxiliary_head.'))
    }
    classes = checkpoint_classes(checkpoint)
    stored = (checkpoint.get('meta') or {}).get('dataset_meta') or {}
    meta = {'classes': classes} if classes else {}
    if stored.get('palette') is not None:
        meta['palette'] = [[int(channel) for channel in colour] for colour in stored['palette']]
    return {'state_dict': kept, 'meta': {'dataset_meta': meta} if meta else {}}


def parse_size(text: str) -> tuple[int, int]:
    """Read a size such as 512x256."""
    width, _, height = text.partition('x')
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= 32):
        raise argparse.ArgumentTypeError(
            f'expected WIDTHxHEIGHT in pixels of at least 32, such as 512x256, but got {text!r}'
        )
    return int(width), int(height)


def parse_batch(text: str) -> int:
    """Read a number of images."""
    if not (text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f'expected a number of images above 0, but got {text!r}')
    return int(text)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='file that training wrote')
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument(
        '--network', default='student', help='peer of a MutualDistiller to export in its place'
    )
    parser.add_argument(
        '--drop-auxiliary', action='store_true', help='leave the auxiliary head out'
    )
    parser.add_argument('--force', action='store_true', help='replace files that exist')
    parser.add_argument('--onnx', type=Path, help='ONNX file to write; needs --config and --size')
    parser.add_argument('--config', help="the distillation config or the student's own")
    parser.add_argument('--size', type=parse_size, help='of the images, WIDTHxHEIGHT')
    parser.add_argument(
        '--batch',
        type=parse_batch,
        help='images of each run of the ONNX file; default: any number',
    )
    args = parser.parse_args(argv)
    if args.onnx and not (args.config and args.size):
        parser.error('--onnx needs --config CONFIG and --size WIDTHxHEIGHT')
    missing = [name for name in ('onnx', 'onnxruntime') if not importlib.util.find_spec(name)]
    if args.onnx and missing:
        parser.error(f'--onnx needs {" and ".join(missing)}: pip install onnx onnxruntime')
    return args


def export(args: argparse.Namespace) -> None:
    """Write what the command line asks for and say what was written."""
    for file in filter(None, (args.out, args.onnx)):
        if file.exists() and not args.force:
            raise FileExistsError(f'Expected {file} not to exist. Choose another, or --force.')
        file.parent.mkdir(parents=True, exist_ok=True)
    if not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f'Expected a checkpoint at {args.checkpoint}, but there is none.')
    checkpoint = choose(read_checkpoint(args.checkpoint, 'student'), args.network)
    cleaned = clean(checkpoint, args.drop_auxiliary)
    part = args.out.with_suffix('.part')
    torch.save(cleaned, part)
    part.replace(args.out)
    before, after = (Path(f).stat().st_size / 2**20 for f in (args.checkpoint, args.out))
    print(f'{args.checkpoint}: {before:.1f} MiB')
    print(f'{args.out}: {after:.1f} MiB, {len(cleaned["state_dict"])} tensors')
    if args.drop_auxiliary:
        print(
            'Without auxiliary head: mmseg and `mim test` load it and report its keys as missing; '
            'model.auxiliary_head=None in the config avoids that.'
        )
    if args.onnx:
        register_all_modules(init_default_scope=True)
        cfg = load_config(args.config, args.network)
        student = build_network(cfg, cleaned, args.checkpoint, args.network)
        classes = checkpoint_classes(cleaned) or ()
        difference = export_onnx(student, args.onnx, args.size, classes, args.batch)
        runs = f'{args.batch} image(s) a run' if args.batch else 'any number of images'
        print(
            f'{args.onnx}: {args.onnx.stat().st_size / 2**20:.1f} MiB, for {runs}, largest '
            f'difference from PyTorch {difference:.1e} of the largest logit'
        )


def main(argv: list[str] | None = None) -> int:
    """Export; return the exit status."""
    try:
        export(parse_args(argv))
    except (FileExistsError, FileNotFoundError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
