"""Keep what tells why distillation helps, or why not, while training goes on."""

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from mmseg.registry import HOOKS
from torch import Tensor, nn

from balkd_seg.distillers import MutualDistiller, OfflineDistiller
from balkd_seg.distillers.binary import class_logits
from balkd_seg.distillers.distill_term import DistillTerm
from balkd_seg.distillers.taps import Listener, find_tap, logits_head, logits_path
from balkd_seg.hooks._runner import bare_model
from balkd_seg.metrics.logit_comparison import compare_logits

FILE = 'telemetry.jsonl'
# Factors that keep small gradients from vanishing in fp16, as a GradScaler does; the next is taken
# where they overflow. Powers of two round nothing, and each is itself an fp16 number.
SCALES = (2.0**15, 2.0**7, 1.0)


@HOOKS.register_module()
class DistillTelemetryHook(Hook):
    """Append a line to `telemetry.jsonl` in the work dir every few iterations.

    A line is a JSON object for one term of `distill` at one iteration:

    - `step` (counted from 1, as in the log), `loss_name`, `learner`, `source`;
    - `forward`, `reverse`, `student_entropy`, `teacher_entropy`, `agreement`, `teacher_wrong`,
      `student_wrong` of the two networks' logits; `compare_logits` defines them. They are the same
      for every method, whatever its loss compares;
    - `loss`: the term as it trains;
    - `gradient`, `task_gradient`: the Euclidean norms, over the whole batch, of the gradient of the
      term and of the learner's own losses with respect to the output of the term's `student_tap`:
      the learner's logits by default. That is the last tensor through which both act, so their
      ratio is what the shared weights before it feel. Losses of an auxiliary head count only
      if they act through this tensor, which they do not through the logits. `task_gradient` is
      null if the own losses do not act through it at all.

    A number that is not finite is null. Losses are scaled on the way to their gradients, so that
    mixed precision does not round small ones to 0.

    Nothing is run twice but the backward of the losses down to the tap, and of a term fused with
    the task loss the term itself, in one iteration of `interval`. Training is not changed: no
    weight's gradient, buffer or random state is touched (a test compares weights bit for bit).
    Terms without weight are left out. On resuming, lines beyond the checkpoint are dropped. In
    distributed training the numbers are of the first process's share of the batch.

    With `compile=` the iterations that are looked at run uncompiled: compiled code notices neither
    this hook nor a second backward. That needs PyTorch 2.6.

    Does nothing where the model is no distiller.

    Args:
        interval: Iterations between lines.

    Raises:
        ValueError: If the interval is not a positive integer; before training with `compile=`, if
            PyTorch cannot run single iterations uncompiled.
    """

    def __init__(self, interval: int = 50) -> None:
        if not isinstance(interval, int) or interval < 1:
            raise ValueError(f'Expected `interval` to be an integer above 0, but got {interval!r}.')
        self.interval = interval
        self._watch: Watch | None = None

    def before_train(self, runner: Runner) -> None:
        """Drop the lines that training will write again."""
        compiled = hasattr(runner.model.train_step, '_torchdynamo_orig_callable')
        if compiled and not hasattr(torch.compiler, 'set_stance'):
            raise ValueError(
                'Expected PyTorch 2.6 or newer for a DistillTelemetryHook beside compile=, to run '
                f'the iterations that it looks at uncompiled, but got {torch.__version__}. Leave '
                'one of both out.'
            )
        file = Path(runner.work_dir) / FILE
        if is_main_process() and file.exists():
            lines = file.read_text().splitlines(keepends=True)
            whole = [line for line in lines if line.endswith('\n')]
            file.write_text(''.join(x for x in whole if json.loads(x)['step'] <= runner.iter))

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | tuple | list | None = None
    ) -> None:
        """Watch the forward of this iteration if it is its turn."""
        model = bare_model(runner)
        if self.every_n_train_iters(runner, self.interval):
            lessons = lessons_of(model)
            self._watch = Watch(model, lessons) if lessons else None

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | tuple | list | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Write what was seen."""
        if self._watch is None:
            return
        lines = [{'step': runner.iter + 1, **line} for line in self._watch.close()]
        self._watch = None
        if is_main_process():
            with (Path(runner.work_dir) / FILE).open('a') as file:
                file.writelines(json.dumps(line) + '\n' for line in lines)


class Lesson(NamedTuple):
    """A term, the networks on both sides, and whether it is computed with the task loss."""

    term: DistillTerm
    learner: nn.Module
    source: str
    teacher: nn.Module
    fused: bool


def lessons_of(model: nn.Module) -> list[Lesson]:
    """Return the terms of a distiller that have a weight; none of another model."""
    lessons = []
    if isinstance(model, MutualDistiller):
        networks = model.networks()
        for term, source in zip(model.distill_terms, model.sources, strict=True):
            fused = model.fused[term.learner] is term
            lessons.append(Lesson(term, networks[term.learner], source, networks[source], fused))
    elif isinstance(model, OfflineDistiller) and model.teacher is not None:
        teacher = model.teacher.network
        for term in model.distill_terms:
            fused = model.fused_term is term
            lessons.append(Lesson(term, model.student, 'teacher', teacher, fused))
    return [lesson for lesson in lessons if lesson.term.is_active]


class Watch:
    """Looks at one training step of a distiller from outside, by what its modules give.

    Args:
        model: The distiller.
        lessons: Its terms.
    """

    def __init__(self, model: nn.Module, lessons: Sequence[Lesson]) -> None:
        self.lessons, self.lines = lessons, list[dict[str, Any]]()
        self.outputs: dict[nn.Module, Tensor] = {}
        self.uncompiled = ExitStack()
        if hasattr(torch.compiler, 'set_stance'):
            self.uncompiled.enter_context(torch.compiler.set_stance('force_eager'))
        modules = dict.fromkeys(module for lesson in lessons for module in _places(lesson))
        self.handles: list[Any] = [Listener(module, self._keep) for module in modules]
        self.handles.append(model.register_forward_hook(self._read, with_kwargs=True))

    def close(self) -> list[dict[str, Any]]:
        """Stop looking and return what was seen."""
        for handle in self.handles:
            handle.remove()
        self.uncompiled.close()
        return self.lines

    def _keep(self, module: nn.Module, output: Any) -> None:
        self.outputs[module] = output

    def _read(self, model: Any, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        """Measure when the losses are there and their graph is."""
        if kwargs.get('mode') != 'loss':
            return
        target = model.labels_of(kwargs['data_samples'])
        others = tuple(f'{name}.' for name in getattr(model, 'peers', ()))
        for lesson in self.lessons:
            found = self._measure(lesson, output, target, others)
            term = lesson.term
            who = {'loss_name': term.loss_name, 'learner': term.learner, 'source': lesson.source}
            self.lines.append({**who, **{key: _number(x) for key, x in found.items()}})
        self.outputs.clear()

    def _measure(
        self, lesson: Lesson, losses: dict[str, Any], target: Tensor, others: tuple[str, ...]
    ) -> dict[str, Tensor | None]:
        """Return the numbers of one line."""
        tap, taught, logits, teacher_logits = (self.outputs[m] for m in _places(lesson))
        term, head = lesson.term, logits_head(lesson.learner)
        ignore_index: Any = head.ignore_index
        own = [
            value
            for key, value in losses.items()
            if 'loss' in key and 'distill.' not in key and _is_of(key, term, others)
        ]
        flat = [x for value in own for x in (value if isinstance(value, list) else [value])]
        loss = losses[f'{term.prefix}distill.{term.loss_name}']
        task = _gradient(sum(x.mean() for x in flat), tap)
        if lesson.fused:  # its gradient flows with the task loss's: compute it apart
            apart = tap.detach().requires_grad_()
            with torch.enable_grad():
                again: Any = term.compare(apart, taught.detach(), target)
            own_gradient = _gradient(again.loss, apart)
            if task is not None and own_gradient is not None:
                task = task - own_gradient
        else:
            own_gradient = _gradient(loss, tap)
        return {
            **compare_logits(
                class_logits(lesson.learner, logits),
                class_logits(lesson.teacher, teacher_logits),
                target,
                ignore_index=ignore_index,
            ),
            'loss': loss.detach(),
            'gradient': _norm(own_gradient),
            'task_gradient': _norm(task),
        }


def _places(lesson: Lesson) -> list[nn.Module]:
    """Return the modules whose outputs count: both taps, and both networks' logits."""
    term, learner, source, teacher, _ = lesson
    return [
        find_tap(learner, term.student_tap, term.learner),
        find_tap(teacher, term.teacher_tap, source),
        find_tap(learner, logits_path(learner), term.learner),
        find_tap(teacher, logits_path(teacher), source),
    ]


def _is_of(key: str, term: DistillTerm, others: tuple[str, ...]) -> bool:
    """Return whether an entry of the losses belongs to the network that a term trains."""
    return key.startswith(term.prefix) if term.prefix else not key.startswith(others)


def _gradient(loss: Any, tensor: Tensor) -> Tensor | None:
    """Return the gradient of a loss in fp32 or fp64, leaving its graph; None if there is none."""
    if not isinstance(loss, Tensor) or not loss.requires_grad or not tensor.requires_grad:
        return None
    for scale in SCALES:
        (gradient,) = torch.autograd.grad(
            loss, tensor, torch.full_like(loss, scale), retain_graph=True, allow_unused=True
        )
        if gradient is None or gradient.isfinite().all():
            break
    dtype = torch.promote_types(tensor.dtype, torch.float32)
    return None if gradient is None else gradient.to(dtype) / scale


def _norm(gradient: Tensor | None) -> Tensor | None:
    return None if gradient is None else gradient.norm()


def _number(value: Tensor | None) -> float | None:
    """Return what JSON can hold: it has neither NaN nor infinity."""
    number = math.nan if value is None else float(value)
    return number if math.isfinite(number) else None
