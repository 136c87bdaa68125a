"""Change a distillation weight or temperature while training goes on, iteration by iteration."""

import bisect
import math
from collections.abc import Sequence

from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import nn

from balkd_seg.hooks._runner import bare_model

CURVES = ('linear', 'cosine', 'step')
_WEIGHTS = ('loss_weight', 'forward_weight', 'reverse_weight')
_PARTS_OF = {'temperature': ('forward_temperature', 'reverse_temperature')}


@HOOKS.register_module()
class DistillScheduleHook(Hook):
    """Set attributes of distillation losses before every iteration, from points in between.

    Each schedule is a dict:

    - `loss`: `loss_name` of the entry of `distill`, with the network's name in front where another
      than the student learns: 'teacher.loss_kd';
    - `setting`: a number that the loss has as an attribute: 'loss_weight', 'forward_weight',
      'reverse_weight', 'temperature' (both), 'forward_temperature', 'delta', and so on;
    - `points`: pairs (iteration, value), iterations counted from 0. Before the first point its
      value holds, after the last one that one's;
    - `curve`: how to go from a point to the next: 'linear' (default), 'cosine' (half a wave), or
      'step' (stay, then jump).

    A warm-up is `[(0, 0.0), (1000, 1.0)]`, a stop `[(0, 1.0), (30000, 0.0)]` with 'step'. While no
    term of an `OfflineDistiller` has a weight the teacher does not run. Values depend on the
    iteration alone, so that a resumed run goes on with the right ones, and are logged as
    `distill.kd_temperature`, `distill.kd_weight` (for `loss_weight`) and the like.

    Args:
        schedules: As above.

    Raises:
        ValueError: If a schedule cannot be.
    """

    def __init__(self, schedules: Sequence[dict]) -> None:
        if not schedules:
            raise ValueError('Expected at least one entry in `schedules`, but got none.')
        self.schedules = [Schedule(**schedule) for schedule in schedules]
        taken = [
            (schedule.loss, part)
            for schedule in self.schedules
            for part in _PARTS_OF.get(schedule.setting, (schedule.setting,))
        ]
        twice = sorted({f'{loss}.{part}' for loss, part in taken if taken.count((loss, part)) > 1})
        if twice:
            raise ValueError(
                f'Expected one schedule for a setting, but several set {", ".join(twice)}. Put all '
                'points into one.'
            )

    def before_train(self, runner: Runner) -> None:
        """Check every schedule against the losses that there are, before the first iteration."""
        losses = _losses(runner)
        for schedule in self.schedules:
            schedule.check(losses)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None
    ) -> None:
        """Set and log the values of this iteration."""
        losses = _losses(runner)
        for schedule in self.schedules:
            value = schedule.value(runner.iter)
            setattr(losses[schedule.loss], schedule.setting, value)
            runner.message_hub.update_scalar(f'train/{schedule.label}', value)


class Schedule:
    """A setting of a loss as a function of the iteration; see `DistillScheduleHook`.

    Args:
        loss: Name of the term.
        setting: Name of the attribute.
        points: Pairs (iteration, value).
        curve: 'linear', 'cosine' or 'step'.

    Raises:
        ValueError: If the points are none or not in order, or a value is out of its range.
    """

    def __init__(
        self, loss: str, setting: str, points: Sequence[Sequence[float]], curve: str = 'linear'
    ) -> None:
        name = f'the schedule of {loss}.{setting}'
        if curve not in CURVES:
            raise ValueError(f'Expected `curve` of {name} to be one of {CURVES}, but got {curve!r}')
        if not points or not all(len(p) == 2 and int(p[0]) == p[0] >= 0 for p in points):
            raise ValueError(
                f'Expected `points` of {name} to be pairs (iteration, value), iterations being '
                f'integers from 0, but got {list(points)}.'
            )
        self.iterations = [int(point[0]) for point in points]
        self.values = [float(point[1]) for point in points]
        if self.iterations != sorted(set(self.iterations)):
            raise ValueError(
                f'Expected `points` of {name} to be pairs (iteration, value) of increasing '
                f'iterations, but got {list(points)}.'
            )
        allowed = 'at least 0' if setting in _WEIGHTS else 'larger than 0'
        for value in self.values:
            if not math.isfinite(value) or value < 0 or (value == 0 and setting not in _WEIGHTS):
                raise ValueError(f'Expected values of {name} to be {allowed}, but got {value}.')
        self.loss, self.setting, self.curve = loss, setting, curve
        *learner, own = loss.split('.')
        # mmengine's log shows the mean over many iterations of what has "loss" in its name
        name = f'{own}_{setting}'.replace('loss_', '')
        self.label = '.'.join([*learner, 'distill', name])

    def value(self, iteration: int) -> float:
        """Return the value at an iteration, counted from 0."""
        place = bisect.bisect_right(self.iterations, iteration)
        if place in (0, len(self.iterations)):
            return self.values[max(place - 1, 0)]
        start, end = self.values[place - 1 : place + 1]
        begin, until = self.iterations[place - 1 : place + 1]
        part = (iteration - begin) / (until - begin)
        if self.curve == 'step':
            return start
        if self.curve == 'cosine':
            part = (1 - math.cos(math.pi * part)) / 2
        return start + part * (end - start)

    def check(self, losses: dict[str, nn.Module]) -> None:
        """Raise ValueError unless there is such a loss and setting."""
        if self.loss not in losses:
            raise ValueError(
                f'Expected `loss` of a schedule to be a term of `distill`, one of {list(losses)}, '
                f'but got {self.loss!r}.'
            )
        current = getattr(losses[self.loss], self.setting, None)
        number = isinstance(current, (int, float)) and not isinstance(current, bool)
        if not number or self.setting == 'ignore_index':
            raise ValueError(
                f'Expected `setting` of a schedule to be a number that {self.loss} has as an '
                f'attribute, such as loss_weight, but got {self.setting!r}, which is {current!r}.'
            )


def _losses(runner: Runner) -> dict[str, nn.Module]:
    """Return the distillation losses of the runner's model by name."""
    terms = getattr(bare_model(runner), 'distill_terms', ())
    return {term.name: term.loss for term in terms}
