"""What a benchmark says about its numbers: one row a provider, a table, and the circumstances."""

import datetime
import os
import platform
import statistics
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

COLUMNS = ('provider', 'median ms', 'p20', 'p80', 'faster', 'peak L', 'of naive', 'resident L',
           'value error', 'gradient error', 'first s')  # fmt: skip


def row(provider: str, report: dict[str, Any], times: list[float], unit: int) -> dict[str, Any]:
    """Summarise a provider; `unit` is the bytes of one full-size tensor."""
    cuts = statistics.quantiles(times, n=5, method='inclusive')
    return {
        'provider': provider,
        'median ms': statistics.median(times),
        'p20': cuts[0],
        'p80': cuts[-1],
        'peak L': report['peak'] / unit,
        'resident L': None if report['resident'] is None else report['resident'] / unit,
        'value error': report['errors'][0],
        'gradient error': report['errors'][1],
        'first s': report['first_s'],
        'all ms': times,
    }


def format_table(rows: list[dict[str, Any]]) -> str:
    """Lay rows out under `COLUMNS`."""
    formats = {'faster': '.2f', 'peak L': '.3f', 'of naive': '.3f', 'resident L': '.3f',
               'value error': '.1e', 'gradient error': '.1e', 'first s': '.1f'}  # fmt: skip
    lines = ['  '.join([f'{COLUMNS[0]:18}', *(f'{name:>9}' for name in COLUMNS[1:])])]
    for one in rows:
        cells = [f'{one["provider"]:18}']
        for name in COLUMNS[1:]:
            text = 'n/a' if one[name] is None else format(one[name], formats.get(name, '.0f'))
            cells.append(f'{text:>{max(9, len(name))}}')
        lines.append('  '.join(cells))
    return '\n'.join(lines)


def find_commit() -> str | None:
    """Return the commit of the tools, marked if files changed since; None outside of git."""
    git = ['git', '-C', str(Path(__file__).parent), 'describe', '--always', '--dirty']
    return subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip() or None


def metadata(threads: int) -> dict[str, Any]:
    """Return what a reader needs to judge the numbers."""
    try:
        cpu_lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:
        cpu_lines = []
    names = (line.split(':')[1].strip() for line in cpu_lines if line.startswith('model name'))
    load = os.getloadavg()[0] if hasattr(os, 'getloadavg') else None
    return {
        'date': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        'commit': find_commit(),
        'python': platform.python_version(),
        'torch': torch.__version__,
        'balkd_seg': version('balkd_seg'),
        'cpu': next(names, platform.processor()),
        'cores': os.cpu_count(),
        'threads': threads,
        'load before': load,
    }
