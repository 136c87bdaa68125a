"""What a run of a comparison trains: the config of its method, its seed, and nothing else changed.

Options of the command line reach every config where it has the place they name: those of the
student (`model.student...`) the one network of a baseline too, those of the teacher, of peers, of
`distill` and other arguments of a distiller only the configs that have them.
"""

import copy
import os
import re
from collections.abc import Iterable
from inspect import signature
from pathlib import Path
from pprint import pformat
from typing import Any

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
from demo import Scale, shrink
from methods_plan import ROOT, Entry, is_alone, read_config
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import HOOKS, METRICS, MODELS

from balkd_seg.hooks import (
    CheckDataHook,
    DistillScheduleHook,
    DistillStateHook,
    DistillTelemetryHook,
)
from balkd_seg.kinds import is_kind, kind_of
from balkd_seg.metrics import CalibrationMetric, NetworksMetric
from balkd_seg.networks.build import network_config

QUICK = Scale(4, 2, (96, 48), (32, 64), 2, dict(teacher=4, student=4))
# what the Runner reads of a config, but the model, and what only names, logs and shows
SAME = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'optim_wrapper', 'param_scheduler',
        'auto_scale_lr', 'train_cfg', 'val_cfg', 'test_cfg', 'val_evaluator', 'test_evaluator',
        'default_hooks', 'custom_hooks', 'load_from', 'env_cfg', 'randomness', 'default_scope',
        'model_wrapper_cfg')  # fmt: skip
READ = {*signature(Runner).parameters, *SAME}


def make_config(
    entry: Entry, options: dict[str, Any], scenes: Path | None, seed: int | None = None
) -> Config:
    """Return the config of a run.

    Args:
        entry: What is trained.
        options: Of the command line.
        scenes: With --quick, where toy scenes lie.
        seed: Of the run.

    Raises:
        ValueError: If it is not for one process, or not trained by iterations.
    """
    cfg = read_config(entry.config)
    if scenes is not None:
        _make_quick(cfg, scenes)
    else:
        _check_batch(Path(entry.config), options)
    cfg.merge_from_dict(fitting(options, cfg))
    schedule = cfg.get('train_cfg') or {}
    if 'max_iters' not in schedule or 'max_epochs' in schedule:
        raise ValueError(
            'Expected a schedule by iterations, train_cfg with max_iters and no max_epochs, but '
            f'{entry.config} has {dict(schedule)}. Give it a schedule such as mmseg::_base_/'
            'schedules/schedule_40k.py.'
        )
    cfg.merge_from_dict({f'model.distill.0.{key}': value for key, value in entry.cell.items()})
    if seed is not None:
        cfg.merge_from_dict({'randomness.seed': seed})
    hook = cfg.get('default_hooks', {}).get('checkpoint')
    if hook is None:
        raise ValueError(
            f'Expected default_hooks.checkpoint in {entry.config}, but there is none. Inherit '
            'configs/_base_/runtime.py and a schedule, or add a CheckpointHook.'
        )
    hook.save_best = miou_key(cfg)
    # mmengine removes the old file before it writes the new one: one alone could be lost
    hook.max_keep_ckpts = 2
    if not is_alone(cfg):
        interval = cfg.default_hooks.logger.get('interval', 50)
        telemetry = dict(type='DistillTelemetryHook', interval=interval)
        cfg.custom_hooks = [*_without(cfg.get('custom_hooks'), DistillTelemetryHook), telemetry]
    return cfg


def _make_quick(cfg: Config, scenes: Path) -> None:
    """Make a street-scenes config a toy."""
    if 'street_scenes' not in str(cfg.val_dataloader.dataset.data_root):
        raise ValueError('Expected configs of street scenes with --quick: they are drawn at once.')
    shrink(cfg, scenes, QUICK, QUICK.iterations['student'])
    cfg.train_cfg.val_interval = 2
    cfg.default_hooks.checkpoint.interval, cfg.default_hooks.logger.interval = 2, 1


def _check_batch(config: Path, options: dict[str, Any]) -> None:
    """Raise ValueError if a config is for several GPUs: a run is one process."""
    found = re.search(r'_(\d+)xb(\d+)-', config.stem)
    gpus, images = map(int, found.groups()) if found else (1, 0)
    if gpus > 1 and 'train_dataloader.batch_size' not in options:
        raise ValueError(
            f'Expected a config for one process, but {config.name} is for {gpus} of {images} '
            f'images each and would train on {images} a step. Give --cfg-options '
            f'train_dataloader.batch_size={gpus * images}.'
        )


def own_words(option: str, cfg: Config) -> str | None:
    """Return what a config calls an option, or None if it has no place for it."""
    if is_alone(cfg):
        option = re.sub(r'^model\.student\.', 'model.', option)
    first, _, rest = option.partition('.')
    if first != 'model':
        return option if first in cfg or first in READ else None
    network = kind_of(cfg.model, MODELS)
    arguments = signature(network).parameters if network else ()
    place, _, below = rest.partition('.')
    index = below.partition('.')[0]
    if place == 'distill' and index.isdigit() and int(index) >= len(cfg.model.get(place, [])):
        return None
    return option if place in cfg.model or place in arguments else None


