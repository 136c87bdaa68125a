"""`ChannelwiseKLLoss` is the loss of CWD over the pixels that count."""

import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS

import balkd_seg  # noqa: F401


def build(**settings):
    return MODELS.build({'type': 'ChannelwiseKLLoss', **settings})


def test_defaults_are_the_papers():
    """3 tau^2 / (N C) sum KL with tau = 4, every pixel in the softmax."""
    student = torch.randn(2, 5, 6, 7, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 5, 6, 7, dtype=torch.float64)
    log_q, log_p = (F.log_softmax(z.view(10, -1) / 4, 1) for z in (student, teacher))
    expected = 3 * 16 / 10 * F.kl_div(log_q, log_p, reduction='sum', log_target=True)
    result = build()(student, teacher)
    torch.testing.assert_close(result.loss, expected)
    gradients = [torch.autograd.grad(x, student)[0] for x in (result.loss, expected)]
    torch.testing.assert_close(*gradients)


def test_settings():
    assert build().loss_name == 'loss_cwd'
    small, large = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 6, 8)
    target = torch.full((2, 6, 8), 9)
    assert build(resize='student', ignore_index=9)(small, large, target).loss == 0
    assert build(resize='label', align_corners=True)(small, large, target).loss > 0
    with pytest.raises(ValueError, match=r"`loss_name` .* but got 'cwd'"):
        build(loss_name='cwd')
    with pytest.raises(ValueError, match=r'`temperature` .* but got nan'):
        build(temperature=float('nan'))
