"""Random problems against float64: what nobody thought of, each implementation.

`BALKD_SEARCH=FIRST:SECONDS` searches from the problem of number FIRST on for so many seconds an
implementation, in place of the few problems of every day.
"""

import importlib.util
import os
import random
import time
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from balkd_seg.ops import balanced_divergence

SPEC = importlib.util.spec_from_file_location(
    'random_problems', Path(__file__).with_name('random_problems.py')
)
PROBLEMS = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(PROBLEMS)

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'
# problems of every day, and seconds after which a slow machine stops
DAILY = {'reference': (150, 20), 'chunked': (400, 40), 'fused': (24, 60)}
LAYOUTS = (
    lambda z: z,
    lambda z: z.contiguous(memory_format=torch.channels_last),
    lambda z: z.mT.contiguous().mT,
    lambda z: torch.nn.functional.pad(z, (1, 2, 3, 1))[:, :, 3:-1, 1:-2],
    lambda z: z.repeat_interleave(2, 1)[:, ::2],
)


class Units(NamedTuple):
    """Softmax units in rows: (U, K) logits, what is excluded from them, and which count, (U,)."""

    student: torch.Tensor
    teacher: torch.Tensor
    without: tuple[torch.Tensor, torch.Tensor]
    keep: torch.Tensor
    image: torch.Tensor


def units_of(drawn, pair):
    """Return the units of float64 logits, which may carry gradients."""
    keep, align = PROBLEMS.counted(drawn), drawn.settings['align_corners']
    rows, without, num, classes = [], [], *pair[0].shape[:2]
    for z in pair:
        finite = z.detach().isfinite()
        gone = PROBLEMS.shares(z.detach() == -torch.inf, keep.shape[1:], align)
        full = PROBLEMS.resized(torch.where(finite, z, 0), keep.shape[1:], align)
        if drawn.settings['softmax_axis'] == 'positions':
            gone = gone | ~keep[:, None]
            rows.append(full.flatten(2).flatten(0, 1))
            without.append(gone.flatten(2).flatten(0, 1))
        else:
            rows.append(full.permute(0, 2, 3, 1).reshape(-1, classes))
            without.append(gone.permute(0, 2, 3, 1).reshape(-1, classes) & keep.reshape(-1, 1))
    of_image = torch.arange(num)
    if drawn.settings['softmax_axis'] == 'positions':
        counts = keep.flatten(1).any(1).repeat_interleave(classes)
        return Units(*rows, tuple(without), counts, of_image.repeat_interleave(classes))
    area = keep[0].numel()
    return Units(*rows, tuple(without), keep.flatten(), of_image.repeat_interleave(area))


