"""Full-resolution logits never exist: the largest and the sum of live tensors stay small."""

import importlib
import weakref
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from balkd_seg.ops import (
    _operator,
    adaptive_kl,
    balanced_divergence,
    decoupled_kl,
    jensen_shannon,
)

TOOLS = Path(__file__).parents[2] / 'tools'
SHAPE = (1, 19, 512, 512)
FULL = 19 * 512 * 512 * 4


class PeakMemory(TorchDispatchMode):
    """Adds up the storages that operations create and that are still alive."""

    def __init__(self, *inputs):
        super().__init__()
        self.live, self.peak = 0, 0
        self.seen = {tensor.untyped_storage()._cdata for tensor in inputs}

    def _free(self, pointer, size):
        self.live -= size
        self.seen.discard(pointer)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == 'balkd_seg':  # look inside
            with self:
                out = _operator.balanced_divergence._init_fn(*args, **(kwargs or {}))
        else:
            out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if not isinstance(tensor, torch.Tensor):
                continue
            storage = tensor.untyped_storage()
            if storage._cdata not in self.seen:
                self.seen.add(storage._cdata)
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())
        return out


def peak(size, operation=balanced_divergence, **kwargs):
    """Return the extra memory of forward and backward, in full-resolution tensors."""
    student = torch.randn(1, 19, *size, requires_grad=True)
    teacher, target = torch.randn(1, 19, *size), torch.randint(0, 19, (1, *SHAPE[2:]))
    with PeakMemory(student, teacher, target) as memory:
        operation(student, teacher, target, **kwargs).loss.backward()
    return memory.peak / FULL


@pytest.mark.parametrize('taus', [(1, 1), (1, 2), (2, 1), (3, 1)])
def test_peak_of_the_chunked_paths(taus, monkeypatch):
    monkeypatch.setattr('balkd_seg.ops._chunked.TILE', 19 * 4096)  # 1/64 of the image
    kwargs = {'forward_temperature': taus[0], 'reverse_temperature': taus[1]}
    assert 0.05 < peak((64, 64), **kwargs) < 0.25
    assert 0.05 < peak((64, 64), cross_entropy_weight=1.0, **kwargs) < 0.3
    # From the full size: the gradient, scaled in its own memory.
    assert 1 < peak((512, 512), **kwargs) < 1.25


def test_peak_over_positions(monkeypatch):
    monkeypatch.setattr('balkd_seg.ops._chunked.TILE', 19 * 4096)
    assert peak((64, 64), softmax_axis='positions') < 0.6


@pytest.mark.parametrize('operation', [jensen_shannon, decoupled_kl, adaptive_kl])
def test_peak_of_formulas_over_pixels(operation, monkeypatch):
    monkeypatch.setattr('balkd_seg.ops._chunked.TILE', 19 * 4096)  # 1/64 of the image
    assert peak((64, 64), operation) < 0.7
    assert 1 < peak((512, 512), operation) < 2.7  # the gradient, scaled into new memory


def test_peak_within_operations(monkeypatch):
    """A sum over bools makes integers of them all, which only the allocator sees."""
    monkeypatch.syspath_prepend(TOOLS)
    monkeypatch.setattr('balkd_seg.ops._chunked.TILE', 19 * 512)
    student = torch.randn(1, 19, 64, 64, requires_grad=True)
    teacher, target = torch.randn(1, 19, 64, 64), torch.randint(0, 19, (1, *SHAPE[2:]))
    bytes_at_once = importlib.import_module('benchmark_loss').tensor_memory(
        lambda: balanced_divergence(student, teacher, target).loss.backward()
    )
    assert 0.02 < bytes_at_once / FULL < 0.08


def test_the_meter_sees_the_reference():
    assert peak((64, 64), impl='reference') > 6
