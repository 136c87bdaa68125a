"""Calibration of per-pixel class probabilities, from sums that add up over images; torch only.

C classes, H, W image size, N valid pixels, R = 1 + C rows, F cells, B bins, n pixels of a chunk.

Probabilities p are the softmax of the logits. Each pixel counts once in every row: row 0 is the
predicted class (probability `max_c p_c`, a hit if it is the label), row 1 + c is class c
(probability `p_c`, a hit if the label is c). A row is divided into cells by probability, each with
its lower edge, and a cell keeps three sums: pixels, probability, hits. With `'equal-width'` the
cells are the bins; with `'equal-mass'` they are fine, and `calibration_bins` joins them. So memory
depends on C and F alone, never on how many pixels came by.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BINNINGS = ('equal-width', 'equal-mass')
# Fine cells have equal width in log-odds, log(p / (1 - p)). The first takes every p below 0.0003
# as well; above the last edge float32 does not tell p from 1.
FINE_CELLS, LOWEST, HIGHEST = 2048, -8.0, 16.0


@dataclass(frozen=True)
class CalibrationSums:
    """What is added up over pixels, all float64, so that counts are exact.

    Attributes:
        totals: Valid pixels; `-log p` of the label, in nats; `Σ_c (p_c - [c is the label])²`, (3,).
        cells: Pixels, probability and hits in each cell of each row, (3, R, F).
    """

    totals: Tensor
    cells: Tensor

    def __add__(self, other: 'CalibrationSums') -> 'CalibrationSums':
        return CalibrationSums(self.totals + other.totals, self.cells + other.cells)


def calibration_sums(
    logits: Tensor,
    prediction: Tensor,
    target: Tensor,
    *,
    num_bins: int = 15,
    binning: str = 'equal-width',
    ignore_index: int = 255,
) -> CalibrationSums:
    """Return the sums of one image, from one pass over its logits in chunks.

    Args:
        logits: (C, H, W), any floating dtype; computed in float32, float64 stays float64.
        prediction: Their argmax, as it counts for mIoU, (H, W).
        target: Labels from 0 to C - 1, or `ignore_index`, (H, W).
        num_bins: B.
        binning: `'equal-width'` or `'equal-mass'`.
        ignore_index: Label of pixels that do not count.

    Returns:
        The sums, on the device of the logits.

    Raises:
        ValueError: If shapes or settings do not fit, a label is no class, the prediction is not
            the argmax, or a logit is NaN or +inf (-inf is a class ruled out).

    Examples:
        >>> logits = torch.tensor([[[2.0, 0.0]], [[0.0, 1.0]]])
        >>> sums = calibration_sums(logits, logits.argmax(0), torch.tensor([[0, 255]]))
        >>> [round(total, 4) for total in sums.totals.tolist()]
        [1.0, 0.1269, 0.0284]
    """
    check_bins(num_bins, binning)
    check_inputs(logits, prediction, target, ignore_index)
    num_classes, num_cells = len(logits), num_bins if binning == 'equal-width' else FINE_CELLS
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    # on a CPU a chunk stays in the cache; a GPU wants few large kernels
    size = 2**16 if logits.device.type == 'cpu' else 2**20
    pixels, predictions = logits.detach().flatten(1), prediction.flatten()
    labels = target.flatten().long()
    buffer = torch.empty(num_classes * min(size, len(labels)), dtype=wide, device=logits.device)
    totals = torch.zeros(3, dtype=torch.float64, device=logits.device)
    class_probability = totals.new_zeros(num_classes)
    cells = totals.new_zeros(3, 1 + num_classes, num_cells)
    for start in range(0, len(labels), size):
        chunk = pixels[:, start : start + size].to(wide)
        label = labels[start : start + size]
        valid = label != ignore_index
        label = label.where(valid, 0)
        predicted = predictions[start : start + size]
        p, confidence, log_norm = _softmax(chunk, predicted, valid, buffer)
        nll = (log_norm - chunk.gather(0, label[None])[0]).where(valid, 0)
        of_label = p.gather(0, label[None])[0]
        brier = (p * p).sum(0) - 2 * of_label + valid
        totals += torch.stack([x.sum(dtype=torch.float64) for x in (valid, nll, brier)])
        class_probability += p.sum(1, dtype=torch.float64)
        hit = (predicted == label) & valid
        _add_predicted(cells, binning, confidence, valid, hit)
        _add_classes(cells, binning, p, of_label, label, valid)
    # `_add_classes` leaves out the mass of pixels in the first cell: it is what the others lack
    cells[0, 1:, 0] += totals[0] - cells[0, 1:].sum(1)
    cells[1, 1:, 0] += class_probability - cells[1, 1:].sum(1)
    return CalibrationSums(totals, cells)


def calibration_bins(sums: CalibrationSums, num_bins: int, binning: str) -> Tensor:
    """Return pixels, probability and hits in each bin of each row, (3, R, B).

    An equal-mass bin joins whole fine cells, each 1.2 % wide in odds: a cell goes to the bin in
    which its middle pixel falls. No cell is split, so bins are unequal or empty where a cell holds
    more than N / B pixels.

    Args:
        sums: Over any number of images.
        num_bins: B, as given to `calibration_sums`.
        binning: As given to `calibration_sums`.
    """
    if binning == 'equal-width':
        return sums.cells
    pixels = sums.cells[0]
    middle = pixels.cumsum(1) - pixels / 2
    index = (middle * num_bins / sums.totals[0].clamp(min=1)).long().clamp_(max=num_bins - 1)
    bins = sums.cells.new_zeros(*sums.cells.shape[:2], num_bins)
    return bins.scatter_add_(2, index.expand(3, -1, -1), sums.cells)


def calibration_errors(bins: Tensor) -> Tensor:
    """Return the expected calibration error of each row in per cent, (R,).

    `100 · Σ_b |probability_b - hits_b| / N`, sums over the pixels of bin b. NaN without pixels.

    Args:
        bins: From `calibration_bins`, (3, R, B).
    """
    pixels, probability, hits = bins
    return 100 * (probability - hits).abs().sum(1) / pixels.sum(1)


def calibration_scores(sums: CalibrationSums, bins: Tensor) -> dict[str, float]:
    """Return the scores that `CalibrationMetric` reports; its docstring defines them.

    Args:
        sums: Over any number of images.
        bins: From `calibration_bins` of these sums.
    """
    errors = calibration_errors(bins)
    pixels, probability, hits = bins[:, 0]
    largest = ((probability - hits).abs() / pixels)[pixels > 0]
    nll, brier = (sums.totals[1:] / sums.totals[0]).tolist()
    return {
        'ECE': float(errors[0]),
        'MCE': float(100 * largest.max()) if len(largest) else float('nan'),
        'cECE': float(errors[1:].mean()),
        'NLL': nll,
        'Brier': brier,
    }


def check_bins(num_bins: int, binning: str) -> None:
    """Raise ValueError unless the settings name bins."""
    if binning not in BINNINGS:
        raise ValueError(f'Expected `binning` to be one of {BINNINGS}, but got {binning!r}.')
    if not isinstance(num_bins, int) or num_bins < 1:
        raise ValueError(f'Expected `num_bins` to be an integer above 0, but got {num_bins!r}.')


def check_inputs(logits: Tensor, prediction: Tensor, target: Tensor, ignore_index: int) -> None:
    """Raise ValueError unless logits (C, H, W), argmax (H, W) and labels (H, W) fit together."""
    if logits.dim() != 3 or not logits.is_floating_point() or len(logits) < 2:
        raise ValueError(
            'Expected floating logits (C, H, W) of at least two classes, but got '
            f'{tuple(logits.shape)} of {logits.dtype}. One sigmoid channel stands for two classes: '
            '`class_logits_of` makes their logits of it.'
        )
    for name, labels in (('prediction', prediction), ('target', target)):
        if labels.shape != logits.shape[1:] or labels.is_floating_point():
            raise ValueError(
                f'Expected the {name} to be integers of shape {tuple(logits.shape[1:])}, as the '
                f'logits, but got {tuple(labels.shape)} of {labels.dtype}. In a test pipeline '
                'labels are loaded after `Resize`, so that they keep the original size.'
            )
    target = target.long()  # which holds any `ignore_index`
    wrong = (target != ignore_index) & ((target < 0) | (target >= len(logits)))
    if wrong.any():
        raise ValueError(
            f'Expected labels from 0 to {len(logits) - 1} or {ignore_index} (ignored), but got '
            f'{int(target[wrong][0])}. Check the number of classes, `reduce_zero_label` and '
            '`ignore_index`.'
        )


def _softmax(
    logits: Tensor, predicted: Tensor, valid: Tensor, buffer: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return p (C, n), its maximum and the log of its normaliser, both (n,).

    p and its maximum are 0 in pixels that are not valid. p lies in the buffer.
    """
    top = logits.amax(0)
    p = torch.sub(logits, top, out=buffer[: logits.numel()].view_as(logits)).exp_()
    norm = p.sum(0)
    if not norm.isfinite().all():
        raise ValueError(
            'Expected finite logits, but got NaN, +inf, or -inf in every class. Check the '
            'checkpoint and its normalisation, or test in float32.'
        )
    if (logits.gather(0, predicted[None])[0] != top).any():
        raise ValueError(
            'Expected the prediction to be the argmax of the logits, but it is not. Test-time '
            'augmentation averages probabilities and keeps the logits of one view: test without.'
        )
    confidence = valid / norm
    return p.mul_(confidence), confidence, norm.log() + top


