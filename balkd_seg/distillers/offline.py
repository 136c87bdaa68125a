"""Offline distillation: a frozen teacher teaches a student that stays a stock mmseg model."""

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from mmengine.logging import MessageHub, print_log
from mmseg.models.segmentors import BaseSegmentor
from mmseg.registry import MODELS
from torch import Tensor, nn
from torch.random import fork_rng

from balkd_seg.distillers.distill_term import DistillTerm, DistillTerms
from balkd_seg.distillers.fused_task import find_fusable, fuse
from balkd_seg.distillers.model_config import resolve_model_config
from balkd_seg.distillers.taps import logits_head, record_taps
from balkd_seg.distillers.teacher import FrozenTeacher


@MODELS.register_module()
class OfflineDistiller(BaseSegmentor):
    """Train any mmseg segmentor with distillation terms from any other of the same classes.

    `loss` = the student's own losses + the terms of `distill`, from one forward of the student.
    Prediction, the state dict and the parameters are the student's alone, under the names mmseg
    gives them, so that every checkpoint loads into the student's own config and `paramwise_cfg` is
    written as without distillation. The teacher is built and strictly loaded when training starts
    (`init_weights`), never for testing.

    Args:
        student: `dict(config='mmseg::...' or path, **overrides)` or an inline model dict.
        teacher: The same, with `checkpoint` (file or URL).
        distill: One dict per term: the loss (`type` and its arguments) and where it looks, see
            `DistillTerm`.
        data_preprocessor: For a student that has none in its model dict; mmengine's Runner passes
            what a config has at its top level.
        pretrained: None; mmseg's `init_model` passes it.
        train_cfg: None; mmseg's `init_model` passes it.
        fuse_task_loss: Whether the main cross-entropy and the divergence are computed in one pass,
            without full-resolution logits: the same numbers, less memory and time. Where the
            head does not allow it the log says why, and they are computed apart.

    Raises:
        ValueError: If a config, tap or loss setting is wrong.
        FileNotFoundError: If a config is missing.

    Reference:
        Hinton et al., Distilling the Knowledge in a Neural Network, https://arxiv.org/abs/1503.02531
    """

    student: BaseSegmentor

    def __init__(
        self,
        student: dict,
        teacher: dict,
        distill: list[dict],
        data_preprocessor: dict | None = None,
        pretrained: str | None = None,
        train_cfg: dict | None = None,
        fuse_task_loss: bool = False,
    ) -> None:
        if pretrained is not None or train_cfg is not None:
            raise ValueError(
                'Expected `pretrained` and `train_cfg` to be None in an OfflineDistiller, but got '
                f'{pretrained!r} and {train_cfg!r}. Put them into its `student`.'
            )
        model = resolve_model_config(student, 'student')
        if data_preprocessor is not None:
            model.setdefault('data_preprocessor', data_preprocessor)
        network = MODELS.build(model)
        super().__init__(data_preprocessor=network.data_preprocessor)
        # The student's parts are the distiller's own, so that names are the stock ones; the
        # student itself is kept outside of the module tree.
        self.__dict__['student'] = network
        for name, part in network.named_children():
            self.add_module(name, part)
        for name in ('align_corners', 'num_classes', 'out_channels', 'test_cfg'):
            setattr(self, name, getattr(network, name))
        self.teacher_config = teacher
        self.teacher: FrozenTeacher | None = None
        with fork_rng(devices=[]):  # the student starts as it would alone with this seed
            terms = DistillTerms(DistillTerm(entry, network) for entry in distill)
        self.distill_terms: DistillTerms = terms
        self.fused_term = find_fusable(network, terms) if fuse_task_loss else None
        self.register_load_state_dict_post_hook(_forgive_missing_terms)
        self._started = False

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
            teacher = FrozenTeacher(self.teacher_config, self.data_preprocessor)
        if teacher.network.out_channels != self.out_channels:
            raise ValueError(
                f'Expected teacher and student to have the same classes, but the teacher predicts '
                f'{teacher.network.out_channels} and the student {self.out_channels}. Set '
                'decode_head.num_classes alike, or take a teacher trained on this data set.'
            )
        for term in self.distill_terms:
            term.bind_teacher(teacher.network)
        teacher.check_taps([term.teacher_tap for term in self.distill_terms])
        device = next(self.parameters()).device
        teacher.apply_(lambda tensor: tensor.to(device))
        self.teacher = teacher

    def train(self, mode: bool = True) -> 'OfflineDistiller':
        """Set the mode of the student; the teacher stays in eval mode."""
        super().train(mode)
        self.student.train(mode)
        return self

    def _apply(self, fn: Callable, recurse: bool = True) -> 'OfflineDistiller':
        """Let the teacher follow `.to()`, `.cuda()` and the like."""
        super()._apply(fn, recurse)
        if self.teacher is not None:
            self.teacher.apply_(fn)
        return self

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Return the student's own losses and the distillation terms.

        Args:
            inputs: Images, (N, 3, H, W).
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
        if not self._started:
            self._check_class_order()
            self._check_storage()
            self._started = True
        target = torch.stack([sample.gt_sem_seg.data.squeeze(0) for sample in data_samples])
        self._check_labels(target, data_samples)
        teacher_outputs = self.teacher(inputs, [term.teacher_tap for term in self.distill_terms])
        student_taps = [term.student_tap for term in self.distill_terms]
        losses: dict[str, Tensor] = {}
        log: dict[str, Tensor] = {}
        fused = self.fused_term
        joint: AbstractContextManager = nullcontext()
        if fused is not None:
            joint = fuse(self.student, fused, teacher_outputs[fused.teacher_tap], log)
        with record_taps(self.student, student_taps, 'student') as student_outputs, joint:
            losses.update(self.student.loss(inputs, data_samples))
        for term in self.distill_terms:
            if term is fused:
                losses.update(log)
                continue
            losses.update(
                term(student_outputs[term.student_tap], teacher_outputs[term.teacher_tap], target)
            )
        return losses

    def _check_labels(self, target: Tensor, data_samples: list) -> None:
        """Raise ValueError if a label is neither a class nor ignored; names the images."""
        ignore_index = logits_head(self.student).ignore_index
        wrong = (target != ignore_index) & ((target < 0) | (target >= self.num_classes))
        if bool(wrong.any()):
            files = [
                str(getattr(sample, 'seg_map_path', None) or getattr(sample, 'img_path', '?'))
                for sample, bad in zip(data_samples, wrong.flatten(1).any(1), strict=True)
                if bad
            ]
            raise ValueError(
                f'Expected labels from 0 to {self.num_classes - 1} or the ignored '
                f'{ignore_index}, but got {sorted(set(target[wrong].tolist()))[:5]} in '
                f'{", ".join(files)}. Check the label map of the data set (tools/check_data.py).'
            )

    def _check_storage(self) -> None:
        """Warn if projections are trained that no checkpoint will hold."""
        if self.distill_terms.beside_state_dict() and not self.distill_terms.are_stored:
            print_log(
                'Checkpoints will lack the weights of the distillation projections, so that they '
                "start anew on --resume. Add dict(type='DistillStateHook') to custom_hooks.",
                logger='current',
                level=logging.WARNING,
            )

    def _check_class_order(self) -> None:
        """Compare the teacher's class names with the training set's."""
        assert self.teacher is not None
        hub = MessageHub.get_current_instance()
        meta = hub.get_info('dataset_meta') if 'dataset_meta' in hub.runtime_info else None
        classes = tuple((meta or {}).get('classes') or ())
        taught = self.teacher.classes
        if not classes or not taught:
            print_log(
                'The order of the classes could not be compared: the teacher checkpoint or the '
                'data set names none. Make sure that they agree.',
                logger='current',
            )
        elif classes != taught:
            where = [f'{a} / {b}' for a, b in zip(taught, classes, strict=False) if a != b]
            raise ValueError(
                f'Expected the teacher to have the classes of the data set in the same order, but '
                f'{len(taught)} and {len(classes)} differ (teacher / data set): '
                f'{", ".join(where[:5]) or "one has more"}. Retrain the teacher or reorder labels.'
            )

    def extract_feat(self, inputs: Tensor) -> list[Tensor]:
        """Return the student's features."""
        return self.student.extract_feat(inputs)

    def encode_decode(self, inputs: Tensor, batch_data_samples: list) -> Tensor:
        """Return the student's logits at input size."""
        return self.student.encode_decode(inputs, batch_data_samples)

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Predict with the student."""
        return self.student.predict(inputs, data_samples)

    def _forward(self, inputs: Tensor, data_samples: list | None = None) -> Tensor:
        """Return the student's raw logits."""
        return self.student._forward(inputs, data_samples)


def _forgive_missing_terms(module: nn.Module, incompatible_keys: Any) -> None:
    """Load a stock student checkpoint strictly although it holds nothing of the terms."""
    missing = incompatible_keys.missing_keys
    missing[:] = [key for key in missing if not key.startswith('distill_terms.')]
