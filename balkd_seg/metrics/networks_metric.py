"""Any metric for several networks that were validated in one run."""

import os
from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS

from balkd_seg.kinds import is_kind
from balkd_seg.metrics.calibration_metric import CalibrationMetric

_PREDICTIONS = ('pred_sem_seg', 'seg_logits')


@METRICS.register_module()
class NetworksMetric(BaseMetric):
    """Score every network of a `MutualDistiller`: `student/mIoU`, `teacher/mIoU`, and so on.

    All networks are scored whose predictions there are: of a checkpoint that is a student's alone
    only the student.

    Args:
        metric: What to score each network with: the config of a metric that reads `pred_sem_seg`
            and `seg_logits`, such as `IoUMetric` and `CalibrationMetric`, or a list of them.
        output_dir: Folder for the predicted label maps, one folder in it for each network, if an
            `IoUMetric` is there to write them; `--out` of the test scripts sets it.
        keep_results: Set by those scripts too; changes nothing.

    Raises:
        ValueError: If there is nothing to score.
    """

    def __init__(
        self,
        metric: dict | Sequence[dict],
        output_dir: str | None = None,
        keep_results: bool = False,
    ) -> None:
        super().__init__()
        self.configs = [metric] if isinstance(metric, dict) else list(metric)
        if not self.configs:
            raise ValueError('Expected at least one entry in `metric`, but got none.')
        self.output_dir = output_dir
        self.ignored_labels: dict[str, int] = {}  # of each network's head
        self.metrics: dict[str, list[BaseMetric]] = {}
        self._of('student')

    @property
    def dataset_meta(self) -> dict | None:
        """Meta information of the data set."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        self._dataset_meta = meta
        for metric in (metric for metrics in self.metrics.values() for metric in metrics):
            metric.dataset_meta = meta

    def tell_ignored_labels(self, labels: dict[str, int]) -> None:
        """Take which label does not count for each network, for metrics that do not say."""
        self.ignored_labels = labels
        for network, metrics in self.metrics.items():
            for metric in metrics:
                if isinstance(metric, CalibrationMetric):
                    metric.tell_ignored_label(labels.get(network))

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Pass the predictions of each network to its metrics.

        Args:
            data_batch: What the data loader gave.
            data_samples: Predictions as dicts.
        """
        for network in _networks(data_samples):
            own = [dict(sample) for sample in data_samples]
            if network != 'student':
                for sample in own:
                    sample.update({key: sample[f'{network}_{key}'] for key in _PREDICTIONS})
            for metric in self._of(network):
                metric.process(data_batch, own)

    def evaluate(self, size: int) -> dict[str, float]:
        """Return the scores of every network, its name in front, and start anew.

        Args:
            size: Number of images in the data set.
        """
        scores: dict[str, float] = {}
        for network, metrics in self.metrics.items():
            print_log(f'Scores of {network}:', logger='current')
            for metric in metrics:
                scores.update({f'{network}/{k}': v for k, v in metric.evaluate(size).items()})
        return scores

    def _of(self, network: str) -> list[BaseMetric]:
        """Return the metrics of a network; build them when it is first seen."""
        if network not in self.metrics:
            self.metrics[network] = [self._build(config, network) for config in self.configs]
        return self.metrics[network]

    def _build(self, config: dict, network: str) -> BaseMetric:
        config = dict(config)
        if self.output_dir and is_kind(config, METRICS, IoUMetric):
            config['output_dir'] = os.path.join(self.output_dir, network)
        metric = METRICS.build(config)
        if isinstance(metric, CalibrationMetric):
            metric.tell_ignored_label(self.ignored_labels.get(network))
        metric.dataset_meta = self._dataset_meta
        return metric

    def compute_metrics(self, results: list) -> dict:
        """Never called: the metrics inside compute their own."""
        raise NotImplementedError


def _networks(data_samples: Sequence[dict]) -> list[str]:
    """Return the networks that predicted every sample, the student first."""
    suffix = f'_{_PREDICTIONS[0]}'
    names = [key.removesuffix(suffix) for key in data_samples[0] if key.endswith(suffix)]
    return ['student', *(n for n in names if all(f'{n}{suffix}' in s for s in data_samples))]
