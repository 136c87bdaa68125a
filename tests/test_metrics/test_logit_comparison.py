import math

import pytest
import torch
import torch.nn.functional as F

from balkd_seg.metrics.logit_comparison import compare_logits


def test_hand_values():
    # one pixel, two classes: p = (3/4, 1/4), q = (1/4, 3/4), the label is the first class
    teacher = torch.tensor([3.0, 1.0]).log().view(1, 2, 1, 1)
    student = torch.tensor([1.0, 3.0]).log().view(1, 2, 1, 1)
    found = compare_logits(student, teacher, torch.zeros(1, 1, 1, dtype=torch.long))
    divergence = 0.5 * math.log(3)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    expected = dict(
        forward=divergence, reverse=divergence, student_entropy=entropy, teacher_entropy=entropy,
        agreement=0.0, teacher_wrong=0.0, student_wrong=1.0,
    )  # fmt: skip
    assert {key: float(value) for key, value in found.items()} == pytest.approx(expected, rel=1e-5)


def test_against_pytorch_on_valid_pixels_alone():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 2, 5, 4, 6)
    target = torch.randint(5, (2, 4, 6))
    target[0, :2] = 255
    found = compare_logits(student, teacher, target)
    q, p = (x.movedim(1, -1)[target != 255].double().log_softmax(1) for x in (student, teacher))
    kl = F.kl_div(q, p, reduction='batchmean', log_target=True)
    assert float(found['forward']) == pytest.approx(float(kl), rel=1e-5)
    kl = F.kl_div(p, q, reduction='batchmean', log_target=True)
    assert float(found['reverse']) == pytest.approx(float(kl), rel=1e-5)
    same = (q.argmax(1) == p.argmax(1)).double().mean()
    assert float(found['agreement']) == pytest.approx(float(same))
    wrong = (p.argmax(1) != target[target != 255]).double().mean()
    assert float(found['teacher_wrong']) == pytest.approx(float(wrong))


def test_sizes_may_differ_and_classes_be_ruled_out():
    student = torch.zeros(1, 3, 2, 2)
    teacher = torch.zeros(1, 3, 4, 4)
    student[:, 2] = teacher[:, 2] = -math.inf
    found = compare_logits(student.half(), teacher, torch.zeros(1, 8, 8, dtype=torch.long))
    assert float(found['teacher_entropy']) == pytest.approx(math.log(2))
    assert float(found['forward']) == float(found['reverse']) == 0


def test_nothing_valid_is_zero():
    found = compare_logits(
        torch.randn(1, 3, 2, 2), torch.randn(1, 3, 2, 2), torch.full((1, 4, 4), 255)
    )
    assert set(map(float, found.values())) == {0.0}
