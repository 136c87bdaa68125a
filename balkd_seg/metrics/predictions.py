"""What mmseg leaves in a prediction, as logits of every class and their argmax; torch only."""

from torch import Tensor

from balkd_seg.ops._binary import two_class_log_probabilities


def class_logits_of(seg_logits: Tensor, prediction: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits of every class, (C, H, W), and the class that they name, (H, W).

    Of a network with one sigmoid channel mmseg keeps the probability p of class 1, and predicts
    class 1 where p is above the head's `threshold` (0.3 by default). Logits are then `log(1 - p)`
    and `log p`, and the class is the likelier one, whatever the threshold: it moves predictions,
    which mIoU judges, and not probabilities.

    Args:
        seg_logits: (C, H, W), or (1, H, W) with probabilities.
        prediction: As it counts for mIoU, (H, W).

    Raises:
        ValueError: If one channel holds no probabilities, or no threshold of them makes the
            prediction.
    """
    if len(seg_logits) != 1:
        return seg_logits, prediction
    logits = two_class_log_probabilities(seg_logits)
    first = prediction > 0
    p = seg_logits[0]
    if first.any() and not first.all() and not bool(p[~first].max() <= p[first].min()):
        raise ValueError(
            'Expected the prediction to be class 1 where its probability is above a threshold, '
            'but it is not. Test-time augmentation averages probabilities and keeps the '
            '`seg_logits` of one view: test without.'
        )
    return logits, logits.argmax(0)
