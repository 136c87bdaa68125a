"""What a run of a comparison trains: the config of its method, its seed, and nothing else changed.

Options of the command line reach every config where it has the place they name: those of the
student (`model.student...`) the one network of a baseline too, those of the teacher, of peers and
of `distill` only the configs that have them.
"""

import copy
import re
from collections.abc import Iterable
from pathlib import Path
from pprint import pformat
from typing import Any

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
from demo import Scale, shrink
from methods_plan import ROOT, Entry, is_alone, read_config
from mmengine.config import Config

from balkd_seg.distillers.model_config import resolve_model_config

QUICK = Scale(4, 2, (96, 48), (32, 64), 2, dict(teacher=4, student=4))
SAME = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'optim_wrapper',
        'param_scheduler', 'train_cfg')  # fmt: skip
_DISTILLERS_ONLY = ('model.teacher.', 'model.peers.', 'model.distill.')


def make_config(
    entry: Entry, options: dict[str, Any], scenes: Path | None, seed: int | None = None
) -> Config:
    """Return the config of a run.

    Args:
        entry: What is trained.
        options: Of the command line.
        scenes: With --quick, where toy scenes lie.
        seed: Of the run.
    """
    cfg = read_config(entry.config)
    if scenes is not None:
        _make_quick(cfg, scenes)
    cfg.merge_from_dict(fitting(options, cfg))
    cfg.merge_from_dict({f'model.distill.0.{key}': value for key, value in entry.cell.items()})
    if seed is not None:
        cfg.merge_from_dict({'randomness.seed': seed})
    hook = cfg.default_hooks.checkpoint
    hook.save_best = miou_key(cfg)
    # mmengine removes the old file before it writes the new one: one alone could be lost
    hook.max_keep_ckpts = 2
    if not is_alone(cfg):
        interval = cfg.default_hooks.logger.get('interval', 50)
        telemetry = dict(type='DistillTelemetryHook', interval=interval)
        hooks = [hook for hook in cfg.get('custom_hooks', []) if hook['type'] != telemetry['type']]
        cfg.custom_hooks = [*hooks, telemetry]
    return cfg


def _make_quick(cfg: Config, scenes: Path) -> None:
    """Make a street-scenes config a toy."""
    if 'street_scenes' not in str(cfg.val_dataloader.dataset.data_root):
        raise ValueError('Expected configs of street scenes with --quick: they are drawn at once.')
    shrink(cfg, scenes, QUICK, QUICK.iterations['student'])
    cfg.train_cfg.val_interval = 2
    cfg.default_hooks.checkpoint.interval, cfg.default_hooks.logger.interval = 2, 1


def fitting(options: dict[str, Any], cfg: Config) -> dict[str, Any]:
    """Return the options that a config has a place for, in its own words."""
    if not is_alone(cfg):
        return {
            key: value
            for key, value in options.items()
            if not key.startswith(_DISTILLERS_ONLY) or key.split('.')[1] in cfg.model
        }
    return {
        re.sub(r'^model\.student\.', 'model.', key): value
        for key, value in options.items()
        if not key.startswith(_DISTILLERS_ONLY)
    }


def miou_key(cfg: Config) -> str:
    """Return what a config's validation calls the student's mIoU."""
    evaluator = cfg.val_evaluator
    several = [evaluator] if isinstance(evaluator, dict) else evaluator
    return 'student/mIoU' if any(e['type'] == 'NetworksMetric' for e in several) else 'mIoU'


def as_text(cfg: Config) -> str:
    """Return a config as a file that mmengine reads, tuples and all."""
    values = cfg._cfg_dict.to_dict()
    lines = [f'{key} = {pformat(value, width=100, compact=True, sort_dicts=False)}'
             for key, value in values.items()]  # fmt: skip
    return '\n'.join([*lines, ''])


def check_same_settings(configs: dict[str, Config]) -> None:
    """Raise ValueError unless all differ from the first in nothing but the method.

    Args:
        configs: By name; the first is the student alone.
    """
    (first, alone), *others = configs.items()
    network = resolve_model_config(alone.model, 'student')
    for name, cfg in others:
        differ = [key for key in SAME if cfg.get(key) != alone.get(key)]
        if resolve_model_config(cfg.model.student, 'student') != network:
            differ.append('model.student')
        if differ:
            raise ValueError(
                f'Expected {name} and {first} to differ in the method alone, but '
                f'{", ".join(differ)} differ too: {cfg.filename}, {alone.filename}. Compare '
                'configs of one row, or set what differs with --cfg-options.'
            )


def find_teacher(configs: Iterable[Config], quick: bool) -> tuple[dict, Path | None] | None:
    """Return the teacher of the configs, and the config to train it with unless it is there.

    Returns:
        None if no config has a frozen teacher.

    Raises:
        ValueError: If there is more than one.
        FileNotFoundError: If its checkpoint is missing and belongs to no known config.
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
    path = str(teachers[0].get('checkpoint'))
    if not quick and (re.match(r'https?://', path) or Path(path).is_file()):
        return teachers[0], None
    match = re.fullmatch(r'work_dirs/([^/]+)/iter_\d+\.pth', path)
    sources = list((ROOT / 'configs').glob(f'*/{match[1]}.py')) if match else []
    if not sources:
        raise FileNotFoundError(
            f'Expected the checkpoint of the teacher at {path}, but there is no such file, and no '
            'config in configs/ of that name to train it with. Give '
            '--cfg-options model.teacher.checkpoint=PATH.'
        )
    return teachers[0], sources[0]


def teacher_options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options for the training of a teacher: data and schedule, not the student's."""
    return {key: copy.deepcopy(v) for key, v in options.items() if not key.startswith('model.')}
