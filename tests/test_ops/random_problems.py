"""Problems for `test_search.py`, each from its number alone, and the arithmetic of resizing."""

import random
from fractions import Fraction
from typing import NamedTuple

import torch

KINDS = (torch.float32, torch.float32, torch.bfloat16, torch.float16)
LABELS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
TAUS = (1.0, 1.0, 2.0, 4, 0.5, 3.0)


class Drawn(NamedTuple):
    """A problem: logits (N, C, h, w) in their dtypes, labels (N, H, W), and settings."""

    student: torch.Tensor
    teacher: torch.Tensor
    target: torch.Tensor | None
    settings: dict
    samples: bool  # whether it is handed over as rows (N, C) and (N,)


def draw(number, impl):
    """Return a problem that `impl` covers."""
    rng, generator = random.Random(number), torch.Generator().manual_seed(number)
    fused, samples = impl == 'fused', rng.random() < 0.1
    settings = _settings(rng, fused, samples)
    classes = rng.choice((2, 3, 3, 5, 21) if fused else (2, 3, 5, 19))
    # an interpreted program takes as long for one pixel as for hundreds
    num = 1 if samples else rng.randint(1, 3 - fused)
    sizes, size = _sizes(rng, fused, samples, settings['resize'])
    pair = _logits(rng, generator, (num, classes), sizes, fused)
    target = _labels(rng, generator, (num, *size), classes, settings['ignore_index'])
    if (settings['softmax_axis'], settings['resize']) == ('classes', 'label'):
        settings |= _task(rng, generator, classes)
    if 'cross_entropy_weight' not in settings and rng.random() < 0.1:
        target = target if settings['resize'] == 'label' and sizes[0] != sizes[1] else None
    drawn = Drawn(*pair, target, settings, samples)
    _break_what_does_not_count(drawn, rng, generator)
    return drawn


def _settings(rng, fused, samples):
    positions = rng.random() < 0.25 and not fused and not samples
    weights = rng.choice(((1.0, 1.0), (1, 0), (0.0, 1.0), (rng.uniform(0, 3), rng.uniform(0.1, 3))))
    settings = dict(
        forward_weight=weights[0],
        reverse_weight=weights[1],
        entropy_weighting=rng.choice(('none', 'none', 'image', 'image' if positions else 'pixel')),
        delta=rng.choice((2.0, 0.3, 5)),
        softmax_axis='positions' if positions else 'classes',
        ignore_index=rng.choice((255, 255, 0, -1, 100, -100)),
        resize=rng.choice(('label', 'label', 'student', 'none')),
        align_corners=rng.random() < 0.4,
        teacher_gradient=rng.random() < 0.4,
    )
    for name in ('forward', 'reverse', 'entropy'):
        settings[f'{name}_temperature'] = rng.choice((*TAUS, rng.uniform(0.5, 4)))
    return settings


