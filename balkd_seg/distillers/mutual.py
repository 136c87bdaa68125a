"""Online distillation: networks that train together and learn from each other."""

import copy
from typing import Any

from mmseg.models.segmentors import BaseSegmentor
from mmseg.registry import MODELS
from torch import Tensor
from torch.random import fork_rng

from balkd_seg.distillers.base import Distiller, Step
from balkd_seg.distillers.binary import check_task_loss
from balkd_seg.distillers.distill_term import DistillTerm, DistillTerms
from balkd_seg.distillers.fused_task import find_fusable
from balkd_seg.distillers.peers import Peers


@MODELS.register_module()
class MutualDistiller(Distiller):
    """Train a student and its peers in one step, each with its own task loss and its own terms.

    `loss` = the own losses of every network + the terms of `distill`. Each network runs once a
    step; a term sees the other network's output of that run, detached. BD-KD, deep mutual learning
    and cohorts of more than two differ in `distill` and `peers` alone.

    The state dict is the student's, under the names mmseg gives it; `DistillStateHook` stores the
    peers beside it. Parameters of a peer are called `peers.<name>.backbone...`, which is how
    `paramwise_cfg` reaches them. In evaluation every peer whose weights are known predicts as well,
    under `<name>_pred_sem_seg` and `<name>_seg_logits`, for `NetworksMetric`.

    Args:
        student: `dict(config='mmseg::...' or path, **overrides)` or an inline model dict.
        peers: The same for each other network, by name: `dict(teacher=dict(config=...))`; with
            `checkpoint` (file or URL) it starts from there, and with `classes` its class names are
            not those of its checkpoint. The student starts from `load_from`.
        distill: One dict per term: the loss (`type` and its arguments), `learner`, the name of the
            network that learns (default: 'student'), `source`, the one it learns from (default:
            the other one, if there are two), and where it looks, see `DistillTerm`:
            `student_tap` is the learner's, `teacher_tap` the source's.
        data_preprocessor: For networks that have none in their own config; mmengine's Runner passes
            what a config has at its top level.
        pretrained: None; mmseg's `init_model` passes it.
        train_cfg: None; mmseg's `init_model` passes it.
        fuse_task_loss: Whether each learner's main cross-entropy and its first divergence are
            computed in one pass, as in `OfflineDistiller`.

        misplaced: None; refused, with the place where it belongs.

    Raises:
        ValueError: If a config, name, tap or loss setting is wrong.
        FileNotFoundError: If a config is missing.

    Reference:
        BD-KD: Balancing the Divergences for Online Knowledge Distillation,
        https://arxiv.org/abs/2212.12965
        Deep Mutual Learning, https://arxiv.org/abs/1706.00384
    """

    def __init__(
        self,
        student: dict,
        peers: dict[str, dict],
        distill: list[dict],
        data_preprocessor: dict | None = None,
        pretrained: str | None = None,
        train_cfg: dict | None = None,
        fuse_task_loss: bool = False,
        **misplaced: Any,
    ) -> None:
        super().__init__(student, data_preprocessor, pretrained, train_cfg, misplaced)
        self.peers = Peers(peers, self.student, data_preprocessor)
        for name in self.peers:
            self.check_peer_classes(name, self.peers.network(name))
            check_task_loss(self.peers.network(name), name)
        self.sources: list[str] = []
        with fork_rng(devices=[]):  # the student starts as it would alone with this seed
            self.distill_terms = DistillTerms(self._term(entry) for entry in distill)
        self.fused: dict[str, DistillTerm | None] = dict.fromkeys(self.networks())
        if fuse_task_loss:
            for name, network in self.networks().items():
                if self._terms_of(name):
                    self.fused[name] = find_fusable(network, self._terms_of(name))

    def networks(self) -> dict[str, BaseSegmentor]:
        """Return all networks by name, the student first."""
        return {'student': self.student, **{name: self.peers.network(name) for name in self.peers}}

    def init_weights(self) -> None:
        """Initialise every network, load the peers' checkpoints; the Runner calls it to train."""
        self.student.init_weights()
        self.peers.start()

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Return the own losses of every network and the distillation terms.

        Args:
            inputs: Images, (N, channels, H, W).
            data_samples: N `SegDataSample` with `gt_sem_seg` of shape (1, H, W).

        Returns:
            What trains under keys with `loss` (`decode.loss_ce`, `distill.loss_balkd`,
            `teacher.decode.loss_ce`, `teacher.distill.loss_kd`), what is only watched under keys
            without (`distill.balkd_forward`, `teacher.decode.acc_seg`).

        Raises:
            ValueError: If labels lie outside of the classes, or a peer's class order differs.
        """
        if not self._checked:
            for name, classes in self.peers.classes.items():
                self.check_class_order(name, classes)
            self.check_storage(f'the peers {", ".join(self.peers)}')
            self._checked = True
        target = self.labels_of(data_samples)
        steps: dict[str, Step] = {}
        for name, network in self.networks().items():
            images = inputs if name == 'student' else self.peers.images(name, inputs)
            fused = self.fused[name]
            deferred = fused is not None and fused.is_active
            steps[name] = Step.run(network, name, images, data_samples, self._taps(name), deferred)
        source_of = dict(zip(self.distill_terms, self.sources, strict=True))

        def taught(term: DistillTerm) -> Tensor:
            return steps[source_of[term]].outputs[term.teacher_tap].detach()

        losses: dict[str, Tensor] = {}
        for name, step in steps.items():
            own, log = step.learn(self._terms_of(name), self.fused[name], taught, target)
            prefix = '' if name == 'student' else f'{name}.'
            losses.update({f'{prefix}{key}': value for key, value in own.items()})
            losses.update(log)
        return losses

    def predict(self, inputs: Tensor, data_samples: list | None = None) -> list:
        """Predict with the student, and with every peer whose weights are known.

        Args:
            inputs: Images, (N, channels, H, W).
            data_samples: N `SegDataSample`, or None.

        Returns:
            The student's data samples as mmseg gives them; the peers' `pred_sem_seg` and
            `seg_logits` stand in them too, with the peer's name in front.
        """
        bare = copy.deepcopy(data_samples)
        results = self.student.predict(inputs, data_samples)
        for name in self.peers if self.peers.is_trained else ():
            network = self.peers.network(name)
            others = network.predict(self.peers.images(name, inputs), copy.deepcopy(bare))
            for result, other in zip(results, others, strict=True):
                result.set_data(
                    {f'{name}_{key}': other.get(key) for key in ('pred_sem_seg', 'seg_logits')}
                )
        return results

    def _term(self, entry: dict) -> DistillTerm:
        """Build an entry of `distill` and note whom it learns from."""
        entry, networks = dict(entry), self.networks()
        learner = entry.pop('learner', 'student')
        others = [name for name in networks if name != learner]
        source = entry.pop('source', others[0] if len(others) == 1 else None)
        if learner not in networks or source not in others:
            raise ValueError(
                f'Expected `learner` and `source` of an entry of `distill` to be two of '
                f'{list(networks)}, but got {learner!r} and {source!r}.'
            )
        term = DistillTerm(entry, networks[learner], learner)
        term.bind_teacher(networks[source], source)
        self.sources.append(source)
        return term

    def _terms_of(self, learner: str) -> list[DistillTerm]:
        return [term for term in self.distill_terms if term.learner == learner]

    def _taps(self, name: str) -> list[str]:
        """Return where a network is looked at, as a learner and as a source.

        Also for terms without weight: a compiled forward does not notice hooks that come later.
        """
        taps: dict[str, Any] = {}
        for term, source in zip(self.distill_terms, self.sources, strict=True):
            if term.learner == name:
                taps[term.student_tap] = None
            if source == name:
                taps[term.teacher_tap] = None
        return list(taps)