def _cell_of(p: Tensor, num_cells: int, binning: str) -> Tensor:
    """Return the cell of each probability, int64, in the shape of p."""
    if binning == 'equal-width':
        position = p * num_cells
    else:
        position = (p.logit() - LOWEST) * (num_cells / (HIGHEST - LOWEST))
    return position.clamp_(0, num_cells - 1).long()


def _first_edge(num_cells: int, binning: str) -> float:
    """Return a probability a hair below the second cell."""
    if binning == 'equal-width':
        return (1 - 1e-6) / num_cells
    edge = torch.tensor(LOWEST + (HIGHEST - LOWEST) / num_cells, dtype=torch.float64)
    return (1 - 1e-6) * float(edge.sigmoid())


def _add(cells: Tensor, kind: int, place: Tensor, value: Tensor) -> None:
    """Add values where they belong; `place` counts through the rows and cells of one kind."""
    cells[kind].view(-1).index_add_(0, place, value.double())


def _add_predicted(
    cells: Tensor, binning: str, confidence: Tensor, valid: Tensor, hit: Tensor
) -> None:
    """Add a chunk to the row of the predicted class; all (n,), 0 where a pixel is not valid."""
    place = _cell_of(confidence, cells.shape[2], binning)
    for kind, value in enumerate((valid, confidence, hit)):
        _add(cells, kind, place, value)


def _add_classes(
    cells: Tensor, binning: str, p: Tensor, of_label: Tensor, label: Tensor, valid: Tensor
) -> None:
    """Add a chunk to the rows of the classes, without pixels and probability of the first cell.

    Most probabilities are tiny; only the others are sorted into cells one by one.

    Args:
        cells: Added to.
        binning: Of the cells.
        p: (C, n).
        of_label: p of the label, (n,).
        label: From 0 to C - 1, anything where a pixel is not valid, (n,).
        valid: (n,).
    """
    num_cells = cells.shape[2]
    index = (p.flatten() >= _first_edge(num_cells, binning)).nonzero()[:, 0]
    value = p.flatten()[index]
    row = 1 + index.div(p.shape[1], rounding_mode='floor')
    place = row * num_cells + _cell_of(value, num_cells, binning)
    _add(cells, 0, place, torch.ones_like(value))
    _add(cells, 1, place, value)
    _add(cells, 2, (1 + label) * num_cells + _cell_of(of_label, num_cells, binning), valid)
