"""`PixelwiseKLLoss` is Hinton's loss over the pixels that count."""

import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS

import balkd_seg  # noqa: F401


def build(**settings):
    return MODELS.build({'type': 'PixelwiseKLLoss', **settings})


@pytest.mark.parametrize('align_corners', [False, True])
def test_is_plain_knowledge_distillation(align_corners):
    student = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    target = torch.randint(0, 5, (2, 12, 16))
    target[:, :4] = 7
    loss = build(temperature=3.0, ignore_index=7, align_corners=align_corners, loss_weight=0.5)
    result = loss(student, teacher, target)
    up = (F.interpolate(z, (12, 16), None, 'bilinear', align_corners) for z in (student, teacher))
    log_q, log_p = (F.log_softmax(z / 3, 1) for z in up)
    kl = F.kl_div(log_q, log_p, reduction='none', log_target=True).sum(1)
    expected = 0.5 * 9 * kl[target != 7].mean()
    torch.testing.assert_close(result.loss, expected)
    gradients = [torch.autograd.grad(x, student)[0] for x in (result.loss, expected)]
    torch.testing.assert_close(*gradients)


def test_is_the_balanced_divergence_with_weights_1_and_0():
    student, teacher = torch.randn(2, 5, 3, 4, requires_grad=True), torch.randn(2, 5, 3, 4)
    settings = {'reverse_weight': 0.0, 'forward_temperature': 2.0, 'reverse_temperature': 0.3}
    balanced = MODELS.build({'type': 'BalancedDivergenceLoss', **settings})(student, teacher)
    plain = build(temperature=2.0)(student, teacher)
    assert torch.equal(balanced.loss, plain.loss)
    gradients = [torch.autograd.grad(x.loss, student)[0] for x in (balanced, plain)]
    assert torch.equal(*gradients)


def test_settings():
    assert build().loss_name == 'loss_kd'
    assert build(loss_name='loss_aux').loss_name == 'loss_aux'
    small, large = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 6, 8)
    assert build(resize='student')(small, large).loss > 0
    assert build(impl='reference').impl == 'reference'
    with pytest.raises(ValueError, match=r'`temperature` .* but got 0'):
        build(temperature=0)
    with pytest.raises(ValueError, match=r'`loss_weight` .* but got -1'):
        build(loss_weight=-1)
