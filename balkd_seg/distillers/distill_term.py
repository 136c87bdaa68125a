"""The entries of `distill`: a loss, where it looks in both networks, an optional projection."""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import torch
from mmseg.registry import MODELS
from torch import Tensor, nn

from balkd_seg.distillers.binary import head_at, warn_of_sigmoids
from balkd_seg.distillers.taps import find_tap, logits_head, logits_path
from balkd_seg.kinds import kind_of, name_of
from balkd_seg.ops._binary import two_class_logits


class BesideStateDict(nn.Module):
    """A module whose weights are trained but stay out of its owner's state dict.

    `DistillStateHook` stores what `beside_state_dict` returns, so that the student's checkpoint
    keeps the stock keys.
    """

    def state_dict(  # type: ignore[override]
        self, *args: Any, destination: dict | None = None, **kwargs: Any
    ) -> dict:
        """Add nothing to the state dict of the owner."""
        return {} if destination is None else destination


class DistillTerm(nn.Module):
    """A distillation loss between a module of the network that learns and one of its teacher.

    Args:
        entry: The loss (`type` and its arguments; `ignore_index` and `align_corners` are the
            learner's head's), and optionally

            - `student_tap`, `teacher_tap`: dotted module paths; default: the logits, that is what
              `decode_head` returns (the last head of a cascade, the last stage of K-Net); one
              sigmoid channel z of any head is compared as the logits (0, z) of two classes;
            - `projection`: `dict(in_channels=..., out_channels=...)` of a 1x1 convolution from the
              student's channels to the teacher's, trained with the student.
        student: The network that learns.
        learner: Its name; what is logged and stored of another than the student starts with it.

    Raises:
        ValueError: If the network has no such tap, the loss refuses its arguments, or one of them
            contradicts the learner's head.
    """

    def __init__(self, entry: dict, student: nn.Module, learner: str = 'student') -> None:
        super().__init__()
        entry = dict(entry)
        self.learner = learner
        self.prefix = '' if learner == 'student' else f'{learner}.'
        self.student_tap: str = entry.pop('student_tap', None) or logits_path(student)
        self._teacher_tap: str | None = entry.pop('teacher_tap', None)
        projection = entry.pop('projection', None)
        find_tap(student, self.student_tap, learner)
        self.projection = nn.Conv2d(**projection, kernel_size=1) if projection else nn.Identity()
        self.loss = MODELS.build(_as_the_head(entry, logits_head(student)))
        self.loss_name: str = getattr(self.loss, 'loss_name', '')
        self._check_loss_name(name_of(entry, MODELS))
        self._check_agreement_with_head(student)
        self._student_is_binary = _has_one_sigmoid(student, self.student_tap, learner)
        self._teacher_is_binary = False

    def _check_loss_name(self, loss_type: str) -> None:
        stem = self.loss_name.removeprefix('loss_')
        if stem == self.loss_name or 'loss' in stem:
            raise ValueError(
                f'Expected the loss `{loss_type}` of `distill` to have a `loss_name` of the form '
                f"'loss_x', with 'loss' nowhere else, because mmengine trains whatever has it in "
                f'its name, but got {self.loss_name!r}. Set `loss_name`, or take another loss.'
            )

    def _check_agreement_with_head(self, student: nn.Module) -> None:
        """Refuse what was written out and is not what the task loss goes by."""
        for name, expected in _settings_of(logits_head(student)).items():
            if getattr(self.loss, name, expected) != expected:
                raise ValueError(
                    f'Expected `{name}` of {self.loss_name} to be that of the '
                    f"{self.learner}'s head, {expected}, but got {getattr(self.loss, name)}. Leave "
                    'it out of the entry of `distill`: it is taken from the head.'
                )

    def bind_teacher(self, teacher: nn.Module, role: str = 'teacher') -> None:
        """Take the teacher's logits where no tap was named; raise ValueError if it has no tap."""
        self._teacher_tap = self._teacher_tap or logits_path(teacher)
        find_tap(teacher, self._teacher_tap, role)
        self._teacher_is_binary = _has_one_sigmoid(teacher, self._teacher_tap, role)

    @property
    def teacher_tap(self) -> str:
        """The dotted path in the teacher, known once the teacher is built."""
        assert self._teacher_tap is not None
        return self._teacher_tap

    @property
    def is_active(self) -> bool:
        """Whether the loss has a weight; a schedule may take it away."""
        weight = getattr(self.loss, 'loss_weight', 1.0)
        return bool(getattr(self.loss, 'is_active', weight != 0))

    @property
    def name(self) -> str:
        """What tells the term from the others."""
        return f'{self.prefix}{self.loss_name}'

    def forward(self, student: Tensor, teacher: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return the entries of the log: `distill.loss_x`, and `distill.x_<part>` for each part."""
        return self.log(self.compare(student, teacher, target))

    def compare(self, student: Tensor, teacher: Tensor, target: Tensor) -> NamedTuple:
        """Return what the loss says of the outputs of both taps."""
        student, teacher = self.classes_of(student, teacher)
        return self.loss(self.projection(student), teacher, target)

    def classes_of(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Return the outputs of both taps, with two channels for the one of a binary head."""
        if self._student_is_binary:
            student = two_class_logits(student)
        if self._teacher_is_binary:
            teacher = two_class_logits(teacher)
        return student, teacher

    def log(self, result: NamedTuple) -> dict[str, Tensor]:
        """Return the entries of the log for what the loss returned."""
        parts = result._asdict()
        stem = self.loss_name.removeprefix('loss_')
        log = {f'{self.prefix}distill.{self.loss_name}': parts.pop('loss')}
        watched = {name: value for name, value in parts.items() if value is not None}
        log.update({f'{self.prefix}distill.{stem}_{k}': value for k, value in watched.items()})
        return log

    def at_rest(self) -> dict[str, Tensor]:
        """Return what stands for the term at weight 0.

        Weights of a projection still take part, with gradient 0: distributed training waits for
        every weight.
        """
        weights = [parameter.sum() for parameter in self.parameters() if parameter.requires_grad]
        if not weights:
            return {}
        return {f'{self.prefix}distill.{self.loss_name}': 0.0 * torch.stack(weights).sum()}


def _has_one_sigmoid(network: nn.Module, tap: str, role: str) -> bool:
    """Return whether a tap gives the logits of a head that tells two classes apart by one."""
    head = head_at(network, tap)
    if head is None:
        return False
    warn_of_sigmoids(head, role)
    return head.out_channels == 1


def _settings_of(head: nn.Module) -> dict[str, Any]:
    """Return how a head's task loss sees pixels; `ignore_index` may be None there."""
    settings = {name: getattr(head, name) for name in ('ignore_index', 'align_corners')}
    return {name: value for name, value in settings.items() if value is not None}


def _as_the_head(entry: dict, head: nn.Module) -> dict:
    """Return the config of a loss, and of losses in it, with a head's settings where it has none.

    Args:
        entry: A loss: its `type` and its arguments.
        head: The head of the network that learns.
    """
    kind = kind_of(entry, MODELS)
    known = () if kind is None else inspect.signature(kind).parameters
    settings = {name: value for name, value in _settings_of(head).items() if name in known}
    inner = {
        k: _as_the_head(v, head) for k, v in entry.items() if isinstance(v, dict) and 'type' in v
    }
    return {**settings, **entry, **inner}


class DistillTerms(BesideStateDict, nn.ModuleList):
    """The terms of a distiller: trained with the student, but no part of its state dict.

    What they learn (projections) is read and restored by `beside_state_dict` and
    `load_beside_state_dict`.
    """

    def __init__(self, terms: Iterable[DistillTerm]) -> None:
        super().__init__(terms)
        self.are_stored = False  # DistillStateHook says otherwise
        names = [term.name for term in self]
        if not names or len(set(names)) < len(names):
            raise ValueError(
                f'Expected `distill` to hold at least one entry and each its own `loss_name`, but '
                f'got {names}. Set `loss_name` in the entries that share one.'
            )

    def __iter__(self) -> Iterator[DistillTerm]:
        return super().__iter__()  # type: ignore[return-value]

    def beside_state_dict(self) -> dict[str, Tensor]:
        """Return what the terms learn, to be stored beside the student."""
        state: dict[str, Tensor] = {}
        for term in self:
            term.state_dict(destination=state, prefix=f'{term.name}.')
        return dict(state)

    def load_beside_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `beside_state_dict` returned.

        Raises:
            ValueError: If the terms are not those of the state.
        """
        expected = {key: tuple(value.shape) for key, value in self.beside_state_dict().items()}
        found = {key: tuple(value.shape) for key, value in state.items()}
        if expected != found:
            raise ValueError(
                f'Expected the checkpoint to hold the projections of this config, {expected}, but '
                f'got {found}. Resume with the `distill` entries of the stopped run, or start from '
                'its student with `load_from`.'
            )
        for term in self:
            prefix = f'{term.name}.'
            term.load_state_dict(
                {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
            )