def _sizes(rng, fused, samples, resize):
    """Return the sizes of both logits, and of the labels."""
    size = rng.randint(1, 6 - 2 * fused), rng.randint(1, 7)
    if samples:
        size = (size[0] * size[1], 1)
        return [size, size], size

    def low():
        most = [rng.choice((n, max(1, n // 2))) for n in (x + 3 * (not fused) for x in size)]
        return size if rng.random() < 0.3 else tuple(rng.randint(1, n) for n in most)

    student, teacher = low(), low()
    if rng.random() < 0.4 or resize == 'none':
        teacher = student
    if resize != 'label':
        if fused:  # which only enlarges
            teacher = tuple(min(a, b) for a, b in zip(student, teacher, strict=True))
        size = tuple(n * rng.randint(1, 2) + rng.randint(0, 1) for n in student)
    return [student, teacher], size


def _logits(rng, generator, shape, sizes, fused):
    kinds = KINDS if fused else (*KINDS, *[torch.float64] * 5)
    dtypes = [rng.choice(kinds), rng.choice(kinds)]
    if rng.random() < 0.7:
        dtypes[1] = dtypes[0]
    scale, whole = rng.choice((0.3, 1.0, 3.0, 30.0)), rng.random() < 0.3
    pair = [scale * torch.randn(*shape, *n, generator=generator).double() for n in sizes]
    pair = [(z.round() if whole else z).to(d) for z, d in zip(pair, dtypes, strict=True)]
    if rng.random() < 0.1 and sizes[0] == sizes[1]:
        pair[1] = pair[0].to(dtypes[1], copy=True)
    _exclude(pair, rng, generator)
    return pair


def _labels(rng, generator, shape, classes, ignore_index):
    target, dtype = torch.randint(0, classes, shape, generator=generator), rng.choice(LABELS)
    hidden = torch.rand(shape, generator=generator) < rng.choice((0, 0.3, 0.3, 0.9, 2))
    if torch.iinfo(dtype).min <= ignore_index <= torch.iinfo(dtype).max:
        target[hidden] = ignore_index
    if rng.random() < 0.15:
        target[0, 0, 0] = rng.choice((classes, -1, 120, 2**33))
    return target.to(dtype)


def _task(rng, generator, classes):
    """Return the settings of a cross-entropy, if there is one."""
    if rng.random() < 0.4:
        return {}
    task = dict(cross_entropy_weight=rng.choice((1.0, 0.3)), avg_non_ignore=rng.random() < 0.5)
    if rng.random() < 0.5:
        weight = torch.rand(classes, generator=generator)
        weight = weight.masked_fill(torch.rand(classes, generator=generator) < 0.2, 0)
        others = weight[:1].expand(classes), weight.repeat_interleave(2)[::2]
        task['class_weight'] = rng.choice((weight, *others))
    return task


def _exclude(pair, rng, generator):
    """Put -inf at some logits, of one class less than there are."""
    how, classes = rng.choice(('none', 'none', 'class', 'entries')), pair[0].shape[1]
    left = rng.randrange(classes)
    for z in pair[: rng.choice((1, 2))] if rng.random() < 0.5 else pair[1:]:
        at = torch.zeros(z.shape, dtype=torch.bool)
        if how == 'class':
            at[:, (left + 1) % classes] = True
        elif how == 'entries':
            at = torch.rand(z.shape, generator=generator) < rng.choice((0.02, 0.2))
        at[:, left] = False
        z.masked_fill_(at, -torch.inf)
    if how == 'class' and rng.random() < 0.5:
        for z in pair:
            z[:, (left + 1) % classes] = -torch.inf


def _break_what_does_not_count(drawn, rng, generator):
    """Put NaN and inf at logits that have no share in a pixel that counts."""
    keep = counted(drawn)
    for z in (drawn.student, drawn.teacher):
        free = ~shares(z, keep.shape[1:], drawn.settings['align_corners'], of=keep[:, None])
        free = free & (torch.rand(z.shape, generator=generator) < rng.choice((0, 0.5, 1)))
        z.masked_fill_(free, rng.choice((torch.nan, torch.inf, 1e4)))


def matrix(num_in, num_out, align):
    """Return the weights of bilinear resizing along one axis, (num_out, num_in)."""
    weights = torch.zeros(num_out, num_in, dtype=torch.float64)
    for o in range(num_out):
        at = Fraction((2 * o + 1) * num_in, 2 * num_out) - Fraction(1, 2)
        if align:
            at = Fraction(o * (num_in - 1), max(num_out - 1, 1))
        at = min(max(at, 0), num_in - 1)
        low = at.__floor__()
        weights[o, low] += float(1 - (at - low))
        if at > low:
            weights[o, low + 1] += float(at - low)
    return weights


def resized(z, size, align):
    rows, columns = (matrix(n, m, align) for n, m in zip(z.shape[2:], size, strict=True))
    return rows @ z @ columns.mT


def shares(z, size, align, of=None):
    """Return which outputs a marked logit has a share in, or which logits those `of` have."""
    pairs = zip(z.shape[2:], size, strict=True)
    rows, columns = ((matrix(n, m, align) > 0).double() for n, m in pairs)
    if of is None:
        return rows @ z.double() @ columns.mT > 0
    return (rows.mT @ of.double() @ columns > 0).expand_as(z)


def counted(drawn):
    """Return which pixels count, at the size of comparison."""
    resize, target = drawn.settings['resize'], drawn.target
    size = drawn.student.shape[2:]
    if target is None:
        return torch.ones(len(drawn.student), *size, dtype=torch.bool)
    keep = target.long() != drawn.settings['ignore_index']
    if resize != 'label':
        for dim, length in enumerate(size, 1):
            keep = keep.index_select(dim, torch.arange(length) * keep.shape[dim] // length)
    return keep
