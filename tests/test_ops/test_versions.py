"""Whether Triton is there, and new enough for the kernels."""

import sys
from importlib import metadata
from types import ModuleType

import pytest

from balkd_seg.ops import _select
from balkd_seg.ops._versions import why_no_triton


def unknown(name):
    raise metadata.PackageNotFoundError(name)


@pytest.mark.parametrize(
    ('version', 'reason'),
    [
        ('2.1.0', 'Triton is 2.1.0, older than 3.3'),
        ('3.2.0', 'Triton is 3.2.0, older than 3.3'),
        ('3.3.0', None),
        ('10.1.0+git1', None),
    ],
)
@pytest.mark.parametrize('known', [True, False])
def test_kernels_ask_for_what_compiles_them(monkeypatch, version, reason, known):
    triton = ModuleType('triton')
    triton.__version__ = version
    triton.__spec__ = sys.__spec__  # any, which says that it is there
    monkeypatch.setitem(sys.modules, 'triton', triton)
    monkeypatch.setattr(metadata, 'version', (lambda name: version) if known else unknown)
    found = why_no_triton()
    assert found == reason or found.startswith(reason)


def test_the_reason_is_in_the_message(monkeypatch):
    import torch

    from balkd_seg.ops import balanced_divergence

    monkeypatch.setattr(_select, 'why_no_triton', lambda: 'Triton is 2.1.0, older than 3.3')
    logits = torch.randn(1, 3, 2, 2)
    with pytest.raises(ValueError, match=r"impl='fused', but Triton is 2\.1\.0, older than 3\.3"):
        balanced_divergence(logits, logits, impl='fused')


def test_none_is_said_so(monkeypatch):
    monkeypatch.setitem(sys.modules, 'triton', None)
    assert why_no_triton() == 'Triton is not installed'
