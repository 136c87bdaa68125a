"""What the GPU benchmark says: a table, which aims were met, the circumstances."""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

COLUMNS = (
    'provider', 'p50 ms', 'p20', 'p80', 'x', 'host', 'forward', 'scaled', 'graph', 'peak L',
    'peak MB', 'GB/s', 'share', 'value error', 'grad error', 'first s',
)  # fmt: skip


def format_rows(rows: list[dict[str, Any]]) -> str:
    """Lay rows out under `COLUMNS`."""
    lines = ['  '.join([f'{COLUMNS[0]:26}', *(f'{name:>9}' for name in COLUMNS[1:])])]
    for row in rows:
        cells = [f'{row["provider"]:26}']
        for name in COLUMNS[1:]:
            value = row.get(name)
            if value is None or isinstance(value, str):
                text = 'n/a' if value is None else 'no'
            else:
                text = f'{value:.1e}' if 'error' in name else f'{value:.3f}'
            cells.append(f'{text:>{max(9, len(name))}}')
        lines.append(
            f'{row["provider"]:26}  {row["error"]}' if 'error' in row else '  '.join(cells)
        )
    return '\n'.join(lines)


# What ours is to be faster than, from low resolution each behind `upsample + `.
RIVALS = {
    'plain PyTorch': ('naive', 'lean'),
    'torch.compile': ('naive, compiled', 'lean, compiled', 'lean, autotuned'),
    'Liger-Kernel': ('liger', 'liger, rows'),
}


def bars(tables: list[dict[str, Any]]) -> list[str]:
    """Say of every aim whether it was met, with the figure, or why it was not measured.

    Times are the device's; what a step takes the host is a column of its own.
    """
    return [line for table in tables for line in _bars_of(table)]


def _bars_of(table: dict[str, Any]) -> list[str]:
    title, case = table['title'], table['case']
    rows = {row['provider']: row for row in table['rows'] if 'error' not in row}
    failed = {row['provider']: row['error'] for row in table['rows'] if 'error' in row}
    if 'balkd_seg' not in rows:
        return [f'MISSED      {title}: balkd_seg: {failed.get("balkd_seg", "not in this run")}']
    ours, low = rows['balkd_seg'], case['ratio'] > 1
    prefix = 'upsample + ' if low else ''
    aims = [*_own_aims(case, ours), *_aims_against_naive(f'{prefix}naive', rows, low)]
    lines = []
    for group, names in RIVALS.items():
        names = [f'{prefix}{x}' for x in names if not (low and x == 'liger, rows')]
        best = min((x for x in names if x in rows), key=lambda x: rows[x]['p50 ms'], default=None)
        if best is not None:
            ratio = rows[best]['p50 ms'] / ours['p50 ms']
            aims.append((f'times faster than {group} ({best}) >= 1', ratio, ratio >= 1))
        lines += [
            f'UNMEASURED  {title}: against {x}: {failed.get(x, "not in this run")}'
            for x in names
            if x not in rows
        ]
    aims.append(('bits repeat', float(ours['repeats']), ours['repeats']))
    return [
        f'{"met" if ok else "MISSED":10}  {title}: {aim}: {x:.3g}' for aim, x, ok in aims
    ] + lines


def _own_aims(case: dict[str, Any], ours: dict[str, Any]) -> list[tuple[str, float, bool]]:
    """Return what needs no other provider."""
    kind = tuple(case['shape'][:2])
    if case['ratio'] == 1:
        if kind != (8, 19) or case['dtype'] != 'fp32':
            return []
        return [('share of the bandwidth >= 0.8', ours['share'], ours['share'] >= 0.8)]
    limit = {(8, 19): 0.4, (16, 150): 3.0}.get(kind)
    if limit is None or case['taus'][0] != case['taus'][1]:
        return []
    return [(f'ms <= {limit}', ours['p50 ms'], ours['p50 ms'] <= limit)]


def _aims_against_naive(
    name: str, rows: dict[str, dict[str, Any]], low: bool
) -> list[tuple[str, float, bool]]:
    if name not in rows:
        return []
    naive, ours, aims = rows[name], rows['balkd_seg'], []
    if low:
        faster = naive['p50 ms'] / ours['p50 ms']
        aims.append((f'times faster than {name} >= 10', faster, faster >= 10))
    if low and ours['peak MB']:
        leaner = naive['peak MB'] / ours['peak MB']
        aims.append((f'times leaner than {name} >= 20', leaner, leaner >= 20))
    error = ours['grad error'] / max(naive['grad error'], 1e-300)
    return [*aims, (f'gradient error, in that of {name} <= 2', error, error <= 2)]


def sm_clock() -> int | None:
    """Return the clock of the GPU's multiprocessors in MHz, or None where it is not to be had."""
    query = ['nvidia-smi', '--query-gpu=clocks.sm', '--format=csv,noheader,nounits']
    try:
        return int(subprocess.run(query, capture_output=True, text=True).stdout.split()[0])
    except (OSError, IndexError, ValueError):
        return None


def circumstances(device: str) -> dict[str, Any]:
    """Return card, clocks, driver and versions."""
    found: dict[str, Any] = {}
    for package in ('triton', 'liger-kernel'):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    if device == 'cuda':
        found['card'] = torch.cuda.get_device_name()
        query = ['nvidia-smi', '--query-gpu=driver_version,clocks.sm,clocks.mem,clocks.max.sm,'
                 'power.limit', '--format=csv']  # fmt: skip
        try:
            found['nvidia-smi'] = subprocess.run(query, capture_output=True, text=True).stdout
        except OSError:
            found['nvidia-smi'] = None
    return found
