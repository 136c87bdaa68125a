"""Write a segmentor as ONNX and hold it to PyTorch; used by `export_student.py`."""

import json
import warnings
from inspect import signature
from pathlib import Path

import torch
from torch import Tensor, nn

from balkd_seg.distillers.renormalise import converts_channels
from balkd_seg.distillers.taps import logits_head
from balkd_seg.networks.facts import channel_statistics, input_channels

TOLERANCE = 1e-3  # of the largest logit; float32 convolutions of two libraries differ by about 1e-5


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
        inputs: Images of the size to export, (N, channels, H, W).
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
    """A segmentor as a function from normalised images to logits (N, C, H, W)."""

    def __init__(self, segmentor: nn.Module) -> None:
        super().__init__()
        self.segmentor = segmentor

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        """Return the logits of images (N, channels, H, W), at their size."""
        size = tuple(int(length) for length in inputs.shape[2:])
        return self.segmentor.encode_decode(inputs, [{'img_shape': size}])


def export_onnx(
    student: nn.Module,
    file: Path,
    size: tuple[int, int],
    classes: tuple,
    batch: int | None = None,
) -> float:
    """Write an ONNX file and return its largest difference from PyTorch, over the largest logit.

    Args:
        student: In eval mode; its adaptive pools are replaced.
        file: Written only if the check passes.
        size: (W, H) of the images.
        classes: Names for the file's metadata, or ().
        batch: Images of every run of the file; None for any number.

    Raises:
        ValueError: If the network cannot be exported, is random, or takes one number of images
            alone, or the file computes something else.
    """
    torch.manual_seed(0)
    images = torch.randn(batch or 2, input_channels(student), size[1], size[0])
    network = Logits(student).eval()
    expected = network(images)
    check_repeats(student, expected, network(images))
    traced = images if batch else images[:1]
    fix_pools(network, traced)
    part = file.with_suffix('.part')
    try:
        write_onnx(network, traced, part, describe_inputs(student, classes), batch is not None)
        difference = compare(part, images, expected)
        if batch is None and difference > TOLERANCE:
            check_any_batch(student, compare(part, images[:1], expected[:1]), file)
        if not difference <= TOLERANCE:
            raise ValueError(
                f'Expected ONNX Runtime to agree with PyTorch within {TOLERANCE:g} of the largest '
                f'logit, but they differ by {difference:.2g}. {file} was not written.'
            )
        part.replace(file)
    except torch.onnx.errors.OnnxExporterError as error:
        raise ValueError(
            f'Expected {name_of(student)} to consist of what ONNX knows at {size[0]}x{size[1]}, '
            f'but: {str(error).splitlines()[0]}. {file} was not written.'
        ) from error
    finally:
        part.unlink(missing_ok=True)
    return difference


def name_of(student: nn.Module) -> str:
    """Return what a segmentor consists of, for messages."""
    return ' on '.join(type(x).__name__ for x in (student.decode_head, student.backbone))


def check_repeats(student: nn.Module, first: Tensor, second: Tensor) -> None:
    """Raise ValueError if two runs of a network on the same images differ: nothing can match it."""
    difference = relative_difference(second, first)
    if difference > TOLERANCE:
        drawn = [type(x).__name__ for x in student.modules() if getattr(x, 'rand_init', False)]
        remedy = 'Make it repeat itself in eval mode'
        if drawn:
            remedy = (
                f'Its {drawn[0]} draws new bases for every run; ham_kwargs=dict(rand_init=False) '
                'in the decode_head of --config draws them once'
            )
        raise ValueError(
            f'Expected {name_of(student)} to give the same logits for the same images, but it is '
            f'random: two runs of PyTorch differ by {difference:.2g} of the largest logit, so that '
            f'no file can be held to it. {remedy}.'
        )


def check_any_batch(student: nn.Module, difference_of_one: float, file: Path) -> None:
    """Raise ValueError if a file, wrong for two images, is right for the one it was traced with."""
    if difference_of_one <= TOLERANCE:
        raise ValueError(
            f'Expected the trace of {name_of(student)} to hold for any number of images, but it '
            'holds for the number it was made with alone, as in Swin Transformers, whose windows '
            f'are counted into it. {file} was not written. Add --batch 1, or as many images as '
            'every run will have.'
        )


def write_onnx(
    network: nn.Module, images: Tensor, file: Path, facts: dict[str, str], fixed: bool = False
) -> None:
    """Trace a network and write it, with facts in its metadata.

    Args:
        network: Maps images to logits.
        images: To trace it with, (N, channels, H, W).
        file: To write.
        facts: Name and value.
        fixed: Whether the file is for N images alone, and not for any number.
    """
    import onnx

    axes = {} if fixed else {'images': {0: 'batch'}, 'logits': {0: 'batch'}}
    with warnings.catch_warnings():  # this exporter is deprecated, but the new one needs onnxscript
        warnings.simplefilter('ignore')
        # said where it can be: since 2.9 the new one is the default
        old = {'dynamo': False} if 'dynamo' in signature(torch.onnx.export).parameters else {}
        torch.onnx.export(
            network, (images,), str(file), **old,
            input_names=['images'], output_names=['logits'], dynamic_axes=axes,
        )  # fmt: skip
    model = onnx.load(str(file))
    onnx.helper.set_model_props(model, facts)
    onnx.save(model, str(file))


def describe_inputs(student: nn.Module, classes: tuple) -> dict[str, str]:
    """Return what a user of the ONNX file must know, as JSON texts."""
    preprocessor = student.data_preprocessor
    facts, channels = {'classes': classes}, input_channels(student)
    statistics = channel_statistics(preprocessor, channels)
    for name, values in zip(('mean', 'std'), statistics, strict=True):
        facts[name] = values.flatten().tolist()
    order = 'RGB' if converts_channels(preprocessor) else 'BGR'
    facts['channels'] = order if channels == 3 else f'{channels}, in the order of the files'
    if student.out_channels == 1:  # class 1 where the sigmoid of the logit is above it
        facts['threshold'] = logits_head(student).threshold
    return {name: json.dumps(value) for name, value in facts.items()}


def compare(file: Path, images: Tensor, expected: Tensor) -> float:
    """Return the relative difference of ONNX Runtime, infinite where it cannot run these images."""
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as errors

    session = onnxruntime.InferenceSession(str(file), providers=['CPUExecutionProvider'])
    try:
        got = torch.from_numpy(session.run(None, {'images': images.numpy()})[0])
    except (errors.Fail, errors.InvalidArgument, errors.RuntimeException):
        return float('inf')
    return relative_difference(got, expected)


def relative_difference(got: Tensor, expected: Tensor) -> float:
    """Return max |got - expected| / max(1, max |expected|), infinite for another shape."""
    if got.shape != expected.shape:
        return float('inf')
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1))
