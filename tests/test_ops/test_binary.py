"""One sigmoid channel as the softmax of two."""

import pytest
import torch

from balkd_seg.ops._binary import two_class_log_probabilities, two_class_logits


@pytest.mark.parametrize('temperature', [0.5, 1.0, 4.0])
def test_the_softmax_of_both_is_the_sigmoid(temperature):
    z = torch.linspace(-30, 30, 61).view(1, 1, 1, -1)
    p = (two_class_logits(z) / temperature).softmax(1)
    torch.testing.assert_close(p[:, 1:], (z / temperature).sigmoid())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_probabilities_come_back_and_logarithms_are_finite(dtype):
    z = torch.linspace(-200, 200, 401, dtype=torch.float64)
    p = z.sigmoid().to(dtype)[None, None]
    found = two_class_log_probabilities(p)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    assert found.isfinite().all()
    torch.testing.assert_close(found[1].exp().to(dtype), p[0])
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found.exp().sum(0), torch.ones_like(found[0]), rtol=0, atol=8 * eps)
    near = z.abs() < 4
    exact = torch.stack((-z, z)).sigmoid().log()[:, near]
    torch.testing.assert_close(found[:, 0][:, near].double(), exact, rtol=0, atol=100 * eps + 1e-6)


def test_an_end_is_half_a_step_away():
    p = torch.tensor([[1.0]])
    below = 1 - float(torch.nextafter(p, torch.zeros(1)))
    assert float(two_class_log_probabilities(p)[0].exp()) == pytest.approx(below / 2)


def test_logits_are_no_probabilities():
    with pytest.raises(ValueError, match=r'probabilities of class 1.*got -2 to 3'):
        two_class_log_probabilities(torch.tensor([[-2.0, 3.0]]))
