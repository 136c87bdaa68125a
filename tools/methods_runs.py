"""The runs of a comparison before they are made, checked against those that are there."""

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
from methods_config import (
    as_text,
    check_options,
    check_same_settings,
    find_source,
    find_teacher,
    make_config,
    teacher_options,
)
from methods_plan import TEACHER, Entry, find_entries, shown, sweep
from methods_state import RunFolder, folder_name
from mmengine.config import Config

from balkd_seg.networks.build import network_config


class Planned(NamedTuple):
    """A run before it is made: its folder below the work dir, its run.json and its config."""

    folder: str
    about: dict[str, Any]
    text: str


def plan(suite: dict[str, Any], args: argparse.Namespace, work: Path) -> list[Planned]:
    """Return the runs that the command line asks for, checked against those that are there."""
    entries = sweep(find_entries(args.config, args.methods), args.grid)
    check_names(entries)
    options, scenes = suite['options'], work / 'scenes' if suite['quick'] else None
    configs = {entry.name: make_config(entry, options, scenes) for entry in entries}
    if not suite['runs']:
        check_options(options, configs.values())
    check_same_settings(configs)
    teachers = plan_teacher(suite, configs, work)
    checkpoints = [RunFolder(work / one.folder).checkpoint_of(one.about) for one in teachers]

    def plan_run(entry: Entry, seed: int) -> Planned:
        cfg = make_config(entry, options, scenes, seed)
        taught = 'teacher' in cfg.model
        if taught:
            cfg.model.teacher.checkpoint = checkpoints[0]
        folder = f'runs/{folder_name(entry.name)}/seed-{seed}'
        about = {**entry._asdict(), 'config': shown(entry.config), 'seed': seed}
        about['max_iters'] = cfg.train_cfg.max_iters
        return Planned(folder, {**about, 'taught': taught}, as_text(cfg))

    seeds = list(dict.fromkeys(args.seeds))
    planned = [*teachers, *(plan_run(entry, seed) for seed in seeds for entry in entries)]
    asked, by_name = {one.folder for one in planned}, {entry.name: entry for entry in entries}
    there = [
        plan_run(by_name[run['name']], RunFolder(work / run['folder']).read()['seed'])
        for run in suite['runs']
        if run['name'] in by_name and run['folder'] not in asked
    ]
    for one in [*planned, *there]:
        RunFolder(work / one.folder).check(one.text)
    return planned


def check_names(entries: list[Entry]) -> None:
    """Raise ValueError if two would share a folder."""
    folders = [TEACHER, *(folder_name(entry.name) for entry in entries)]
    twice = sorted({folder for folder in folders if folders.count(folder) > 1})
    if twice:
        raise ValueError(
            f'Expected configs of different names, but {", ".join(twice)} is there twice '
            f'({TEACHER} is the frozen one). Rename a file, or leave one out.'
        )


def plan_teacher(suite: dict[str, Any], configs: dict[str, Config], work: Path) -> list[Planned]:
    """Return the teacher's run, the one that is there if there is one; none without a teacher.

    Raises:
        ValueError: If the one that is there is of another teacher.
    """
    teacher = find_teacher(configs.values())
    if teacher is None:
        return []
    folder = f'runs/{TEACHER}'
    run, asked = RunFolder(work / folder), json.loads(json.dumps(teacher, default=str))
    if run.exists:
        about = run.read()
        first = about.get('asked', asked)  # nobody noted it in the first work dirs
        differ = sorted(key for key in {*first, *asked} if first.get(key) != asked.get(key))
        if differ:
            then, now = ({key: one.get(key) for key in differ} for one in (first, asked))
            raise ValueError(
                f'Expected the teacher that {work} was started with, {then}, but got {now}. '
                'Compare under one teacher, or take another --work-dir.'
            )
        return [Planned(folder, about, run.config.read_text())]
    about = {'name': TEACHER, 'seed': None, 'cell': {}, 'taught': False, 'asked': asked}
    source = find_source(teacher, suite['quick'])
    if source is None:
        cfg = next(cfg for cfg in configs.values() if 'teacher' in cfg.model).copy()
        about |= {'checkpoint': str(teacher['checkpoint']), 'config': teacher.get('config')}
        about['sha256'] = digest(about['checkpoint'])
        cfg.model = network_config(cfg, TEACHER)
        about['max_iters'] = 0
    else:
        scenes = work / 'scenes' if suite['quick'] else None
        entry = Entry(TEACHER, str(source), {})
        cfg = make_config(entry, teacher_options(suite['options']), scenes)
        about |= {'config': shown(str(source)), 'max_iters': cfg.train_cfg.max_iters}
    return [Planned(folder, about, as_text(cfg))]


def digest(checkpoint: str) -> str | None:
    """Return the SHA-256 of a file, None of an address."""
    file = Path(checkpoint).expanduser()
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def check_loaded(teacher: RunFolder) -> None:
    """Raise ValueError if a loaded teacher's file is not the one that the runs began with."""
    about = teacher.read() if teacher.exists else {}
    if about.get('sha256') not in (None, digest(about.get('checkpoint', ''))):
        raise ValueError(
            f'Expected {about["checkpoint"]} to be the file that the comparison was started with, '
            'but its content changed. Put it back, or take another --work-dir.'
        )
