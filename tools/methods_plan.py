"""Which runs a comparison of methods consists of: configs found by name, cells of a sweep, seeds.

A config is called `{method}_{models}_{schedule}_{data}.py` and lies in the folder of its method.
Models are `teacher-to-student`, `teacher-with-student`, or the one network of a baseline.
"""

import ast
import copy
import itertools
from collections.abc import Sequence
from functools import cache
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
from mmengine.config import Config
from mmseg.registry import MODELS

from balkd_seg.kinds import kind_of, name_of

ROOT = Path(__file__).resolve().parents[1]
ALONE, TEACHER = 'alone', 'teacher'


class Entry(NamedTuple):
    """What is compared: a config, under a name, with settings of the first entry of `distill`."""

    name: str
    config: str
    cell: dict[str, Any]


class Name(NamedTuple):
    """The fields of a config's name; the teacher is '' in a baseline."""

    method: str
    teacher: str
    student: str
    schedule: str
    data: str

    @classmethod
    def of(cls, config: Path) -> 'Name | None':
        """Return the fields, or None if the file is named in another way."""
        fields = config.stem.split('_')
        if len(fields) != 4:
            return None
        method, models, *rest = fields
        for word in ('-to-', '-with-'):
            if word in models:
                return cls(method, *models.split(word), *rest)
        return cls(method, '', models, *rest)


@cache
def _read_once(config: str) -> Config:
    return Config.fromfile(config)


def read_config(config: str | Path) -> Config:
    """Return a config of one's own; a file is read once, which takes a moment each."""
    return copy.deepcopy(_read_once(str(config)))


def find_file(config: str) -> Path:
    """Return the file of a config, given from here or from the root of the repository."""
    for file in (Path(config), ROOT / config):
        if file.is_file():
            return file
    raise FileNotFoundError(f'Expected a config at {config}, but there is no such file.')


def shown(config: str) -> str:
    """Return a config's path from the root of the repository, if it lies there."""
    path = Path(config)
    return path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else config


def known_methods(configs: Path) -> list[str]:
    """Return the methods that a folder of configs has, from the files themselves."""
    names = (Name.of(file) for file in configs.glob('*/*.py') if file.parent.name[0] != '_')
    return sorted({name.method for name in names if name} - {'baseline'})


def siblings(config: Path, method: str) -> list[Path]:
    """Return the configs of another method for the same student, schedule and data.

    Args:
        config: One of the row; a baseline has no teacher and takes any.
        method: 'baseline', or as in `known_methods`.

    Raises:
        ValueError: If the config's name has no fields.
    """
    row = Name.of(config)
    if row is None:
        raise ValueError(
            f'Expected {config.name} to have four fields, method_models_schedule_data.py, to find '
            'other methods beside it. Name their configs instead of --methods.'
        )
    found = []
    for file in sorted((config.parent.parent / method).glob(f'{method}_*.py')):
        name = Name.of(file)
        if name and name[2:] == row[2:] and (not row.teacher or name.teacher in ('', row.teacher)):
            found.append(file)
    return found


def find_sibling(config: Path, method: str) -> Path:
    """Return the only one of `siblings`.

    Raises:
        ValueError: If there is none, or more than one.
    """
    found, configs = siblings(config, method), config.parent.parent
    if len(found) > 1:
        raise ValueError(
            f'Expected one config of {method} for the row of {config.name}, but found '
            f'{", ".join(file.name for file in found)}. Name one of them as CONFIG.'
        )
    if not found:
        raise ValueError(
            f'Expected a config of {method} for the row of {config.name} below {configs}, but '
            f'found none. Methods that have configs: {", ".join(known_methods(configs))}.'
        )
    return found[0]


def is_alone(cfg: Config) -> bool:
    """Return whether a config trains one network."""
    return 'student' not in cfg.model


def find_entries(configs: Sequence[str], methods: Sequence[str]) -> list[Entry]:
    """Return what is compared, the student alone first.

    Args:
        configs: Files; each is compared.
        methods: Each names the config of the same row as the first file; 'all' stands for every
            method that has one.

    Raises:
        ValueError: If a method has no config, or there are two students alone.
        FileNotFoundError: If a file is missing.
    """
    files = [find_file(config) for config in configs]
    for method in methods:
        if method == 'all':
            every = known_methods(files[0].parent.parent)
            files += [find_sibling(files[0], one) for one in every if siblings(files[0], one)]
        else:
            files.append(find_sibling(files[0], 'baseline' if method == ALONE else method))
    files = list({file.resolve(): file for file in files}.values())
    alone = [file for file in files if is_alone(read_config(file))]
    if not alone:
        alone = [find_sibling(files[0], 'baseline')]
    if len(alone) > 1:
        raise ValueError(
            'Expected one config of the student alone, but got '
            f'{", ".join(file.name for file in alone)}. Compare one student at a time.'
        )
    others = [file for file in files if file not in alone]
    shown = [getattr(Name.of(file), 'method', file.stem) for file in others]
    names = [n if shown.count(n) == 1 else f.stem for n, f in zip(shown, others, strict=True)]
    pairs = [(ALONE, alone[0]), *zip(names, others, strict=True)]
    return [Entry(name, str(file.resolve()), {}) for name, file in pairs]


def read_grid(words: list[str]) -> dict[str, list]:
    """Return the values of each setting.

    Raises:
        ValueError: If a word is not of the form setting=value,value.
    """
    grid = {}
    for word in words:
        key, _, values = word.partition('=')
        if not key or not values:
            raise ValueError(f'Expected --grid setting=value,value, but got {word!r}.')
        grid[key] = list(dict.fromkeys(map(_literal, values.split(','))))
    return grid


def _literal(text: str) -> Any:
    """Return the number or the like that a word stands for, else the word."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def sweep(entries: Sequence[Entry], grid: dict[str, list]) -> list[Entry]:
    """Replace every entry whose loss has the settings of the grid by one entry a cell.

    Args:
        entries: From `find_entries`.
        grid: Values by setting of the first entry of `distill`.

    Raises:
        ValueError: If no loss has all of the settings.
    """
    if not grid:
        return list(entries)
    result, losses = [], []
    for entry in entries:
        terms = read_config(entry.config).model.get('distill')
        if not terms:
            result.append(entry)
            continue
        losses.append(name_of(terms[0], MODELS))
        if not set(grid) <= set(signature(kind_of(terms[0], MODELS)).parameters):
            result.append(entry)
            continue
        for values in itertools.product(*grid.values()):
            cell = dict(zip(grid, values, strict=True))
            text = ' '.join(f'{key}={value}' for key, value in cell.items())
            result.append(Entry(f'{entry.name} {text}', entry.config, cell))
    if len(result) == len(entries) and not any(entry.cell for entry in result):
        raise ValueError(
            f'Expected {", ".join(grid)} to be settings of the first entry of `distill`, but '
            f'{", ".join(losses) or "no entry"} has not all of them.'
        )
    return result
