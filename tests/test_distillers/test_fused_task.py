"""`fuse_task_loss=True` gives the numbers and gradients of the separate path, or says why not."""

import copy
import re

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

TERM = dict(type='BalancedDivergenceLoss', reverse_weight=0.5, reverse_temperature=2.0)


def losses_and_gradients(distiller, batch, factor=1.0):
    torch.manual_seed(0)  # dropout
    losses = distiller.loss(*batch)
    total = sum(value.sum() for name, value in losses.items() if 'loss' in name)
    distiller.zero_grad()
    (factor * total).backward()
    gradients = {name: p.grad.clone() for name, p in distiller.named_parameters()}
    return losses, gradients


def both_paths(make_distiller, batch, factor=1.0, **kwargs):
    """Return log and gradients without and with fusion, from equal weights."""
    separate, fused = (make_distiller(fuse_task_loss=on, **kwargs) for on in (False, True))
    for distiller in (separate, fused):
        distiller.build_teacher()
    fused.load_state_dict(separate.state_dict())
    fused.distill_terms.load_beside_state_dict(separate.distill_terms.beside_state_dict())
    return losses_and_gradients(separate, batch, factor), losses_and_gradients(fused, batch, factor)


def assert_same(separate, fused):
    assert list(fused[0]) == list(separate[0])
    for name, value in separate[0].items():
        actual, expected = (x.detach().view(-1) for x in (fused[0][name], value))
        torch.testing.assert_close(actual, expected, rtol=2e-5, atol=1e-6, msg=name)
    assert fused[1].keys() == separate[1].keys()
    largest = max(gradient.abs().max() for gradient in separate[1].values())
    for name, gradient in separate[1].items():
        torch.testing.assert_close(fused[1][name], gradient, rtol=1e-3, atol=1e-5 * largest.item())


def changed_head(make_segmentor, **changes):
    student = make_segmentor()
    student['decode_head'].update(changes)
    return student


CRITERIA = {
    'default': {},
    'valid pixels': {'avg_non_ignore': True},
    'half weight': {'loss_weight': 0.5},
}


@pytest.mark.parametrize('criterion', CRITERIA)
@pytest.mark.parametrize('loss_weight', [1.0, 3.0])
def test_same_numbers_and_gradients(
    make_distiller, make_segmentor, make_batch, criterion, loss_weight
):
    settings = dict(type='CrossEntropyLoss', **CRITERIA[criterion])
    student = changed_head(make_segmentor, loss_decode=settings)
    distill = [dict(TERM, loss_weight=loss_weight)]
    pairs = both_paths(make_distiller, make_batch(), student=student, distill=distill)
    assert_same(*pairs)


@pytest.mark.parametrize('avg_non_ignore', [False, True])
def test_class_weights(make_distiller, make_segmentor, make_batch, avg_non_ignore):
    settings = dict(type='CrossEntropyLoss', class_weight=[1.0, 2.0, 0.5, 3.0, 0.1])
    student = changed_head(
        make_segmentor, loss_decode=dict(settings, avg_non_ignore=avg_non_ignore)
    )
    assert_same(*both_paths(make_distiller, make_batch(), student=student, distill=[TERM]))


def test_beside_other_terms(make_distiller, make_batch):
    """The term need not be the first; CWD goes its own way."""
    distill = [dict(type='ChannelwiseKLLoss'), dict(TERM), dict(type='PixelwiseKLLoss')]
    assert_same(*both_paths(make_distiller, make_batch(), distill=distill))


def test_cascade(make_distiller, make_cascade, make_batch):
    assert_same(*both_paths(make_distiller, make_batch(), student=make_cascade(), distill=[TERM]))


def test_under_a_loss_scale(make_distiller, make_batch):
    assert_same(*both_paths(make_distiller, make_batch(), factor=4096.0, distill=[TERM]))