def truth(drawn, units):
    """Return what each result has to be, the differentiable loss, and how sure comparisons are."""
    setting, keep = drawn.settings, units.keep
    count = keep.sum().clamp(min=1)
    s, t = units.student, units.teacher

    def log_softmax(z, without, tau):
        z = (z / tau).masked_fill(without, -torch.inf).log_softmax(1)
        return z.masked_fill(without, 0), z.exp()

    def kl(a, b, tau):
        (log_p, p), (log_q, _) = (log_softmax(*x, tau) for x in (a, b))
        value = tau**2 * torch.where(a[1], 0, p * (log_p - log_q)).sum(1)
        return torch.where((b[1] & ~a[1]).any(1), torch.inf, value)

    def entropy(z, without):
        log_p, p = log_softmax(z.detach(), without, setting['entropy_temperature'])
        return -(p * log_p).sum(1)

    of_s, of_t = zip((s, t), units.without, strict=True)
    forward = kl(of_t, of_s, setting['forward_temperature'])
    reverse = kl(of_s, of_t, setting['reverse_temperature'])
    of_image = drawn.settings['entropy_weighting'] == 'image' and not drawn.samples
    heat = torch.stack([entropy(*of_s), entropy(*of_t)])
    deciding = heat
    if of_image:
        images = torch.zeros(2, len(drawn.student), dtype=torch.float64)
        images.index_add_(1, units.image, torch.where(keep, heat, 0))
        deciding = images[:, units.image]
    decided_by = (deciding[0] - deciding[1])[keep].abs()
    factors = [torch.where(x > 0, setting['delta'], torch.ones_like(x)) for x in
               (deciding[1] - deciding[0], deciding[0] - deciding[1])]  # fmt: skip
    if setting['entropy_weighting'] == 'none':
        factors = [torch.ones_like(forward)] * 2
    used = [(w, f, x) for w, f, x in zip((setting['forward_weight'], setting['reverse_weight']),
            factors, (forward, reverse), strict=True) if w > 0]  # fmt: skip
    divergence = sum(w * f * x for w, f, x in used)
    losses, results = [torch.where(keep, divergence, 0) / count], {}

    def mean(x):
        return torch.where(keep, x.detach(), 0).sum() / count

    results.update(forward=mean(forward), reverse=mean(reverse))
    results['divergence'] = losses[0].detach().sum()
    results.update(student_entropy=mean(heat[0]), teacher_entropy=mean(heat[1]))
    if setting.get('cross_entropy_weight'):
        label = drawn.target.flatten().long()
        classes = s.shape[1]
        known = (label >= 0) & (label < classes)
        label = label.clamp(0, classes - 1)
        weight = setting.get('class_weight', torch.ones(classes)).double()[label]
        log_q, _ = log_softmax(*of_s, 1)
        value = -weight * log_q.gather(1, label[:, None])[:, 0]
        excluded = units.without[0].gather(1, label[:, None])[:, 0]
        value = torch.where(excluded & (weight > 0), torch.inf, value)
        value = torch.where(keep, torch.where(known, value, torch.nan), 0)
        number = keep.sum() if setting['avg_non_ignore'] else keep.numel()
        if 'class_weight' in setting:
            ignored_too = not setting['avg_non_ignore'] and 0 <= setting['ignore_index'] < classes
            number = torch.where((keep | ignored_too) & known, weight, 0).sum()
        value = value / (number if number > 0 else 1)
        results['cross_entropy'] = value.detach().sum()
        losses.append(setting['cross_entropy_weight'] * value)
    results['loss'] = sum(x.detach().sum() for x in losses)
    trains = sum(torch.where(x.isfinite(), x, 0).sum() for x in losses)
    return results, trains, decided_by


def peaks(drawn, units, slack):
    """Return the least and the most units in which peaks agree and labels are right."""
    pairs = zip((units.student, units.teacher), units.without, strict=True)
    s, t = (z.detach().masked_fill(x, -torch.inf) for z, x in pairs)
    highest, near = [], []
    for z in (s, t):
        gap = z.amax(1, keepdim=True) - z
        near.append(gap <= slack)
        alone = near[-1].sum(1, keepdim=True) == 1
        highest.append((gap == 0) & (alone | (slack == 0)))
    bounds = {'agreement': [(x[0] & x[1]).any(1) for x in (highest, near)]}
    if drawn.settings.get('cross_entropy_weight'):
        label = drawn.target.flatten().long()
        known = (label >= 0) & (label < s.shape[1])
        label = label.clamp(0, s.shape[1] - 1)[:, None]
        bounds['accuracy'] = [x[0].gather(1, label)[:, 0] & known for x in (highest, near)]
    return {name: [(x & units.keep).sum().item() for x in pair] for name, pair in bounds.items()}


def run(drawn, impl):
    """Return the results of an implementation and the gradients of the loss."""
    student, teacher, target = drawn[:3]
    if drawn.samples:
        student, teacher = (z[0, :, :, 0].T for z in (student, teacher))
        target = None if target is None else target[0, :, 0]
    rng = random.Random(repr(drawn.settings))
    if not drawn.samples:
        student, teacher = rng.choice(LAYOUTS)(student), rng.choice(LAYOUTS)(teacher)
        target = None if target is None else rng.choice(LAYOUTS)(target[:, None])[:, 0]
    pair = [z.detach().to(DEVICE).requires_grad_() for z in (student, teacher)]
    settings = {k: v.to(DEVICE) if isinstance(v, torch.Tensor) else v
                for k, v in drawn.settings.items()}  # fmt: skip
    target = None if target is None else target.to(DEVICE)
    result = balanced_divergence(*pair, target, impl=impl, **settings)
    leaves = pair[: 1 + settings['teacher_gradient']]
    gradients = torch.autograd.grad(result.loss, leaves)
    if drawn.samples:
        gradients = [g.T[None, :, :, None] for g in gradients]
    return result, [g.double().cpu() for g in gradients]


