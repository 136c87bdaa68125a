"""Every tensor that the loss takes, laid out in memory in every way, on every implementation."""

import pytest
import torch
import torch.nn.functional as F

from balkd_seg.ops import balanced_divergence
from balkd_seg.ops._types import Problem, Terms
from balkd_seg.ops._versions import why_no_triton

if why_no_triton():
    pytest.skip(why_no_triton(), allow_module_level=True)

from balkd_seg.ops import _chunked, _fused, _fused_upsample

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
IMPLS = ('chunked', 'fused', 'reference')
CLASSES = 3
# (logits, labels)
SIZES = {'full': ((4, 4), (4, 4)), 'low': ((2, 2), (4, 4))}

# Of (N, C, H, W).
OF_IMAGES = {
    'channels_last': lambda z: z.contiguous(memory_format=torch.channels_last),
    'padded': lambda z: F.pad(z, (1, 2, 3, 1))[:, :, 3:-1, 1:-2],
    'swapped': lambda z: z.mT.contiguous().mT,
    'every-second-column': lambda z: z.repeat_interleave(2, 3)[..., ::2],
    'every-second-channel': lambda z: z.repeat_interleave(2, 1)[:, ::2],
    'images-last': lambda z: z.permute(1, 2, 3, 0).contiguous().permute(3, 0, 1, 2),
    'one-image': lambda z: z[:1].expand_as(z),
    'one-number': lambda z: z[:1, :1, :1, :1].expand_as(z),
}
# Of (C,) or (N,).
OF_VECTORS = {
    'slice': lambda z: torch.cat((z - 9, z, z + 9))[len(z) : -len(z)],
    'every-second': lambda z: z.repeat_interleave(2)[::2],
    'column': lambda z: torch.stack((z, z + 9, z - 9), 1)[:, 0],
    'one-number': lambda z: z[:1].expand_as(z),
}


LAYOUTS = list(OF_IMAGES)


def make(sizes, num=2):
    """Return logits and labels, and class weights; eighths, whose ties outlive interpolation."""
    low, size = SIZES[sizes]
    generator = torch.Generator().manual_seed(0)
    student, teacher = (
        torch.randn(num, CLASSES, *low, generator=generator).mul(8).round() / 8 for _ in range(2)
    )
    target = torch.randint(0, CLASSES, (num, *size), generator=generator)
    target[:, :2, 1:3] = 255
    return student, teacher, target, torch.tensor([0.5, 1.0, 2.0])


def outcome(inputs, impl, **settings):
    """Return all results, and the gradients w.r.t. the logits as they are laid out."""
    student, teacher, target, weight = (x if x is None else x.to(DEVICE) for x in inputs)
    pair = student.detach().requires_grad_(), teacher.detach().requires_grad_()
    result = balanced_divergence(
        *pair, target, class_weight=weight, impl=impl, teacher_gradient=True, **settings
    )
    return [x for x in result if x is not None], torch.autograd.grad(result.loss, pair)


def check(inputs, impl, **settings):
    """Hold a layout to the definition in fp64 of contiguous tensors of the same values."""
    plain = [x if x is None else x.contiguous().clone() for x in inputs]
    plain[:2] = [z.double() for z in plain[:2]]
    results, gradients = outcome(plain, 'reference', **settings)
    actual = outcome(inputs, impl, **settings)
    for one, other in zip((*actual[0], *actual[1]), (*results, *gradients), strict=True):
        torch.testing.assert_close(one.double(), other.double(), rtol=1e-5, atol=1e-6)


def laid_out(inputs, index):
    """Return student, teacher, label and class weights, each in another layout."""
    student, teacher, target, weight = inputs
    return (
        OF_IMAGES[LAYOUTS[index]](student),
        OF_IMAGES[LAYOUTS[index - 1]](teacher),
        OF_IMAGES[LAYOUTS[index - 2]](target[:, None])[:, 0],
        OF_VECTORS[list(OF_VECTORS)[index % len(OF_VECTORS)]](weight),
    )


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('sizes', SIZES)
@pytest.mark.parametrize('index', range(len(LAYOUTS)), ids=LAYOUTS)
def test_every_argument_in_every_layout(impl, sizes, index):
    """Eight turns, in which each tensor takes each layout."""
    check(laid_out(make(sizes), index), impl, cross_entropy_weight=0.5)


@pytest.mark.parametrize('impl', IMPLS)
@pytest.mark.parametrize('layout', OF_VECTORS)
def test_samples_in_every_layout(impl, layout):
    student, teacher, target, weight = make('full')
    student, teacher = (z.transpose(0, 1).flatten(1).T for z in (student, teacher))  # columns
    inputs = student, teacher[::1], OF_VECTORS[layout](target.flatten()), weight
    check(inputs, impl, cross_entropy_weight=0.5)


@pytest.mark.parametrize('impl', ['chunked', 'reference'])
@pytest.mark.parametrize('sizes', SIZES)
@pytest.mark.parametrize('index', range(len(LAYOUTS)), ids=LAYOUTS)
def test_a_softmax_over_positions_in_every_layout(impl, sizes, index):
    inputs = laid_out(make(sizes), index)
    check((*inputs[:3], None), impl, softmax_axis='positions')


@pytest.mark.parametrize('sizes', SIZES)
@pytest.mark.parametrize('layout', ['swapped', 'step', 'one-row', 'one-number'])
def test_coefficients_and_valid_pixels_in_every_layout(sizes, layout):
    """What the operator gets from the loss; without a target kernels read what counts instead."""
    student, teacher, target, _ = make(sizes)
    coefficients = {
        'swapped': lambda k: k.T.contiguous().T,
        'step': lambda k: k.repeat_interleave(2, 1)[:, ::2],
        'one-row': lambda k: k[:1].expand_as(k),
        'one-number': lambda k: k[:1, :1].expand_as(k),
    }[layout](torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]))
    valid = {
        'swapped': lambda x: x.mT.contiguous().mT,
        'step': lambda x: x.repeat_interleave(2, 2)[..., ::2],
        'one-row': lambda x: x[:, :1].expand_as(x),
        'one-number': lambda x: x[:1, :1, :1].expand_as(x),
    }[layout](target != 255)
    problem = Problem(
        valid.to(DEVICE), None, None, coefficients.to(DEVICE), Terms(1.0, 1.0, 1.0, 2.0), False,
        False, 255,
    )  # fmt: skip
    pair = student.to(DEVICE), teacher.to(DEVICE)
    expected = _chunked.chunked(*pair, problem, True, False)
    module = _fused if sizes == 'full' else _fused_upsample
    actual = module.solve(*pair, problem, True, False)
    torch.testing.assert_close(tuple(actual), tuple(expected), rtol=1e-5, atol=1e-6)
