"""Any metric for several networks that were validated in one run."""

import logging
from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmseg.registry import METRICS


@METRICS.register_module()
class NetworksMetric(BaseMetric):
    """Score every network of a `MutualDistiller`: `student/mIoU`, `teacher/mIoU`, and so on.

    Args:
        metric: What to score each network with: the config of a metric that reads `pred_sem_seg`
            and `seg_logits`, such as `IoUMetric` and `CalibrationMetric`, or a list of them.
        networks: 'student' and the names of peers. A peer without predictions, because the
            checkpoint is a student's alone, is left out with a warning.

    Raises:
        ValueError: If there is nothing to score.
    """

    def __init__(
        self, metric: dict | Sequence[dict], networks: Sequence[str] = ('student', 'teacher')
    ) -> None:
        super().__init__()
        configs = [metric] if isinstance(metric, dict) else list(metric)
        if not configs or not networks:
            raise ValueError(
                f'Expected at least one entry in `metric` and `networks`, but got {configs} and '
                f'{list(networks)}.'
            )
        self.metrics = {
            network: [METRICS.build(dict(config)) for config in configs] for network in networks
        }
        self.left_out: set[str] = set()

    @property
    def dataset_meta(self) -> dict | None:
        """Meta information of the data set."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        self._dataset_meta = meta
        for metric in (metric for metrics in self.metrics.values() for metric in metrics):
            metric.dataset_meta = meta

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Pass each network's predictions to its metrics.

        Args:
            data_batch: What the data loader gave.
            data_samples: Predictions as dicts.
        """
        for network, metrics in self.metrics.items():
            keys = {key: f'{network}_{key}' for key in ('pred_sem_seg', 'seg_logits')}
            if network != 'student' and any(keys['pred_sem_seg'] not in s for s in data_samples):
                self.left_out.add(network)
                continue
            own = [dict(sample) for sample in data_samples]
            if network != 'student':
                for sample in own:
                    sample.update({key: sample[name] for key, name in keys.items()})
            for metric in metrics:
                metric.process(data_batch, own)

    def evaluate(self, size: int) -> dict[str, float]:
        """Return the scores of every network, its name in front, and start anew.

        Args:
            size: Number of images in the data set.
        """
        scores: dict[str, float] = {}
        for network, metrics in self.metrics.items():
            if network in self.left_out:
                print_log(
                    f'There are no predictions of {network}: it is not scored.',
                    logger='current',
                    level=logging.WARNING,
                )
                continue
            print_log(f'Scores of {network}:', logger='current')
            for metric in metrics:
                scores.update({f'{network}/{k}': v for k, v in metric.evaluate(size).items()})
        self.left_out.clear()
        return scores

    def compute_metrics(self, results: list) -> dict:
        """Never called: the metrics inside compute their own."""
        raise NotImplementedError
