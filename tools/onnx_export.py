"""Write a segmentor as ONNX and hold it to PyTorch; used by `export_student.py`."""

import json
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

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
