"""What a run's metrics must know of its networks."""

import logging
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.logging import print_log
from mmengine.runner import Runner
from mmseg.evaluation import IoUMetric

from balkd_seg.hooks._runner import bare_model
from balkd_seg.metrics import CalibrationMetric, NetworksMetric
from balkd_seg.networks.facts import ignored_label

# hooks that look for a score by its name, and where they have it
WATCHES = {CheckpointHook: 'save_best', EarlyStoppingHook: 'monitor'}


def check_monitored(runner: Runner) -> None:
    """Raise ValueError if a score is watched that `NetworksMetric` calls by a longer name.

    mmengine would look for it after the first validation, and stop with a `KeyError`.
    """
    loop = getattr(runner, 'val_loop', None)
    metrics = loop.evaluator.metrics if loop is not None else []
    if not metrics or not all(isinstance(metric, NetworksMetric) for metric in metrics):
        return
    networks = [*getattr(bare_model(runner), 'peers', ()), 'student']
    for hook in runner.hooks:
        setting = next((name for kind, name in WATCHES.items() if isinstance(hook, kind)), '')
        value = getattr(hook, setting, None) or []
        for key in [value] if isinstance(value, str) else value:
            if key != 'auto' and key.partition('/')[0] not in networks:
                raise ValueError(
                    f'Expected `{setting}` of the {type(hook).__name__} to name a score of a '
                    f'network, because NetworksMetric scores each by its name, but got {key!r}. '
                    f"Say '{networks[-1]}/{key}'."
                )


def tell_ignored_label(runner: Runner, evaluator: Evaluator) -> None:
    """Tell metrics which label does not count for each network, where their config does not say.

    `IoUMetric` of mmseg has a default of its own: a warning says so if it is not the network's.
    """
    model: Any = bare_model(runner)
    if not hasattr(model, 'decode_head'):  # test-time augmentation, or no segmentor
        return
    networks = model.networks() if hasattr(model, 'networks') else {'student': model}
    ignored = {name: ignored_label(network) for name, network in networks.items()}
    for metric in evaluator.metrics:
        if isinstance(metric, NetworksMetric):
            metric.tell_ignored_labels(ignored)
        elif isinstance(metric, CalibrationMetric):
            metric.tell_ignored_label(ignored['student'])
        elif isinstance(metric, IoUMetric) and metric.ignore_index != ignored['student']:
            print_log(
                f'{type(metric).__name__} leaves out label {metric.ignore_index}, but the network '
                f'is trained without label {ignored["student"]}. If this is not meant, set '
                f'ignore_index={ignored["student"]} in the evaluator.',
                logger='current',
                level=logging.WARNING,
            )
