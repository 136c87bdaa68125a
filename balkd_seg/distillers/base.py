"""What every distiller is: a stock mmseg student that trains with the help of others."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from mmengine.logging import MessageHub, print_log
from mmseg.models.segmentors import BaseSegmentor
from mmseg.registry import MODELS
from torch import Tensor, nn

from balkd_seg.datasets.class_names import differences
from balkd_seg.distillers.binary import check_classes, check_task_loss
from balkd_seg.distillers.distill_term import BesideStateDict, DistillTerm, DistillTerms
from balkd_seg.distillers.failures import blaming
from balkd_seg.distillers.fused_task import TaskLoss, defer_task_loss
from balkd_seg.distillers.labels import check_labels
from balkd_seg.distillers.model_config import resolve_model_config
from balkd_seg.distillers.supported import check_heads
from balkd_seg.distillers.taps import record_taps
from balkd_seg.networks.facts import ignored_label


class Distiller(BaseSegmentor):
    """A student under the names mmseg gives it, whatever stands beside it.

    Prediction, the state dict and the student's parameters are the stock ones, so that every
    checkpoint loads into the student's own config and `paramwise_cfg` is written as without
    distillation. Modules of type `BesideStateDict` are trained but left out of the state dict;
    `DistillStateHook` stores them.

    Args:
        student: `dict(config='mmseg::...' or path, **overrides)` or an inline model dict.
        data_preprocessor: For a student that has none in its model dict; mmengine's Runner passes
            what a config has at its top level.
        pretrained: None; mmseg's `init_model` passes it.
        train_cfg: None; mmseg's `init_model` passes it.
        misplaced: Further arguments, which are refused.

    Raises:
        ValueError: If the config is wrong.
        FileNotFoundError: If it is missing.
    """

    student: BaseSegmentor
    distill_terms: DistillTerms

    def __init__(
        self,
        student: dict,
        data_preprocessor: dict | None = None,
        pretrained: str | None = None,
        train_cfg: dict | None = None,
        misplaced: dict | None = None,
    ) -> None:
        if misplaced:
            name = min(misplaced)
            raise ValueError(
                f'Expected no `{name}` in a {type(self).__name__}, but got '
                f'{name}={misplaced[name]!r}. What belongs to a network stands in that network: '
                f'model.student.{name}, for example.'
            )
        if pretrained is not None or train_cfg is not None:
            raise ValueError(
                f'Expected `pretrained` and `train_cfg` to be None in a {type(self).__name__}, but '
                f'got {pretrained!r} and {train_cfg!r}. Put them into its `student`.'
            )
        model = resolve_model_config(student, 'student', data_preprocessor)
        check_heads(model, 'student')
        network = MODELS.build(model)
        check_classes(network, 'student')
        check_task_loss(network, 'student')
        super().__init__(data_preprocessor=network.data_preprocessor)
        # The student's parts are the distiller's own, so that names are the stock ones; the
        # student itself is kept outside of the module tree.
        self.__dict__['student'] = network
        for name, part in network.named_children():
            self.add_module(name, part)
        for name in ('align_corners', 'num_classes', 'out_channels', 'test_cfg'):
            setattr(self, name, getattr(network, name))
        self.register_load_state_dict_post_hook(_forgive_what_is_beside)
        self._checked = False

    def train(self, mode: bool = True) -> 'Distiller':
        """Set the mode of the student and of what stands beside it."""
        super().train(mode)
        self.student.train(mode)
        return self

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

    def check_peer_classes(self, role: str, network: Any) -> None:
        """Raise ValueError if another network has other classes than the student."""
        check_classes(network, role)
        if network.num_classes != self.num_classes:
            raise ValueError(
                f'Expected the {role} and the student to have the same classes, but the {role} '
                f'predicts {network.num_classes} and the student {self.num_classes}. Set '
                f'decode_head.num_classes alike, or take a {role} trained on this data set.'
            )

    def check_class_order(self, role: str, taught: tuple[str, ...] | None) -> None:
        """Compare the class names of another network's checkpoint with the training set's."""
        hub = MessageHub.get_current_instance()
        meta = hub.get_info('dataset_meta') if 'dataset_meta' in hub.runtime_info else None
        classes = tuple((meta or {}).get('classes') or ())
        if not classes or not taught:
            print_log(
                f'The order of the classes could not be compared: the {role} checkpoint or the '
                'data set names none. Make sure that they agree.',
                logger='current',
            )
            return
        found = differences(taught, classes)
        if len(taught) != len(classes):
            found.append(f'{len(taught)} names / {len(classes)}')
        if found:
            setting = f'model.{"peers." if hasattr(self, "peers") else ""}{role}.classes'
            raise ValueError(
                f'Expected the {role} to have the classes of the data set in the same order, but '
                f'they differ ({role} / data set): {", ".join(found[:5])}. Retrain the {role} or '
                'reorder labels. If these are other words for the same classes, say so: '
                f'{setting}=[...] with the names of the data set, in the order of the {role}.'
            )

    def check_storage(self, what: str) -> None:
        """Warn if something is trained that no checkpoint will hold."""
        if not self.distill_terms.are_stored:
            print_log(
                f'Checkpoints will lack {what}, so that training cannot be resumed as it was. Add '
                "dict(type='DistillStateHook') to custom_hooks.",
                logger='current',
                level=logging.WARNING,
            )

    def labels_of(self, data_samples: list) -> Tensor:
        """Return the labels of a batch, (N, H, W).

        Raises:
            ValueError: If a label is neither a class nor ignored; names the images.
        """
        target = torch.stack([sample.gt_sem_seg.data.squeeze(0) for sample in data_samples])
        ignored = ignored_label(self.student)
        check_labels(target, data_samples, self.student, self.num_classes, ignored)
        return target


class Step(NamedTuple):
    """A network's training step before distillation.

    Attributes:
        losses: The network's own losses.
        outputs: The output of each tap.
        task: What the main head's loss is computed from, if that was deferred.
    """

    losses: dict[str, Tensor]
    outputs: dict[str, Tensor]
    task: TaskLoss | None

    @classmethod
    def run(
        cls,
        network: BaseSegmentor,
        role: str,
        inputs: Tensor,
        data_samples: list,
        taps: Sequence[str],
        deferred: bool,
    ) -> 'Step':
        """Run a training step of a network up to its losses.

        Args:
            network: An mmseg segmentor.
            role: Its name in messages.
            inputs: Images, (N, channels, H, W).
            data_samples: N `SegDataSample`.
            taps: Dotted module paths.
            deferred: Whether the loss of the main head is left to `learn`.

        Raises:
            ValueError: From what the network itself raises; names it and its input size.
        """
        with record_taps(network, taps, role) as outputs:
            if not deferred:
                with blaming(network, role, inputs, data_samples):
                    return cls(network.loss(inputs, data_samples), outputs, None)
            with defer_task_loss(network) as task, blaming(network, role, inputs, data_samples):
                return cls(network.loss(inputs, data_samples), outputs, task)

    def learn(
        self,
        terms: Iterable[DistillTerm],
        fused: DistillTerm | None,
        taught: Callable[[DistillTerm], Tensor],
        target: Tensor,
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return the network's own losses, and the entries of its terms.

        Args:
            terms: What the network learns from others.
            fused: Which of them is computed with the deferred loss of the main head.
            taught: Gives the teacher's output for a term.
            target: Labels, (N, H, W).
        """
        own, log = self.losses, {}
        for term in terms:
            if not term.is_active:
                log.update(term.at_rest())
            elif term is fused:
                assert self.task is not None
                head, entries = self.task.with_term(term, taught(term))
                own, log = {**own, **head}, {**log, **entries}
            else:
                log.update(term(self.outputs[term.student_tap], taught(term), target))
        return own, log


def _forgive_what_is_beside(module: nn.Module, incompatible_keys: Any) -> None:
    """Load a stock student checkpoint strictly although it holds nothing of what is beside."""
    beside = [n for n, part in module.named_children() if isinstance(part, BesideStateDict)]
    prefixes = tuple(f'{name}.' for name in beside)
    missing = incompatible_keys.missing_keys
    missing[:] = [key for key in missing if not key.startswith(prefixes)]
