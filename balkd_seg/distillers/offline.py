"""Offline distillation: a frozen teacher teaches a student that stays a stock mmseg model."""

from collections.abc import Callable
from typing import Any

from mmseg.registry import MODELS
from torch import Tensor
from torch.random import fork_rng

from balkd_seg.distillers.base import Distiller, Step
from balkd_seg.distillers.distill_term import DistillTerm, DistillTerms
from balkd_seg.distillers.fused_task import find_fusable
from balkd_seg.distillers.supported import check_heads
from balkd_seg.distillers.teacher import FrozenTeacher


@MODELS.register_module()
class OfflineDistiller(Distiller):
    """Train any mmseg segmentor with distillation terms from any other of the same classes.

    `loss` = the student's own losses + the terms of `distill`, from one forward of the student.
    Prediction, the state dict and the parameters are the student's alone, under the names mmseg
    gives them, so that every checkpoint loads into the student's own config and `paramwise_cfg` is
    written as without distillation. The teacher is built and strictly loaded when training starts
    (`init_weights`), never for testing, and does not run while no term has a weight.

    Args:
        student: `dict(config='mmseg::...' or path, **overrides)` or an inline model dict.
        teacher: The same, with `checkpoint` (file or URL), and optionally `classes`, names of its
            classes in order, where its checkpoint has none or other words than the data set.
        distill: One dict per term: the loss (`type` and its arguments) and where it looks, see
            `DistillTerm`.
        data_preprocessor: For networks that have none in their own config; mmengine's Runner passes
            what a config has at its top level.
        pretrained: None; mmseg's `init_model` passes it.
        train_cfg: None; mmseg's `init_model` passes it.
        fuse_task_loss: Whether the main cross-entropy and the divergence are computed in one pass,
            without full-resolution logits: the same numbers, less memory and time. Where the
            head does not allow it the log says why, and they are computed apart.

        misplaced: None; refused, with the place where it belongs.

    Raises:
        ValueError: If a config, tap or loss setting is wrong.
        FileNotFoundError: If a config is missing.

    Reference:
        Hinton et al., Distilling the Knowledge in a Neural Network, https://arxiv.org/abs/1503.02531
    """

    def __init__(
        self,
        student: dict,
        teacher: dict,
        distill: list[dict],
        data_preprocessor: dict | None = None,
        pretrained: str | None = None,
        train_cfg: dict | None = None,
        fuse_task_loss: bool = False,
        **misplaced: Any,
    ) -> None:
        super().__init__(student, data_preprocessor, pretrained, train_cfg, misplaced)
        if 'config' not in teacher:  # one that is named is read when training starts
            check_heads(teacher, 'teacher')
        self.teacher_config = teacher
        self._given_preprocessor = data_preprocessor
        self.teacher: FrozenTeacher | None = None
        with fork_rng(devices=[]):  # the student starts as it would alone with this seed
            terms = DistillTerms(DistillTerm(entry, self.student) for entry in distill)
        self.distill_terms = terms
        self.fused_term = find_fusable(self.student, terms) if fuse_task_loss else None

    def init_weights(self) -> None:
        """Build and load the teacher, then initialise the student; the Runner calls it to train."""
        self.build_teacher()
        self.student.init_weights()

    def build_teacher(self) -> None:
        """Build and load the teacher once, on the student's device.

        Raises:
            FileNotFoundError: If its config or checkpoint is missing.
            ValueError: If its checkpoint, class count or taps do not fit.
        """
        if self.teacher is not None:
            return
        with fork_rng(devices=[]):  # the student starts as it would alone with this seed
            teacher = FrozenTeacher(self.teacher_config, self.student, self._given_preprocessor)
        self.check_peer_classes('teacher', teacher.network)
        for term in self.distill_terms:
            term.bind_teacher(teacher.network)
        device = next(self.parameters()).device
        teacher.apply_(lambda tensor: tensor.to(device))
        self.teacher = teacher

    def _apply(self, fn: Callable, recurse: bool = True) -> 'OfflineDistiller':
        """Let the teacher follow `.to()`, `.cuda()` and the like."""
        super()._apply(fn, recurse)
        if self.teacher is not None:
            self.teacher.apply_(fn)
        return self

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Return the student's own losses and the distillation terms.

        Args:
            inputs: Images, (N, channels, H, W).
            data_samples: N `SegDataSample` with `gt_sem_seg` of shape (1, H, W).

        Returns:
            What trains under keys with `loss` (`decode.loss_ce`, `distill.loss_balkd`), what is
            only watched under keys without (`distill.balkd_forward`, `distill.balkd_agreement`).

        Raises:
            ValueError: If labels lie outside of the classes, the teacher's class order differs or
                its outputs are NaN.
        """
        self.build_teacher()
        assert self.teacher is not None
        if not self._checked:
            self.check_class_order('teacher', self.teacher.classes)
            if self.distill_terms.beside_state_dict():
                self.check_storage('the weights of the distillation projections')
            self._checked = True
        target = self.labels_of(data_samples)
        terms = [term for term in self.distill_terms if term.is_active]
        fused = self.fused_term if self.fused_term in terms else None
        resting = [term.teacher_tap for term in self.distill_terms if not term.is_active]
        used = [term.teacher_tap for term in terms]
        taught = self.teacher(inputs, used, resting) if terms else {}
        taps = [term.student_tap for term in self.distill_terms]
        step = Step.run(self.student, 'student', inputs, data_samples, taps, fused is not None)
        own, log = step.learn(
            self.distill_terms, fused, lambda term: taught[term.teacher_tap], target
        )
        return {**own, **log}
