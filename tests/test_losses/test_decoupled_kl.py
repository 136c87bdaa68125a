"""`DecoupledKLLoss` hands its settings to the operation, and can be balanced."""

import pytest
import torch
from mmseg.registry import MODELS

from balkd_seg.ops import decoupled_kl


def test_module(check_module):
    settings = dict(alpha=1.0, beta=0.5, temperature=1.0)
    check_module(
        'DecoupledKLLoss',
        decoupled_kl,
        settings=dict(alpha=0.5, beta=2.0, temperature=3.0),
        defaults=dict(**settings, loss_weight=1.0, loss_name='loss_dkd'),
        refused=[
            (dict(alpha=-1), '`alpha` .* got -1'),
            (dict(alpha=0, beta=0), '`alpha` or `beta` .* both are 0'),
            (dict(temperature=0), '`temperature`'),
        ],
    )


@pytest.mark.parametrize('resize', ['label', 'student'])
def test_balanced_it_mirrors_both_parts(resize):
    student = torch.randn(2, 5, 3, 4, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(2, 5, 6, 4, dtype=torch.float64)
    target = torch.randint(0, 5, (2, 12, 16))
    target[:, :4] = 255
    loss = dict(type='DecoupledKLLoss', beta=2.0, temperature=2.0, resize=resize)
    balanced = MODELS.build(dict(type='BalancedLoss', loss=loss, reverse_weight=0.5))
    result = balanced(student, teacher, target)
    size = (12, 16) if resize == 'label' else (3, 4)
    labels = torch.nn.functional.interpolate(target[:, None].double(), size)[:, 0].long()
    rows = [
        torch.nn.functional.interpolate(z, size, mode='bilinear').permute(0, 2, 3, 1)[labels != 255]
        for z in (student, teacher)
    ]
    y = labels[labels != 255]
    keep = torch.ones_like(rows[0]).scatter(1, y[:, None], 0).bool()

    def one_way(p, q):
        """In logits (P, C), as a mean."""
        total = 0
        p, q = (p / 2).softmax(1), (q / 2).softmax(1)
        at = torch.arange(len(y))
        binary = [torch.stack((x[at, y], 1 - x[at, y]), 1) for x in (p, q)]
        others = [x[keep].view(len(y), -1) for x in (p, q)]
        others = [x / x.sum(1, keepdim=True) for x in others]
        for weight, (a, b) in ((1.0, binary), (2.0, others)):
            total = total + weight * 4 * (a * (a / b).log()).sum(1).mean()
        return total

    expected = one_way(rows[1], rows[0]) + 0.5 * one_way(*rows)
    torch.testing.assert_close(result.loss, expected)
    gradients = [torch.autograd.grad(x, student)[0] for x in (result.loss, expected)]
    torch.testing.assert_close(*gradients)
