"""Bad input to the balanced divergence, refused with what was expected, what came, the remedy."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from balkd_seg.ops._types import Terms, Weighting

_LABEL_DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise unless a setting is one of its choices."""
    if value not in choices:
        expected = ', '.join(f"'{choice}'" for choice in choices)
        raise ValueError(f'Expected `{name}` to be one of {expected}, but got {value!r}')


def check_temperature(name: str, value: float) -> None:
    """Raise unless a temperature is in its range."""
    if not 0 < value < math.inf:
        raise ValueError(f'Expected `{name}` to be finite and larger than 0, but got {value}')


def check_settings(terms: Terms, softmax_axis: str, resize: str) -> None:
    """Raise unless weights, temperatures and options are in their ranges."""
    check_part_weights(forward_weight=terms.forward_weight, reverse_weight=terms.reverse_weight)
    for name in ('forward_temperature', 'reverse_temperature'):
        check_temperature(name, getattr(terms, name))
    check_choice('softmax_axis', softmax_axis, ('classes', 'positions'))
    check_choice('resize', resize, ('label', 'none', 'student'))


def check_weighting(weighting: Weighting, softmax_axis: str) -> None:
    """Raise unless the weighting by entropy is one that there is."""
    check_choice('entropy_weighting', weighting.granularity, ('none', 'image', 'pixel'))
    if not 0 < weighting.delta < math.inf:
        raise ValueError(
            f'Expected `delta` to be finite and larger than 0, but got {weighting.delta}'
        )
    check_temperature('entropy_temperature', weighting.temperature)
    if weighting.granularity == 'pixel' and softmax_axis == 'positions':
        raise ValueError(
            "Expected softmax_axis='classes' with entropy_weighting='pixel', but got 'positions', "
            "where a pixel has no distribution of its own; use entropy_weighting='image'"
        )


def check_logits(student_logits: Tensor, teacher_logits: Tensor, softmax_axis: str) -> None:
    """Raise unless both networks score the same images over the same classes."""
    student, teacher = tuple(student_logits.shape), tuple(teacher_logits.shape)
    for name, logits in (('student_logits', student_logits), ('teacher_logits', teacher_logits)):
        if logits.ndim not in (2, 4):
            raise ValueError(
                f'Expected `{name}` of shape (N, C, H, W) or (N, C), but got {tuple(logits.shape)}'
            )
        if not logits.is_floating_point():
            raise ValueError(f'Expected `{name}` of a floating dtype, but got {logits.dtype}')
    if len(student) != len(teacher) or student[0] != teacher[0]:
        raise ValueError(
            f'Expected student and teacher logits of the same images, but got shapes {student} '
            f'and {teacher}'
        )
    if student[1] != teacher[1]:
        raise ValueError(
            f'Expected as many student as teacher channels, but got {student[1]} and '
            f'{teacher[1]}; networks must share their classes, and tapped features need a '
            'projection'
        )
    if softmax_axis == 'classes' and student[1] < 2:
        raise ValueError(
            f'Expected logits of at least 2 classes for a softmax over classes, but got {student}; '
            'the two classes of one sigmoid logit z have the logits (0, z)'
        )
    if softmax_axis == 'positions' and len(student) == 2:
        raise ValueError(
            f"Expected logits of shape (N, C, H, W) for softmax_axis='positions', but got "
            f"{student}; use softmax_axis='classes'"
        )


def check_target(
    student_logits: Tensor, teacher_logits: Tensor, target: Tensor | None, resize: str
) -> None:
    """Raise unless labels fit the logits and the sizes can be reconciled under `resize`."""
    student, teacher = student_logits.shape[2:], teacher_logits.shape[2:]
    same_size = student == teacher
    if resize == 'none' and not same_size:
        raise ValueError(
            f"Expected student and teacher logits of the same size under resize='none', but got "
            f"{tuple(student)} and {tuple(teacher)}; use resize='student' or 'label'"
        )
    if target is None:
        if resize == 'label' and not same_size:
            raise ValueError(
                f'Expected a `target` to resize logits of sizes {tuple(student)} and '
                f"{tuple(teacher)} to, but got None; pass it, or use resize='student'"
            )
        return
    if target.dtype not in _LABEL_DTYPES:
        raise ValueError(f'Expected `target` of an integer dtype, but got {target.dtype}')
    if target.ndim != student_logits.ndim - 1 or len(target) != len(student_logits):
        expected = '(N,)' if student_logits.ndim == 2 else '(N, H, W)'
        raise ValueError(
            f'Expected `target` of shape {expected} with N = {len(student_logits)}, but got '
            f'{tuple(target.shape)}'
        )
    smaller = any(size < of for size, of in zip(target.shape[1:], student, strict=True))
    if resize != 'label' and smaller:
        raise ValueError(
            f"Expected a `target` at least as large as the logits under resize='{resize}', but "
            f"got {tuple(target.shape[1:])} for {tuple(student)}; use resize='label'"
        )