def mistakes(number, impl):
    """Return what is wrong with an implementation's answer to a problem, as lines of text."""
    drawn = PROBLEMS.draw(number, impl)
    exact = [z.double().requires_grad_() for z in drawn[:2]]
    units = units_of(drawn, exact)
    if any(x.all(1)[units.keep].any() for x in units.without):
        return []  # nothing left to choose from
    dtype = torch.promote_types(drawn.student.dtype, torch.float32)
    eps = torch.finfo(dtype).eps
    seen = torch.stack([units.student.detach(), units.teacher.detach()])[:, units.keep]
    seen = seen.masked_fill(torch.stack(units.without)[:, units.keep], 0)
    highest = 1 + (seen.abs().max().item() if seen.numel() else 0)
    setting = drawn.settings
    results, trains, decided_by = truth(drawn, units)
    if (decided_by < 200 * eps * highest).any():
        drawn = drawn._replace(settings=dict(setting, delta=1.0))
        setting = drawn.settings
        results, trains, _ = truth(drawn, units)
    expected = torch.autograd.grad(trains, exact[: 1 + setting['teacher_gradient']])
    result, gradients = run(drawn, impl)
    taus = setting['forward_temperature'], setting['reverse_temperature']
    unit = 4 * highest * max(1, setting['delta']) * (
        setting['forward_weight'] * taus[0] + setting['reverse_weight'] * max(taus)
        + 2 * setting.get('cross_entropy_weight', 0) + 0.1
    )  # fmt: skip
    loose = 16 * eps * highest / min(1, *taus, setting['entropy_temperature'])
    wrong = []
    for name, value in results.items():
        actual = getattr(result, name)
        if actual is None:
            continue
        gap = (actual.double().cpu() - value).abs()
        same = torch.equal(actual.double().cpu(), value) or (actual.isnan() and value.isnan())
        if not (same or gap <= loose * (unit + value.abs())):
            wrong.append(f'{name} is {actual.item()}, not {value.item()}')
    as_they_are = all(z.shape[2:] == PROBLEMS.counted(drawn).shape[1:] for z in drawn[:2])
    count = max(1, units.keep.sum().item())
    slack = 0 if as_they_are else 32 * eps * highest
    for name, (least, most) in peaks(drawn, units, slack).items():
        if not least - 0.01 <= getattr(result, name).item() * count <= most + 0.01:
            wrong.append(f'{name} is {getattr(result, name) * count} of {least} to {most}')
    for z, actual, value in zip(drawn[:2], gradients, expected, strict=False):
        most = value.abs().max() if value.numel() else 0
        rounding = torch.finfo(z.dtype).eps * value.abs() + 1e-7 * (z.dtype == torch.float16)
        allowed = loose * max(most, unit / count) + rounding
        if not ((actual - value).abs() <= allowed).all():
            wrong.append(f'a gradient is off by {(actual - value).abs().max()} of {most}')
    return wrong


# numpy's, under the interpreter, of NaN that does not count
@pytest.mark.filterwarnings('ignore::RuntimeWarning')
@pytest.mark.parametrize('impl', DAILY)
def test_random_problems(impl):
    number, (problems, seconds) = 0, DAILY[impl]
    if impl == 'fused':
        pytest.importorskip('triton')
    if 'BALKD_SEARCH' in os.environ:
        number, seconds = (int(x) for x in os.environ['BALKD_SEARCH'].split(':'))
        problems = 10**9
    found, last, start = {}, number + problems, time.monotonic()
    while number < last and time.monotonic() < start + seconds:
        lines = mistakes(number, impl)
        if lines:
            found[number] = lines
        number += 1
    assert not found, f'{found}; look at one with draw(number, {impl!r})'
    assert number > last - problems  # however slow the machine
