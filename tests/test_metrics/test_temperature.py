"""The temperature against a search over all logits."""

import doctest

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize_scalar

from balkd_seg.metrics import temperature
from balkd_seg.metrics.temperature import (
    INVERSE_TEMPERATURES,
    NLLSlopes,
    fit_temperature,
    nll_slopes,
)


def image(factor, num_classes=19, dtype=torch.float64, seed=0, height=60, width=80):
    """Return logits whose best temperature is near `factor`, and labels, the first rows ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(num_classes, height, width, generator=generator, dtype=dtype)
    p = logits.softmax(0).flatten(1).T
    target = p.multinomial(1, generator=generator).view(height, width)
    target[:5] = 255
    return factor * logits, target


def nll(logits, target, inverse):
    return F.cross_entropy(inverse * logits.double()[None], target[None], ignore_index=255)


def searched(logits, target):
    """Return the temperature of least NLL by scipy, over all logits at once."""
    result = minimize_scalar(
        lambda log_t: float(nll(logits, target, 2.0**-log_t)),
        bounds=(-3, 3), method='bounded', options=dict(xatol=1e-9),
    )  # fmt: skip
    return 2.0**result.x


@pytest.mark.parametrize('num_classes', [2, 19])
@pytest.mark.parametrize('factor', [0.2, 0.7, 1.0, 1.6, 2.9, 6.5])
def test_equals_a_search_over_all_logits(factor, num_classes):
    logits, target = image(factor, num_classes)
    got = fit_temperature(nll_slopes(logits, target))
    assert got == pytest.approx(searched(logits, target), rel=1e-4)
    assert got == pytest.approx(factor, rel=0.1)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_lower_precision(dtype):
    logits, target = image(1.6)
    logits = logits.to(dtype)
    got = fit_temperature(nll_slopes(logits, target))
    assert got == pytest.approx(searched(logits, target), rel=1e-4)


def test_sums_are_derivatives_by_autograd():
    logits, target = image(1.0, num_classes=4)
    slopes, curvatures = nll_slopes(logits, target).sums
    valid = (target != 255).sum()
    for index in (0, 12, 20):
        inverse = torch.tensor(INVERSE_TEMPERATURES[index], dtype=torch.float64, requires_grad=True)
        total = nll(logits, target, inverse) * valid
        (slope,) = torch.autograd.grad(total, inverse, create_graph=True)
        (curvature,) = torch.autograd.grad(slope, inverse)
        torch.testing.assert_close(slopes[index], slope.detach())
        torch.testing.assert_close(curvatures[index], curvature)


def test_sums_of_parts_are_the_sum_of_the_whole():
    """The whole takes two chunks, the parts other ones."""
    logits, target = image(1.0, num_classes=3, height=300)
    whole = nll_slopes(logits, target)
    parts = [slice(0, 70), slice(70, 300)]
    first, second = (nll_slopes(logits[:, rows], target[rows]) for rows in parts)
    torch.testing.assert_close((first + second).sums, whole.sums)


def test_ignored_pixels_do_not_count():
    logits, target = image(1.0)
    logits[:, :5] = 1e3
    logits[3, :5] = -torch.inf
    torch.testing.assert_close(
        nll_slopes(logits, target).sums, nll_slopes(logits[:, 5:], target[5:]).sums
    )


def test_ruled_out_classes_are_finite():
    logits, target = image(1.6, num_classes=4)
    expected = fit_temperature(nll_slopes(logits, target))
    logits = torch.cat([logits, torch.full_like(logits[:1], -torch.inf)])
    assert fit_temperature(nll_slopes(logits, target)) == pytest.approx(expected, rel=1e-6)


def test_beyond_the_range_is_its_end():
    logits, _ = image(1.0, num_classes=4)
    assert fit_temperature(nll_slopes(logits, logits.argmax(0))) == 1 / 8  # all right
    assert fit_temperature(nll_slopes(logits, logits.argmin(0))) == 8  # all wrong


def test_refuses_to_fit_on_nothing():
    logits, target = image(1.0)
    with pytest.raises(ValueError, match='labelled pixels to fit'):
        fit_temperature(nll_slopes(logits, torch.full_like(target, 255)))
    with pytest.raises(ValueError, match='logits of every pixel are equal'):
        fit_temperature(nll_slopes(torch.zeros_like(logits), target))


@pytest.mark.parametrize('value', [torch.nan, torch.inf])
def test_refuses_what_is_not_finite(value):
    logits, target = image(1.0)
    logits[0, 30, 30] = value
    with pytest.raises(ValueError, match='finite logits'):
        nll_slopes(logits, target)


def test_refuses_labels_that_do_not_fit():
    logits, target = image(1.0)
    with pytest.raises(ValueError, match='from 0 to 18'):
        nll_slopes(logits, target.clamp(min=19))


def test_bisection_stays_between_the_neighbours():
    slopes = torch.full((2, len(INVERSE_TEMPERATURES)), 1.0, dtype=torch.float64)
    slopes[0, :10] = -1e-9
    got = fit_temperature(NLLSlopes(slopes))
    assert 1 / INVERSE_TEMPERATURES[10] <= got <= 1 / INVERSE_TEMPERATURES[9]


def test_the_example_of_the_docstring():
    result = doctest.testmod(temperature)
    assert (result.failed, result.attempted) == (0, 3)
