"""What the logits of a head say of its classes: a softmax over them, or one sigmoid of two."""

import logging
from typing import Any

from mmengine.logging import print_log
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from balkd_seg.distillers.taps import find_tap, logits_head, task_losses
from balkd_seg.ops._binary import two_class_logits


def class_logits(network: nn.Module, logits: Tensor) -> Tensor:
    """Return logits of every class, (N, C, h, w), of what the head of a network gives.

    One sigmoid channel z stands for the two classes (0, z); other logits are returned as they are.
    mmseg's `threshold` of such a head plays no part: it moves predictions, not probabilities.

    Args:
        network: An mmseg segmentor.
        logits: (N, C, h, w), or (N, 1, h, w) with two classes.
    """
    return two_class_logits(logits) if is_one_sigmoid(network) else logits


def is_one_sigmoid(network: nn.Module) -> bool:
    """Return whether a network tells two classes apart by one sigmoid channel."""
    head: Any = logits_head(network)
    return head.out_channels == 1


def head_at(network: nn.Module, tap: str) -> BaseDecodeHead | None:
    """Return the head whose logits a tap gives, by its output or `conv_seg`'s; None of features.

    Args:
        network: An mmseg segmentor.
        tap: Dotted path of one of its modules: also of an auxiliary head.
    """
    module = find_tap(network, tap.removesuffix('.conv_seg'), 'network')
    return module if isinstance(module, BaseDecodeHead) else None


def check_classes(network: nn.Module, role: str) -> None:
    """Raise ValueError unless the main head of a network tells at least two classes apart.

    Args:
        network: An mmseg segmentor.
        role: Its name, for the message.
    """
    head: Any = logits_head(network)
    if head.num_classes < 2:
        raise ValueError(
            f'Expected the decode head of the {role} to have at least 2 classes, but got '
            f'num_classes={head.num_classes}. A binary network has num_classes=2, with '
            'out_channels=1 and a sigmoid loss, or with out_channels=2 and a softmax loss.'
        )


def check_task_loss(network: nn.Module, role: str) -> None:
    """Raise ValueError if a network that trains takes the softmax of its only channel.

    Args:
        network: An mmseg segmentor.
        role: Its name, for the message.
    """
    softmax = [
        x for x in task_losses(logits_head(network)) if getattr(x, 'use_sigmoid', None) is False
    ]
    if is_one_sigmoid(network) and softmax:
        raise ValueError(
            f'Expected sigmoid losses on the one channel of the {role} (out_channels=1), but got '
            f'{type(softmax[0]).__name__} with use_sigmoid=False: the softmax of one channel is '
            'always 1. Set use_sigmoid=True in decode_head.loss_decode, or out_channels=2.'
        )


def warn_of_sigmoids(head: BaseDecodeHead, role: str) -> None:
    """Log it if a head whose logits are distilled has one sigmoid for each of its classes.

    Args:
        head: Of an mmseg segmentor, Fast-SCNN for one.
        role: The segmentor's name, for the message.
    """
    sigmoid = [getattr(x, 'use_sigmoid', False) is True for x in task_losses(head)]
    if sigmoid and all(sigmoid) and head.out_channels > 1:
        print_log(
            f'The decode head of the {role} is trained with a sigmoid for each class. Distillation '
            'compares the softmax of its logits, which has the same order but is not what the '
            'head is trained to say.',
            logger='current',
            level=logging.WARNING,
        )