def check_task(
    weight: float,
    class_weight: Tensor | None,
    student_logits: Tensor,
    target: Tensor | None,
    softmax_axis: str,
    resize: str,
) -> None:
    """Raise unless the cross-entropy can be computed beside the divergence."""
    if not 0 <= weight < math.inf:
        raise ValueError(
            f'Expected `cross_entropy_weight` to be finite and at least 0, but got {weight}'
        )
    if weight == 0:
        if class_weight is not None:
            raise ValueError(
                'Expected `class_weight` only with a `cross_entropy_weight` larger than 0, but got '
                'both; class weights do not enter the divergences'
            )
        return
    if target is None or softmax_axis != 'classes' or resize != 'label':
        got = 'no target' if target is None else f'{softmax_axis!r} and {resize!r}'
        raise ValueError(
            "Expected a `target`, softmax_axis='classes' and resize='label' with "
            f'`cross_entropy_weight`, but got {got}; compute the cross-entropy apart'
        )
    num_classes = student_logits.shape[1]
    if class_weight is not None and tuple(class_weight.shape) != (num_classes,):
        raise ValueError(
            f'Expected `class_weight` of shape ({num_classes},), one for each class, but got '
            f'{tuple(class_weight.shape)}'
        )


def check_share(name: str, value: float) -> None:
    """Raise unless a setting is a share of something."""
    if not 0 < value < 1:
        raise ValueError(f'Expected `{name}` to be larger than 0 and less than 1, but got {value}')


def check_decoupling(alpha: float, beta: float, target: Tensor | None) -> None:
    """Raise unless the parts of a decoupled divergence have weights, and there are labels."""
    check_part_weights(alpha=alpha, beta=beta)
    if target is None:
        raise ValueError(
            'Expected a `target` to tell the labelled class from the others, but got None; use '
            'balanced_divergence without labels'
        )


def check_part_weights(**weights: float) -> None:
    """Raise unless the weights of a sum's parts are in their range, and one of them counts."""
    for name, value in weights.items():
        if not 0 <= value < math.inf:
            raise ValueError(f'Expected `{name}` to be finite and at least 0, but got {value}')
    if not any(value > 0 for value in weights.values()):
        names = ' or '.join(f'`{name}`' for name in weights)
        raise ValueError(
            f'Expected {names} to be larger than 0, but both are 0; remove the loss instead'
        )


def check_features(student: Tensor, teacher: Tensor, same_channels: bool) -> None:
    """Raise unless features of both networks are of the same images, (N, C, h, w)."""
    for name, features in (('student_features', student), ('teacher_features', teacher)):
        if features.ndim != 4:
            raise ValueError(
                f'Expected `{name}` of shape (N, C, H, W), but got {tuple(features.shape)}'
            )
        if not features.is_floating_point():
            raise ValueError(f'Expected `{name}` of a floating dtype, but got {features.dtype}')
    shapes = tuple(student.shape), tuple(teacher.shape)
    if shapes[0][0] != shapes[1][0]:
        raise ValueError(
            f'Expected student and teacher features of the same images, but got shapes {shapes[0]} '
            f'and {shapes[1]}'
        )
    if same_channels and shapes[0][1] != shapes[1][1]:
        raise ValueError(
            f'Expected as many student as teacher channels, but got {shapes[0][1]} and '
            f'{shapes[1][1]}; set projection=dict(in_channels={shapes[0][1]}, '
            f'out_channels={shapes[1][1]}) in the entry of `distill`'
        )


def check_pool(pool: int) -> None:
    """Raise unless places can be pooled."""
    if isinstance(pool, bool) or not isinstance(pool, int) or pool < 1:
        raise ValueError(f'Expected `pool` to be an integer of at least 1, but got {pool}')