class Largest(TorchDispatchMode):
    """The most elements of a floating tensor that an operation makes."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor.is_floating_point():
                self.seen.add(tuple(tensor.shape))
        return out


@pytest.mark.parametrize('fuse', [False, True])
def test_full_resolution_logits_never_exist(make_distiller, make_segmentor, make_batch, fuse):
    student = make_segmentor(auxiliary=False)
    distiller = make_distiller(student=student, distill=[TERM], fuse_task_loss=fuse)
    distiller.build_teacher()
    with Largest() as largest:
        losses = distiller.loss(*make_batch())
        sum(value.sum() for name, value in losses.items() if 'loss' in name).backward()
    assert ((2, 5, 32, 48) in largest.seen) == (not fuse)


def test_the_head_is_as_before(make_distiller, make_batch, monkeypatch):
    distiller = make_distiller(distill=[TERM], fuse_task_loss=True)
    distiller.loss(*make_batch())
    assert 'loss_by_feat' not in vars(distiller.decode_head)

    def fail(*args, **settings):
        raise RuntimeError('out of memory')

    monkeypatch.setattr('balkd_seg.losses.balanced_divergence.balanced_divergence', fail)
    with pytest.raises(RuntimeError, match='out of memory'):
        distiller.loss(*make_batch())
    assert 'loss_by_feat' not in vars(distiller.decode_head)


REASONS = [
    (
        {'sampler': dict(type='OHEMPixelSampler', min_kept=10)},
        TERM,
        'the head samples pixels with OHEMPixelSampler',
    ),
    (
        {'loss_decode': dict(type='DiceLoss')},
        TERM,
        'the loss of the head is DiceLoss, not CrossEntropyLoss alone',
    ),
    (
        {
            'loss_decode': [
                dict(type='CrossEntropyLoss'),
                dict(type='DiceLoss', loss_name='loss_dice'),
            ]
        },
        TERM,
        'the loss of the head is CrossEntropyLoss, DiceLoss, not',
    ),
    (
        {'loss_decode': dict(type='CrossEntropyLoss', reduction='sum')},
        TERM,
        'is not the mean of a softmax cross-entropy',
    ),
    ({}, dict(type='ChannelwiseKLLoss'), "no entry of `distill` .* resize='label'"),
    ({}, dict(TERM, resize='student'), "no entry of `distill` .* resize='label'"),
]


@pytest.mark.parametrize(('head', 'term', 'reason'), REASONS)
def test_the_log_says_why_it_is_not_fused(
    make_distiller, make_segmentor, make_batch, head, term, reason, monkeypatch
):
    messages = []
    monkeypatch.setattr(
        'balkd_seg.distillers.fused_task.print_log', lambda text, **_: messages.append(text)
    )
    student = changed_head(make_segmentor, **copy.deepcopy(head))
    distiller = make_distiller(student=student, distill=[dict(term)], fuse_task_loss=True)
    assert distiller.fused_term is None
    (message,) = messages
    assert re.search(reason, message), message
    assert message.startswith('fuse_task_loss=True has no effect: ')
    losses = distiller.loss(*make_batch())
    assert any(name.startswith('distill.loss_') for name in losses)


def test_a_head_of_its_own_kind(make_distiller, monkeypatch):
    from mmseg.models.decode_heads import PSPHead

    monkeypatch.setattr(PSPHead, 'loss_by_feat', lambda self, logits, samples: {}, raising=False)
    assert make_distiller(distill=[TERM], fuse_task_loss=True).fused_term is None


def test_mixed_precision(make_distiller, make_batch):
    """The separate path rounds upsampled logits to bfloat16; the joint one does not."""
    with torch.autocast('cpu', torch.bfloat16):
        separate, fused = both_paths(make_distiller, make_batch(), distill=[TERM])
    for name, value in separate[0].items():
        torch.testing.assert_close(
            fused[0][name].detach().view(-1).float(), value.detach().view(-1).float(), rtol=0.03,
            atol=0.02, msg=name,
        )  # fmt: skip
    assert all(gradient.isfinite().all() for gradient in fused[1].values())
