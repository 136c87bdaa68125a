"""How far a network's probabilities can be trusted, measured beside mIoU."""

from collections.abc import Sequence
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmseg.registry import METRICS
from prettytable import PrettyTable
from torch import Tensor

from balkd_seg.datasets.loading import IGNORE_INDEX
from balkd_seg.metrics.calibration import (
    CalibrationSums,
    calibration_bins,
    calibration_errors,
    calibration_scores,
    calibration_sums,
    check_bins,
)
from balkd_seg.metrics.predictions import class_logits_of


@METRICS.register_module()
class CalibrationMetric(BaseMetric):
    """Calibration of the softmax of `seg_logits`, over all pixels of all images that have a label.

    N valid pixels, C classes, B bins; conf is the probability of the predicted class, acc its
    share of hits, p_c the probability of class c and y_c the share of pixels labelled c:

    - `ECE`, expected calibration error, per cent: `Σ_b N_b / N · |acc_b - conf_b|`, 0 to 100.
    - `MCE`, maximum calibration error, per cent: the largest `|acc_b - conf_b|` of a bin with
      pixels, however few.
    - `cECE`, class-wise ECE, per cent: mean over all C classes of `Σ_b N_cb / N · |y_cb - p_cb|`,
      each class in bins of p_c, over all N pixels. Small by nature: most p_c are near 0.
    - `NLL`, mean of -log p of the label, in nats; infinite where a label was ruled out.
    - `Brier`, mean of `Σ_c (p_c - [c is the label])²`, 0 to 2.

    The log also shows the histogram of confidence and the ECE of every class.

    Memory does not grow with pixels or images: float64 sums are kept, those of the last image
    apart. Several processes give the result of one, because the image that a sampler gives some of
    them twice, to make all alike, is their last and is left out.

    `'equal-mass'` bins hold about N / B pixels each, in every class; `calibration_bins` says how.

    Logits are as `IoUMetric` sees them, resized to the original image. A network with one sigmoid
    channel has two classes, with probabilities 1 - p and p; the predicted class is the likelier
    one, whatever the `threshold` that mmseg predicts with, and p = 1 counts as 1 - 2⁻²⁵, because
    float32 has nothing between. Test-time augmentation is refused: it averages probabilities and
    keeps the logits of one view only.

    Args:
        num_bins: B.
        binning: `'equal-width'` or `'equal-mass'`.
        ignore_index: Label of pixels that do not count. None: that of the network's head, which
            `CheckDataHook` tells; without the hook 255, as in `IoUMetric`, and the log says so.
        collect_device: `'cpu'` or `'gpu'`, as in any mmengine metric.
        prefix: Put before the names, as in any mmengine metric.

    Raises:
        ValueError: If a setting is out of range; while testing, if predictions do not fit.

    Reference:
        Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599
        (ECE, MCE); Kull et al., https://arxiv.org/abs/1910.12656 (class-wise ECE); Nixon et al.,
        https://arxiv.org/abs/1904.01685 (bins of equal mass).
    """

    def __init__(
        self,
        num_bins: int = 15,
        binning: str = 'equal-width',
        ignore_index: int | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        check_bins(num_bins, binning)
        self.results: list[CalibrationSums] = []  # of all images but the last; of the last
        self.num_bins = num_bins
        self.binning = binning
        self.ignore_index = ignore_index
        self.num_images = 0

    def tell_ignored_label(self, label: int | None) -> None:
        """Take which label the network's head ignores, unless the config says what to ignore."""
        if self.ignore_index is None:
            self.ignore_index = label

    def process(self, data_batch: Any, data_samples: Sequence[dict]) -> None:
        """Add the images of a batch.

        Args:
            data_batch: Not used.
            data_samples: Predictions with `seg_logits` and `gt_sem_seg`.
        """
        for sample in data_samples:
            self.results.append(self._sums(sample))
            self.num_images += 1
            if len(self.results) == 3:
                self.results[:2] = [self.results[0] + self.results[1]]

    def evaluate(self, size: int) -> dict[str, float]:
        """Return the scores over all processes, and start anew.

        Args:
            size: Number of images in the data set.

        Raises:
            ValueError: If this process tested more images than its share and one.
        """
        rank, world_size = get_dist_info()
        surplus = self.num_images - len(range(rank, size, world_size))
        if surplus > 1:
            raise ValueError(
                f'Expected process {rank} of {world_size} to test its share of {size} images, or '
                f'one more, but it tested {self.num_images}. Use a sampler that gives every image '
                'once, such as DefaultSampler.'
            )
        if surplus == 1:
            self.results.pop()
        if self.results:
            total = sum(self.results[1:], self.results[0])
            self.results = [CalibrationSums(total.totals.cpu(), total.cells.cpu())]
        self.num_images = 0
        return super().evaluate(world_size)

    def compute_metrics(self, results: list[CalibrationSums]) -> dict[str, float]:
        """Return the scores and log the tables.

        Args:
            results: The sums of each process.

        Raises:
            ValueError: If no image was tested.
        """
        if not results:
            raise ValueError('Expected at least one tested image, but got none.')
        if self.ignore_index is None:
            print_log(
                f'CalibrationMetric goes by itself: label {IGNORE_INDEX} does not count. If the '
                "network ignores another, add dict(type='CheckDataHook') to custom_hooks, or set "
                '`ignore_index`.',
                logger='current',
            )
        sums = sum(results[1:], results[0])
        bins = calibration_bins(sums, self.num_bins, self.binning)
        classes = (self.dataset_meta or {}).get('classes') or range(bins.shape[1] - 1)
        table = _confidence_table(bins[:, 0])
        print_log(f'confidence in the predicted class, in per cent:\n{table}', logger='current')
        table = _class_table(classes, calibration_errors(bins)[1:])
        print_log(f'calibration error of each class, in per cent:\n{table}', logger='current')
        return calibration_scores(sums, bins)

    def _sums(self, sample: dict) -> CalibrationSums:
        """Return the sums of one image, or say which image cannot be used."""
        names = ('seg_logits', 'pred_sem_seg', 'gt_sem_seg')
        missing = [name for name in names if name not in sample]
        if missing:
            raise ValueError(
                f'Expected every prediction to come with {", ".join(names)}, but '
                f'{", ".join(missing)} is missing. Calibration is measured on labelled images.'
            )
        logits, prediction, target = (sample[name]['data'] for name in names)
        try:
            logits, prediction = class_logits_of(logits, prediction.squeeze(0))
            return calibration_sums(
                logits,
                prediction,
                target.squeeze(0).to(logits.device),
                num_bins=self.num_bins,
                binning=self.binning,
                ignore_index=IGNORE_INDEX if self.ignore_index is None else self.ignore_index,
            )
        except ValueError as error:
            raise ValueError(f'{error} Image: {sample.get("img_path")}.') from error


def _confidence_table(bins: Tensor) -> PrettyTable:
    """Return the histogram of confidence, (3, B), and how often each bin is right, in per cent."""
    table = PrettyTable(['Bin', 'Pixels', 'Confidence', 'Accuracy', 'Gap'])
    shares = (100 * bins[0] / bins[0].sum()).tolist()
    means = (100 * bins[1:] / bins[0]).T.tolist()
    for index, (share, (confidence, accuracy)) in enumerate(zip(shares, means, strict=True)):
        cells = (confidence, accuracy, confidence - accuracy) if share else ()
        texts = [f'{cell:.2f}' for cell in (share, *cells)]
        table.add_row([index + 1, *texts, *['-'] * (4 - len(texts))])
    return table


def _class_table(classes: Sequence, errors: Tensor) -> PrettyTable:
    """Return the calibration error of each class, in per cent."""
    table = PrettyTable(['Class', 'ECE'])
    for name, error in zip(classes, errors.tolist(), strict=True):
        table.add_row([name, f'{error:.2f}'])
    return table
