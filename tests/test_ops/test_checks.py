"""Every refusal of bad input, by its message."""

import pytest
import torch

from balkd_seg.ops import balanced_divergence

LOGITS = torch.zeros(2, 3, 4, 5)
TARGET = torch.zeros(2, 4, 5, dtype=torch.long)


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'forward_weight': -1}, '`forward_weight` to be finite and at least 0, but got -1'),
        ({'reverse_weight': float('inf')}, '`reverse_weight` to be finite .* but got inf'),
        ({'forward_weight': 0, 'reverse_weight': 0}, 'but both are 0; remove the loss'),
        ({'forward_temperature': 0}, '`forward_temperature` .* larger than 0, but got 0'),
        ({'reverse_temperature': float('nan')}, '`reverse_temperature` .* but got nan'),
        ({'entropy_weighting': 'row'}, "`entropy_weighting` .* 'none', 'image', 'pixel', but got"),
        ({'delta': 0}, '`delta` to be finite and larger than 0, but got 0'),
        ({'entropy_temperature': -1}, '`entropy_temperature` .* larger than 0, but got -1'),
        (
            {'entropy_weighting': 'pixel', 'softmax_axis': 'positions'},
            "softmax_axis='classes' with entropy_weighting='pixel', but got 'positions'",
        ),
        ({'softmax_axis': 'rows'}, "`softmax_axis` .* 'classes', 'positions', but got 'rows'"),
        ({'resize': 'teacher'}, "`resize` .* 'label', 'none', 'student', but got 'teacher'"),
        ({'impl': 'lean'}, "`impl` .* 'auto', 'fused', 'chunked', 'reference', but got 'lean'"),
    ],
)
def test_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        balanced_divergence(LOGITS, LOGITS, TARGET, **settings)


@pytest.mark.parametrize(
    ('student', 'teacher', 'message'),
    [
        (LOGITS[0], LOGITS[0], r'`student_logits` of shape .* or \(N, C\), but got \(3, 4, 5\)'),
        (LOGITS, LOGITS[0], r'`teacher_logits` of shape .* but got \(3, 4, 5\)'),
        (LOGITS.long(), LOGITS, '`student_logits` of a floating dtype, but got torch.int64'),
        (LOGITS[:1], LOGITS, r'same images, but got shapes \(1, 3, 4, 5\) and \(2, 3, 4, 5\)'),
        (LOGITS, LOGITS[..., 0, 0], 'same images, but got shapes'),
        (LOGITS, LOGITS[:, :2], 'got 3 and 2; networks must share .* need a projection'),
    ],
)
def test_logits(student, teacher, message):
    with pytest.raises(ValueError, match=message):
        balanced_divergence(student, teacher)


@pytest.mark.parametrize(
    ('target', 'resize', 'message'),
    [
        (TARGET.float(), 'label', '`target` of an integer dtype, but got torch.float32'),
        (TARGET[0], 'label', r'shape \(N, H, W\) with N = 2, but got \(4, 5\)'),
        (TARGET[:1], 'label', r'with N = 2, but got \(1, 4, 5\)'),
        (TARGET[:, :3], 'none', r"under resize='none', but got \(3, 5\) for \(4, 5\); use"),
        (TARGET[:, :, :3], 'student', r"under resize='student', but got \(4, 3\) for \(4, 5\)"),
    ],
)
def test_target(target, resize, message):
    with pytest.raises(ValueError, match=message):
        balanced_divergence(LOGITS, LOGITS, target, resize=resize)


def test_target_of_samples():
    with pytest.raises(ValueError, match=r'shape \(N,\) with N = 2, but got \(2, 4, 5\)'):
        balanced_divergence(LOGITS[..., 0, 0], LOGITS[..., 0, 0], TARGET)


def test_sizes_that_cannot_be_reconciled():
    larger = torch.zeros(2, 3, 8, 10)
    message = r"got \(4, 5\) and \(8, 10\); use resize='student' or 'label'"
    with pytest.raises(ValueError, match=message):
        balanced_divergence(LOGITS, larger, TARGET, resize='none')
    with pytest.raises(ValueError, match="to, but got None; pass it, or use resize='student'"):
        balanced_divergence(LOGITS, larger)


def test_positions_of_samples():
    samples = LOGITS[..., 0, 0]
    with pytest.raises(ValueError, match=r"for softmax_axis='positions', but got \(2, 3\); use"):
        balanced_divergence(samples, samples, softmax_axis='positions')


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'cross_entropy_weight': -1.0}, '`cross_entropy_weight` to be finite .* but got -1'),
        ({'class_weight': torch.ones(3)}, '`class_weight` only with a `cross_entropy_weight`'),
        (
            {'cross_entropy_weight': 1.0, 'class_weight': torch.ones(4)},
            r'`class_weight` of shape \(3,\), one for each class, but got \(4,\)',
        ),
        (
            {'cross_entropy_weight': 1.0, 'softmax_axis': 'positions'},
            "with `cross_entropy_weight`, but got 'positions' and 'label'; compute .* apart",
        ),
        ({'cross_entropy_weight': 1.0, 'resize': 'none'}, "but got 'classes' and 'none'"),
    ],
)
def test_cross_entropy(settings, message):
    with pytest.raises(ValueError, match=message):
        balanced_divergence(LOGITS, LOGITS, TARGET, **settings)


def test_cross_entropy_needs_labels():
    with pytest.raises(ValueError, match='but got no target; compute the cross-entropy apart'):
        balanced_divergence(LOGITS, LOGITS, cross_entropy_weight=1.0)
