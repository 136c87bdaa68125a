r"""Turn a training checkpoint into clean student weights, and optionally into ONNX.

    python tools/export_student.py work_dirs/NAME/iter_300.pth student.pth
    python tools/export_student.py work_dirs/NAME/iter_300.pth student.pth \
        --onnx student.onnx --config CONFIG --size 512x256

OUT holds `state_dict` and the class names and colours (`meta.dataset_meta`), plain values only:
PyTorch loads it with `weights_only=True`, mmengine and mmseg as any other checkpoint of the
student. The ONNX file maps normalised images (N, 3, H, W) to logits (N, C, H, W); N is free.
"""

import argparse
import importlib.util
import json
import sys
import warnings
from pathlib import Path

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import revert_sync_batchnorm
from mmseg.registry import MODELS
from mmseg.utils import register_all_modules
from torch import Tensor, nn

from balkd_seg.distillers.checkpoint import checkpoint_classes, load_strictly, read_checkpoint
from balkd_seg.distillers.model_config import resolve_model_config

TOLERANCE = 1e-3  # of the largest logit; float32 convolutions of two libraries differ by about 1e-5


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


def build_student(config: str, checkpoint: dict, path: str) -> nn.Module:
    """Build the student without auxiliary head and load every weight of it.

    Args:
        config: A distillation config, or the student's own (a file or `mmseg::...`).
        checkpoint: The weights.
        path: Where they came from, for messages.
    """
    register_all_modules(init_default_scope=True)
    model = ConfigDict(config=config)
    if Path(config).is_file():
        loaded = Config.fromfile(config).get('model', {})
        model = loaded.student if loaded.get('type') == 'OfflineDistiller' else model
    model = resolve_model_config(model, 'student')
    model.update(pretrained=None, auxiliary_head=None)
    network = revert_sync_batchnorm(MODELS.build(model))
    load_strictly(network, checkpoint, path, 'student')
    return network.eval()


