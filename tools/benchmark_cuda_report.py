"""What the GPU benchmark says: a table, which aims were met, the circumstances."""

import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

COLUMNS = (
    'provider', 'p50 ms', 'p20', 'p80', 'x', 'forward', 'scaled', 'graph', 'peak L', 'peak MB',
    'GB/s', 'share', 'value error', 'grad error', 'first s',
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


def bars(tables: list[dict[str, Any]]) -> list[str]:
    """Say of every aim whether it was met, with the figure."""
    result = []
    for table in tables:
        rows = {row['provider']: row for row in table['rows'] if 'error' not in row}
        ours = rows.pop('balkd_seg', None)
        title, aims = table['title'], []
        if ours is None:
            result.append(f'MISSED  {title}: balkd_seg failed')
            continue
        case = table['case']
        if case['ratio'] == 1 and case['shape'][1] == 19 and case['dtype'] == 'fp32':
            aims.append(('share of the bandwidth >= 0.8', ours['share'], ours['share'] >= 0.8))
        limit = {(8, 19): 0.4, (16, 150): 3.0}.get(tuple(case['shape'][:2]))
        if case['ratio'] > 1 and limit is not None and case['taus'][0] == case['taus'][1]:
            aims.append((f'ms <= {limit}', ours['p50 ms'], ours['p50 ms'] <= limit))
        eager = rows.get('upsample + naive')
        if eager is not None:
            aims.append(('times faster than eager >= 10', ours['x'], ours['x'] >= 10))
            if ours['peak MB']:
                leaner = eager['peak MB'] / ours['peak MB']
                aims.append(('times leaner than eager >= 20', leaner, leaner >= 20))
        if rows:
            best = min(rows.values(), key=lambda row: row['p50 ms'])
            ratio = best['p50 ms'] / ours['p50 ms']
            aims.append((f'times faster than {best["provider"]} >= 1', ratio, ratio >= 1))
        aims.append(('bits repeat', float(ours['repeats']), ours['repeats']))
        result += [f'{"met" if ok else "MISSED":6}  {title}: {aim}: {x:.3g}' for aim, x, ok in aims]
    return result


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
