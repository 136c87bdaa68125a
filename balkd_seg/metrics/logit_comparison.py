"""How a student's logits stand beside a teacher's on the same pixels; torch only.

N images, C classes, h, w size of the student's logits, H, W of the label, n valid pixels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def compare_logits(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor, *, ignore_index: int = 255
) -> dict[str, Tensor]:
    """Return means over the valid pixels of a batch, at the size of the student's logits.

    With p the teacher's and q the student's softmax at temperature 1: `forward` KL(p‖q), `reverse`
    KL(q‖p), `student_entropy`, `teacher_entropy` (nats); `agreement`, the share of pixels where
    both have the same first class; `teacher_wrong` and `student_wrong`, where it is not the label.

    Small and cheap rather than exact: teacher logits of another size are resized bilinearly, labels
    by nearest neighbour. What the losses report is measured where they compare. 0 without valid
    pixels.

    Args:
        student_logits: (N, C, h, w), any floating dtype; computed in float32.
        teacher_logits: (N, C, h', w').
        target: Labels or `ignore_index`, (N, H, W).
        ignore_index: Label of pixels that do not count.

    Examples:
        >>> logits = torch.tensor([[[[1.0]], [[1.0]]]])
        >>> found = compare_logits(logits, logits, torch.tensor([[[1]]]))
        >>> round(float(found['student_entropy']), 4), float(found['forward'])
        (0.6931, 0.0)
    """
    size = student_logits.shape[2:]
    student, teacher = student_logits.float(), teacher_logits.float()
    if teacher.shape[2:] != size:
        teacher = F.interpolate(teacher, size=size, mode='bilinear', align_corners=False)
    label = F.interpolate(target[:, None].float(), size=size, mode='nearest')[:, 0].long()
    valid = label != ignore_index
    num_valid = valid.sum().clamp(min=1)

    def mean(values: Tensor) -> Tensor:
        return torch.where(valid, values, 0).sum() / num_valid

    def expected(probability: Tensor, values: Tensor) -> Tensor:
        # a class ruled out (-inf) adds nothing
        return torch.where(probability > 0, probability * values, 0).sum(1)

    log_p, log_q = teacher.log_softmax(1), student.log_softmax(1)
    p, q = log_p.exp(), log_q.exp()
    taught, learnt = teacher.argmax(1), student.argmax(1)
    return {
        'forward': mean(expected(p, log_p - log_q)),
        'reverse': mean(expected(q, log_q - log_p)),
        'student_entropy': mean(-expected(q, log_q)),
        'teacher_entropy': mean(-expected(p, log_p)),
        'agreement': mean((taught == learnt).float()),
        'teacher_wrong': mean((taught != label).float()),
        'student_wrong': mean((learnt != label).float()),
    }
