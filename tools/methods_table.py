"""report.md: the tables of a comparison in plain Markdown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from methods_plan import TEACHER
from methods_state import DONE, FAILED

DIGITS = {'NLL': 4, 'seconds': 3, 'memory_mb': 0, 'latency_ms': 1}
HEADS = {
    'val': 'mIoU val', 'val_best': 'best val', 'test': 'mIoU test', 'ECE': 'ECE %', 'NLL': 'NLL',
    'agreement': 'agreement %', 'seconds': 's/iter', 'memory_mb': 'Mem (MB)',
    'latency_ms': 'latency (ms)',
}  # fmt: skip
COMPARED = {'val': 'mIoU val', 'test': 'mIoU test', 'ECE': 'ECE %', 'NLL': 'NLL'}


def spread(summary: dict[str, Any], digits: int = 2) -> str:
    """Write mean and standard deviation."""
    if not summary['n']:
        return '-'
    text = f'{summary["mean"]:.{digits}f}'
    return text if summary['sd'] is None else f'{text} ± {summary["sd"]:.{digits}f}'


def heads(results: dict[str, Any]) -> dict[str, str]:
    """Return the columns, without test where the test set is the val set."""
    return {k: v for k, v in HEADS.items() if k != 'test' or not results['test_is_val']}


def result_cells(method: dict[str, Any], columns: Sequence[str]) -> list[str]:
    """Return one row of the main table, without the name."""
    cells = [spread(method[key], DIGITS.get(key, 2)) for key in columns]
    finished = method['val']['n']
    failed = f', {len(method["failed"])} failed' if method['failed'] else ''
    return [*cells, f'{finished}/{method["planned"]}{failed}']


def difference(one: dict[str, Any], digits: int = 2) -> str:
    """Write a paired difference, its interval and what it says."""
    if not one['n']:
        return one['words']
    text = f'{one["mean"]:+.{digits}f}'
    if one['low'] is not None:
        text += f' [{one["low"]:+.{digits}f}, {one["high"]:+.{digits}f}]'
    return f'{text} {one["words"]}'


def difference_rows(results: dict[str, Any]) -> list[list[str]]:
    """Return the rows of the table of paired differences."""
    keys = compared(results)
    return [
        [method['name'], other, *(difference(found[key], DIGITS.get(key, 2)) for key in keys)]
        for method in results['methods']
        for other, found in method['against'].items()
    ]


def compared(results: dict[str, Any]) -> dict[str, str]:
    """Return the columns of the table of differences."""
    return {k: v for k, v in COMPARED.items() if k != 'test' or not results['test_is_val']}


def notes(results: dict[str, Any]) -> list[str]:
    """Return what a reader has to know about the numbers."""
    split = 'val (the test set of the config is its val set)' if results['test_is_val'] else 'test'
    lines = [
        f'mIoU in per cent of the last iterate; ECE, NLL and IoU of classes on {split}; agreement: '
        'share of valid val pixels where student and teacher name the same class.',
        'Mean ± standard deviation over seeds. Differences are paired by seed, with 95 % intervals '
        "of Student's t, each for itself.",
        's/iter: median of the training log. Mem: what mmengine logs on a GPU, else the largest '
        'resident set of the training process. Latency: batch 1, one val image, median of 20.',
    ]
    if results['jobs'] > 1:
        lines.append(f'{results["jobs"]} processes ran at a time: times are of a shared machine.')
    if results['quick']:
        lines.append('**Toy size (--quick): only shows that everything runs.**')
    costs = [m['cost'] for m in results['methods'] if m['cost'] and m['name'] != TEACHER]
    if costs:
        cost = costs[0]
        lines.append(
            f'Every student: {cost["parameters"] / 1e6:.2f} M parameters, '
            f'{cost["flops"] / 1e9:.2f} GFLOPs for an input of {"x".join(map(str, cost["input"]))}.'
        )
    return lines


def machines(results: dict[str, Any]) -> list[str]:
    """Return where and with what the runs were measured."""
    return [
        f'{one["card"] or one["cpu"]}, {one["threads"]} threads; Python {one["python"]}, PyTorch '
        f'{one["torch"]}, balkd_seg {one["balkd_seg"]}, commit {one["commit"] or "unknown"}'
        for one in results['about']
    ]


def open_runs(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return what, why and the end of the log of every run that is not done."""
    found = []
    for run in results['runs']:
        if run['status'] == DONE:
            continue
        seed = '' if run['seed'] is None else f' seed {run["seed"]}'
        reason = f'failed: {run["reason"]}' if run['status'] == FAILED else run['status']
        found.append((f'{run["name"]}{seed}', reason, run.get('tail', '')))
    return found


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table."""
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def write_markdown(file: Path, results: dict[str, Any]) -> None:
    """Write report.md."""
    columns = heads(results)
    rows = []
    for method in results['methods']:
        config = f'`{method["config"]}`' if method['config'] else '-'
        rows.append([method['name'], *result_cells(method, columns), config])
    parts = [
        '# Comparison of methods',
        markdown_table(['method', *columns.values(), 'seeds done', 'config'], rows),
        '\n'.join(f'- {line}' for line in notes(results)),
    ]
    differences = difference_rows(results)
    if differences:
        head = ['method', 'against', *compared(results).values()]
        parts += ['## Paired differences', markdown_table(head, differences)]
    unfinished = open_runs(results)
    if unfinished:
        parts.append('## Runs that are not done')
    for name, reason, tail in unfinished:
        parts.append(f'**{name}**: {reason}' + (f'\n\n```\n{tail.rstrip()}\n```' if tail else ''))
    parts += ['## Measured on', '\n'.join(f'- {line}' for line in machines(results)) or '-']
    file.write_text('\n\n'.join(parts) + '\n')
