"""The ways to compute the loss that the GPU benchmark compares, all with one signature.

`function(student, teacher, target, taus)` returns forward plus reverse divergence, the mean over
valid pixels; from low resolution with the cross-entropy (mean over valid pixels) added.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from balkd_seg.ops import balanced_divergence

Provider = Callable[[Tensor, Tensor, Tensor, tuple[float, float]], Tensor]


def mean(loss: Tensor, target: Tensor) -> Tensor:
    """Average over valid pixels."""
    valid = target != 255
    return torch.where(valid, loss, 0).sum() / valid.sum().clamp(min=1)


def tempered(logits: Tensor, tau: float) -> Tensor:
    """Divide by a temperature; at 1 nobody would pay for it."""
    return logits if tau == 1 else logits / tau


def scaled(loss: Tensor, tau: float) -> Tensor:
    """Multiply by the square of a temperature."""
    return loss if tau == 1 else tau**2 * loss


def naive(student: Tensor, teacher: Tensor, target: Tensor, taus: tuple[float, float]) -> Tensor:
    """Spell both divergences as they usually are, in the dtype that comes in."""

    def kl(a: Tensor, b: Tensor, tau: float) -> Tensor:
        log_a, log_b = (F.log_softmax(tempered(z, tau), 1) for z in (a, b))
        return scaled(F.kl_div(log_b, log_a, reduction='none', log_target=True).sum(1), tau)

    return mean(kl(teacher, student, taus[0]) + kl(student, teacher, taus[1]), target)


def lean(student: Tensor, teacher: Tensor, target: Tensor, taus: tuple[float, float]) -> Tensor:
    """Take each softmax once, as one who counts memory would."""
    parts, logs = [], {}
    for tau, forward in zip(taus, (True, False), strict=True):
        if tau not in logs:
            logs[tau] = [F.log_softmax(tempered(z, tau), 1) for z in (student, teacher)]
        s, t = logs[tau]
        part = (t.exp() * (t - s)).sum(1) if forward else (s.exp() * (s - t)).sum(1)
        parts.append(scaled(part, tau))
    return mean(parts[0] + parts[1], target)


def ours(student: Tensor, teacher: Tensor, target: Tensor, taus: tuple[float, float]) -> Tensor:
    """Take the loss of the package."""
    return balanced_divergence(
        student, teacher, target, forward_temperature=taus[0], reverse_temperature=taus[1]
    ).loss


def ours_with_task(
    student: Tensor, teacher: Tensor, target: Tensor, taus: tuple[float, float]
) -> Tensor:
    """Take loss and cross-entropy of the package in one pass."""
    return balanced_divergence(
        student, teacher, target, forward_temperature=taus[0], reverse_temperature=taus[1],
        cross_entropy_weight=1.0, avg_non_ignore=True,
    ).loss  # fmt: skip


def upsampled(divergence: Provider) -> Provider:
    """Put upsampling to the labels and the cross-entropy around a divergence."""

    def function(
        student: Tensor, teacher: Tensor, target: Tensor, taus: tuple[float, float]
    ) -> Tensor:
        size = target.shape[1:]
        with torch.no_grad():
            teacher = F.interpolate(teacher, size, mode='bilinear', align_corners=False)
        student = F.interpolate(student, size, mode='bilinear', align_corners=False)
        task = F.cross_entropy(student, target, ignore_index=255)
        return task + divergence(student, teacher, target, taus)

    return function


def liger(student: Tensor, teacher: Tensor, target: Tensor, taus: tuple[float, float]) -> Tensor:
    """Take Liger-Kernel's JSD at its two ends, with softmax and layout around it."""
    from liger_kernel.transformers.functional import liger_jsd

    parts, labels = [], target.flatten()
    for tau, beta in zip(taus, (0.0, 1.0), strict=True):
        rows = [
            F.log_softmax(tempered(z.movedim(1, -1).reshape(-1, z.shape[1]).float(), tau), -1)
            for z in (student, teacher)
        ]
        part = liger_jsd(*rows, shift_labels=labels, beta=beta, ignore_index=255)
        parts.append(scaled(part, tau))
    return parts[0] + parts[1]


def compiled(function: Provider, mode: str | None = None) -> Provider:
    """Compile for static shapes."""
    return torch.compile(function, dynamic=False, mode=mode)


AUTOTUNED = 'max-autotune-no-cudagraphs'


def providers(low: bool, names: list[str] | None = None) -> dict[str, Callable[[], Provider]]:
    """Return how to make each provider, the yardstick first.

    Args:
        low: Whether logits come in at low resolution.
        names: Which to take; None takes all.
    """
    full = {
        'naive': lambda: naive,
        'lean': lambda: lean,
        'naive, compiled': lambda: compiled(naive),
        'lean, compiled': lambda: compiled(lean),
        'lean, autotuned': lambda: compiled(lean, AUTOTUNED),
        'liger': lambda: liger,
        'liger, rows': lambda: liger,  # gets channels_last logits: its rows without a copy
        'balkd_seg': lambda: ours,
    }
    lower = {
        'upsample + naive': lambda: upsampled(naive),
        'upsample + lean': lambda: upsampled(lean),
        'upsample + naive, compiled': lambda: compiled(upsampled(naive)),
        'upsample + lean, compiled': lambda: compiled(upsampled(lean)),
        'upsample + lean, autotuned': lambda: compiled(upsampled(lean), AUTOTUNED),
        'upsample + liger': lambda: upsampled(liger),
        'upsample + balkd_seg': lambda: upsampled(ours),
        'balkd_seg': lambda: ours_with_task,
    }
    chosen = lower if low else full
    return {name: make for name, make in chosen.items() if names is None or name in names}