class FixedAveragePool(nn.Module):
    """`AdaptiveAvgPool2d` at one input size, as two matrix products: `A_h · x · A_wᵀ`.

    ONNX has no adaptive pooling; the exporter only knows sizes that divide each other.

    Args:
        size: (H, W) of the input.
        bins: (rows, columns) of the output.
    """

    def __init__(self, size: tuple[int, int], bins: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer('rows', self.averages(size[0], bins[0]))
        self.register_buffer('columns', self.averages(size[1], bins[1]).T.contiguous())

    @staticmethod
    def averages(length: int, bins: int) -> Tensor:
        """Return (bins, length): row i averages from floor(i·L/B) to ceil((i+1)·L/B)."""
        matrix = torch.zeros(bins, length)
        for i in range(bins):
            start, end = i * length // bins, -((i + 1) * length // -bins)
            matrix[i, start:end] = 1 / (end - start)
        return matrix

    def forward(self, x: Tensor) -> Tensor:
        """Pool (N, C, H, W) to (N, C, rows, columns)."""
        return self.rows @ x @ self.columns


def fix_pools(network: nn.Module, inputs: Tensor) -> None:
    """Replace every `AdaptiveAvgPool2d` by what it does at the size that these inputs give it.

    Args:
        network: A `Logits`; changed in place.
        inputs: Images of the size to export, (N, 3, H, W).
    """
    sizes: dict[nn.Module, tuple] = {}
    pools = [module for module in network.modules() if isinstance(module, nn.AdaptiveAvgPool2d)]
    hooks = [
        pool.register_forward_pre_hook(lambda pool, x: sizes.update({pool: tuple(x[0].shape[2:])}))
        for pool in pools
    ]
    network(inputs)
    for hook in hooks:
        hook.remove()
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if child in sizes:
                bins = child.output_size
                bins = bins if isinstance(bins, tuple) else (bins, bins)
                setattr(parent, name, FixedAveragePool(sizes[child], bins))


class Logits(nn.Module):
    """A segmentor as a function from normalised images (N, 3, H, W) to logits (N, C, H, W)."""

    def __init__(self, segmentor: nn.Module) -> None:
        super().__init__()
        self.segmentor = segmentor

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits at the size of the images."""
        size = tuple(int(length) for length in inputs.shape[2:])
        return self.segmentor.encode_decode(inputs, [{'img_shape': size}])


def export_onnx(student: nn.Module, file: Path, size: tuple[int, int], classes: tuple) -> float:
    """Write an ONNX file and return its largest difference from PyTorch, over the largest logit.

    Args:
        student: In eval mode; its adaptive pools are replaced.
        file: Written only if the check passes.
        size: (W, H) of the images.
        classes: Names for the file's metadata, or ().

    Raises:
        ValueError: If the network cannot be exported, or the file computes something else.
    """
    torch.manual_seed(0)
    images = torch.randn(2, 3, size[1], size[0])
    network = Logits(student).eval()
    expected = network(images)
    fix_pools(network, images[:1])
    part = file.with_suffix('.part')
    try:
        write_onnx(network, images[:1], part, describe_inputs(student, classes))
        difference = compare(part, images, expected)
        if not difference <= TOLERANCE:
            raise ValueError(
                f'Expected ONNX Runtime to agree with PyTorch within {TOLERANCE:g} of the largest '
                f'logit, but they differ by {difference:.2g}. {file} was not written.'
            )
        part.replace(file)
    except torch.onnx.errors.OnnxExporterError as error:
        names = [type(x).__name__ for x in (student.decode_head, student.backbone)]
        raise ValueError(
            f'Expected {" on ".join(names)} to consist of what ONNX knows at {size[0]}x{size[1]}, '
            f'but: {str(error).splitlines()[0]}. {file} was not written.'
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return difference


def write_onnx(network: Logits, images: Tensor, file: Path, facts: dict[str, str]) -> None:
    """Trace a network and write it, with facts in its metadata; any number of images may follow."""
    import onnx

    with warnings.catch_warnings():  # this exporter is deprecated, but the new one needs onnxscript
        warnings.simplefilter('ignore')
        torch.onnx.export(
            network, (images,), str(file), dynamo=False,
            input_names=['images'], output_names=['logits'],
            dynamic_axes={'images': {0: 'batch'}, 'logits': {0: 'batch'}},
        )  # fmt: skip
    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, facts)
    onnx.save(model, str(file))


def describe_inputs(student: nn.Module, classes: tuple) -> dict[str, str]:
    """Return what a user of the ONNX file must know, as JSON texts."""
    preprocessor = student.data_preprocessor
    facts = {'classes': classes}
    for name in ('mean', 'std'):
        facts[name] = getattr(preprocessor, name, torch.zeros(0)).flatten().tolist()
    facts['channels'] = 'RGB' if getattr(preprocessor, 'channel_conversion', True) else 'BGR'
    return {name: json.dumps(value) for name, value in facts.items()}


def compare(file: Path, images: Tensor, expected: Tensor) -> float:
    """Return max |ONNX Runtime - PyTorch| / max(1, max |PyTorch|)."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    got = torch.from_numpy(session.run(None, {'images': images.numpy()})[0])
    if got.shape != expected.shape:
        return float('inf')
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1))


def parse_size(text: str) -> tuple[int, int]:
    """Read a size such as 512x256."""
    width, _, height = text.partition('x')
    if not (width.isdigit() and height.isdigit() and min(int(width), int(height)) >= 32):
        raise argparse.ArgumentTypeError(
            f'expected WIDTHxHEIGHT in pixels of at least 32, such as 512x256, but got {text!r}'
        )
    return int(width), int(height)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', help='file that training wrote')
    parser.add_argument('out', type=Path, help='file to write')
    parser.add_argument(
        '--drop-auxiliary', action='store_true', help='leave the auxiliary head out'
    )
    parser.add_argument('--force', action='store_true', help='replace files that exist')
    parser.add_argument('--onnx', type=Path, help='ONNX file to write; needs --config and --size')
    parser.add_argument('--config', help="the distillation config or the student's own")
    parser.add_argument('--size', type=parse_size, help='of the images, WIDTHxHEIGHT')
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
    checkpoint = read_checkpoint(args.checkpoint, 'student')
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
        student = build_student(args.config, cleaned, args.checkpoint)
        classes = checkpoint_classes(cleaned) or ()
        difference = export_onnx(student, args.onnx, args.size, classes)
        print(
            f'{args.onnx}: {args.onnx.stat().st_size / 2**20:.1f} MiB, largest difference from '
            f'PyTorch {difference:.1e} of the largest logit'
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