def fitting(options: dict[str, Any], cfg: Config) -> dict[str, Any]:
    """Return the options that a config has a place for, in its own words."""
    own = {own_words(option, cfg): value for option, value in options.items()}
    return {option: value for option, value in own.items() if option is not None}


def check_options(options: dict[str, Any], configs: Iterable[Config]) -> None:
    """Raise ValueError if an option has no place in any config."""
    if 'randomness.seed' in options:
        raise ValueError('Expected --seeds instead of --cfg-options randomness.seed.')
    configs = list(configs)
    lost = [key for key in options if all(own_words(key, cfg) is None for cfg in configs)]
    if lost:
        raise ValueError(
            'Expected every one of --cfg-options to have a place in one of the configs, but '
            f'{", ".join(lost)} has none. The student is model.student, also where it is alone.'
        )


def miou_key(cfg: Config) -> str:
    """Return what a config's validation calls the student's mIoU."""
    evaluator = cfg.val_evaluator
    several = [evaluator] if isinstance(evaluator, dict) else evaluator
    several = any(is_kind(one, METRICS, NetworksMetric) for one in several)
    return 'student/mIoU' if several else 'mIoU'


def as_text(cfg: Config) -> str:
    """Return a config as a file that mmengine reads, tuples and all."""
    values = cfg._cfg_dict.to_dict()
    lines = [f'{key} = {pformat(value, width=100, compact=True, sort_dicts=False)}'
             for key, value in values.items()]  # fmt: skip
    return '\n'.join([*lines, ''])


def _metrics(evaluator: Any) -> list[dict]:
    """Return the metrics of the student that may choose the best checkpoint."""
    found = []
    for one in [evaluator] if isinstance(evaluator, dict) else evaluator or []:
        if is_kind(one, METRICS, NetworksMetric):
            found += _metrics(one['metric'])
        elif not is_kind(one, METRICS, CalibrationMetric):
            found.append(one)
    return found


def _without(hooks: list | None, *kinds: type) -> list:
    """Return the entries of `custom_hooks` that are none of these kinds."""
    return [hook for hook in hooks or [] if not is_kind(hook, HOOKS, kinds)]


def settings(cfg: Config) -> dict[str, Any]:
    """Return what has to be the same for every method, by its place in the config."""
    found = {key: copy.deepcopy(cfg.get(key)) for key in SAME}
    for key in ('val_evaluator', 'test_evaluator'):
        found[key] = _metrics(found[key])
    # ours write what distillers have beside the student, or look on
    found['custom_hooks'] = _without(
        found['custom_hooks'],
        CheckDataHook, DistillScheduleHook, DistillStateHook, DistillTelemetryHook,
    )  # fmt: skip
    found['default_hooks'].checkpoint.pop('save_best', None)  # the name alone, see miou_key
    found['randomness'] = {k: v for k, v in (found['randomness'] or {}).items() if k != 'seed'}
    return {**found, 'model.student': network_config(cfg)}


def check_same_settings(configs: dict[str, Config]) -> None:
    """Raise ValueError unless all differ from the first in nothing but the method.

    Args:
        configs: By name; the first is the student alone.
    """
    (first, alone), *others = configs.items()
    expected = settings(alone)
    for name, cfg in others:
        found = settings(cfg)
        differ = [key for key in expected if found[key] != expected[key]]
        if differ:
            raise ValueError(
                f'Expected {name} and {first} to differ in the method alone, but '
                f'{", ".join(differ)} differ too: {cfg.filename}, {alone.filename}. Compare '
                'configs of one row, or set what differs with --cfg-options.'
            )


def find_teacher(configs: Iterable[Config]) -> dict[str, Any] | None:
    """Return the teacher of the configs, or None if none has a frozen teacher.

    Raises:
        ValueError: If there is more than one.
    """
    teachers = [cfg.model.teacher.to_dict() for cfg in configs if 'teacher' in cfg.model]
    if not teachers:
        return None
    if any(teacher != teachers[0] for teacher in teachers):
        found = sorted({str(teacher.get('checkpoint')) for teacher in teachers})
        raise ValueError(
            f'Expected one teacher for all methods, but got several: {", ".join(found)}. Compare '
            'under one teacher at a time.'
        )
    return teachers[0]


def find_source(teacher: dict[str, Any], quick: bool) -> Path | None:
    """Return the config to train a teacher with, or None if its checkpoint is there.

    Raises:
        FileNotFoundError: If its checkpoint is missing and belongs to no known config.
    """
    path = os.path.expanduser(str(teacher.get('checkpoint')))
    if not quick and (re.match(r'https?://', path) or Path(path).is_file()):
        return None
    match = re.fullmatch(r'work_dirs/([^/]+)/iter_\d+\.pth', path)
    sources = list((ROOT / 'configs').glob(f'*/{match[1]}.py')) if match else []
    if not sources:
        raise FileNotFoundError(
            f'Expected the checkpoint of the teacher at {path}, but there is no such file, and no '
            'config in configs/ of that name to train it with. Give '
            '--cfg-options model.teacher.checkpoint=PATH.'
        )
    return sources[0]


def teacher_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options for the training of a teacher: data and schedule, not the student's."""
    return {key: copy.deepcopy(v) for key, v in options.items() if not key.startswith('model.')}
