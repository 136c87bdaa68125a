"""Say of an error that a network raises by itself whose it is, and at which size."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import get_world_size
from mmseg.utils import stack_batch
from torch import Tensor, nn

from balkd_seg.distillers.taps import TapError, logits_head

# Multiples of these are tried: strides of networks, then what a fixed pooling may want.
DIVISORS = (8, 16, 32, 64, 128, 256, 512, 1024)


@contextmanager
def blaming(
    network: nn.Module, role: str, inputs: Tensor, data_samples: list | None = None
) -> Iterator[None]:
    """Let what a network's own forward or loss raises name the network and its input size.

    Which size divisor would do is tried on a copy of the network, with two of the images.

    Args:
        network: An mmseg segmentor, which runs inside the block.
        role: Its name in the message.
        inputs: Images, (N, C, H, W).
        data_samples: N `SegDataSample` of a training step; None if it only answers.

    Raises:
        ValueError: From whatever the block raised, except that memory ran out.
    """
    try:
        yield
    except (torch.cuda.OutOfMemoryError, TapError):
        raise
    except Exception as error:
        height, width = inputs.shape[2:]
        raise ValueError(
            f'Expected the {role} to take images of {height}x{width} (height x width), but its own '
            f'forward or loss raised {type(error).__name__}: {str(error).strip().rstrip(".")}. '
            f'{_remedy(network, role, inputs, data_samples)}'
        ) from error


def _remedy(network: nn.Module, role: str, inputs: Tensor, data_samples: list | None) -> str:
    """Say which size divisor helps, if one does."""
    if get_world_size() > 1:  # the other processes would wait for a network that synchronises
        return f'If it is about sizes, {_setting(64)}.'
    found = _fitting_divisor(network, inputs[:2], data_samples)
    if found is None:
        return (
            'It does not depend on the size: images padded to multiples of '
            f'{DIVISORS[0]} to {DIVISORS[-1]} fail too, or two of these alone do not. Try the '
            f'{role} without distillation.'
        )
    divisor, (height, width) = found
    return (
        f'Images padded to {height}x{width} work: {_setting(divisor)}, or take a crop such as '
        f'{height}x{width}. Without distillation it fails likewise.'
    )


def _setting(divisor: int) -> str:
    """Say how images are padded, in training and in testing."""
    return (
        f'set data_preprocessor=dict(size=None, size_divisor={divisor}, '
        f'test_cfg=dict(size_divisor={divisor})) in the student'
    )


def _fitting_divisor(
    network: nn.Module, inputs: Tensor, data_samples: list | None
) -> tuple[int, tuple[int, int]] | None:
    """Return the least divisor of sizes at which a network runs, and the size, or None."""
    height, width = inputs.shape[2:]
    tried = {(height, width)}
    if _succeeds(_attempt, network, inputs, data_samples, (height, width)):
        return None
    for divisor in DIVISORS:
        size = (-(-height // divisor) * divisor, -(-width // divisor) * divisor)
        next_size = (size[0] + divisor, size[1] + divisor)  # both odd and even multiples
        if size not in tried and all(
            _succeeds(_attempt, network, inputs, data_samples, x) for x in (size, next_size)
        ):
            return divisor, size
        tried.add(size)
    return None


def _attempt(
    network: nn.Module, inputs: Tensor, data_samples: list | None, size: tuple[int, int]
) -> None:
    """Run a copy of a network on padded images."""
    samples = None if data_samples is None else copy.deepcopy(data_samples[: len(inputs)])
    ignored: Any = logits_head(network).ignore_index
    padded, samples = stack_batch(list(inputs), samples, size=size, seg_pad_val=ignored)
    mode = 'tensor' if data_samples is None else 'loss'
    copy.deepcopy(network)(padded, samples if mode == 'loss' else None, mode=mode)


def _succeeds(function: Callable, *args: object) -> bool:
    try:
        with torch.no_grad():
            function(*args)
    except Exception:  # the reason is of no interest: the first failure is what is told
        return False
    return True
