"""mmseg's class-weighted cross-entropy, on ignored pixels too, against PyTorch's own."""

import inspect
from importlib import metadata

import pytest
import torch
import torch.nn.functional as F
from mmseg.models import losses
from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS

from balkd_seg.compat.cross_entropy import mend_class_weights

STOCK = any(x.name == 'mmsegmentation' for x in metadata.distributions())
WEIGHTS = [0.5, 1.0, 2.0, 3.0]


def problem(ignore_index, share):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, 5, 6, generator=generator, dtype=torch.float64)
    label = torch.randint(4, (2, 5, 6), generator=generator)
    label[torch.rand(label.shape, generator=generator) < share] = ignore_index
    return logits.requires_grad_(), label


@pytest.mark.parametrize('kind', ['CrossEntropyLoss', CrossEntropyLoss])
@pytest.mark.parametrize(
    ('ignore_index', 'avg_non_ignore'),
    # an ignored label that is a class counts in mmseg, unless avg_non_ignore
    [(255, False), (255, True), (-1, False), (-1, True), (3, True)],
)
@pytest.mark.parametrize('share', [0.0, 0.4])
def test_value_and_gradient_are_pytorchs(kind, ignore_index, share, avg_non_ignore):
    logits, label = problem(ignore_index, share)
    loss = MODELS.build(dict(type=kind, class_weight=WEIGHTS, avg_non_ignore=avg_non_ignore))
    value = loss(logits, label, ignore_index=ignore_index)
    weight = torch.tensor(WEIGHTS, dtype=torch.float64)
    expected = F.cross_entropy(logits, label, weight, ignore_index=ignore_index)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)  # mmseg adds an epsilon
    (gradient,) = torch.autograd.grad(value, logits)
    torch.testing.assert_close(
        gradient, torch.autograd.grad(expected, logits)[0], rtol=1e-6, atol=0
    )


@pytest.mark.skipif(not STOCK, reason='a fork of mmseg divides by something else')
@pytest.mark.parametrize('avg_non_ignore', [False, True])
@pytest.mark.parametrize(('ignore_index', 'share'), [(3, 0.4), (255, 0.0)])
def test_where_mmseg_has_an_answer_it_stays(ignore_index, share, avg_non_ignore):
    logits, label = problem(ignore_index, share)
    weight = torch.tensor(WEIGHTS, dtype=torch.float64)
    settings = dict(class_weight=weight, ignore_index=ignore_index, avg_non_ignore=avg_non_ignore)
    mended = losses.cross_entropy_loss.cross_entropy
    stock = inspect.unwrap(mended)
    assert stock is not mended
    torch.testing.assert_close(mended(logits, label, **settings), stock(logits, label, **settings))


@pytest.mark.parametrize('reduction', ['none', 'sum'])
def test_other_reductions_stay(reduction):
    logits, label = problem(255, 0.4)
    loss = CrossEntropyLoss(class_weight=WEIGHTS, reduction=reduction)
    weight = torch.tensor(WEIGHTS, dtype=torch.float64)
    torch.testing.assert_close(
        loss(logits, label, ignore_index=255),
        F.cross_entropy(logits, label, weight, ignore_index=255, reduction=reduction),
    )


def test_all_ignored_is_zero_with_a_gradient():
    logits, label = problem(255, 2.0)
    value = CrossEntropyLoss(class_weight=WEIGHTS)(logits, label, ignore_index=255)
    value.backward()
    assert value == 0
    assert not logits.grad.any()


def test_it_is_mended_once():
    mended = losses.cross_entropy_loss.cross_entropy
    mend_class_weights()
    assert losses.cross_entropy_loss.cross_entropy is mended
