"""report.md: the tables of a comparison in plain Markdown."""

import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from methods_plan import TEACHER
from methods_state import DONE, FAILED
from methods_statistics import LEVEL

DIGITS = {'NLL': 4, 'seconds': 3, 'memory_mb': 0, 'latency_ms': 1}
HEADS = {
    'val': 'mIoU val', 'val_best': 'best val', 'test': 'mIoU test', 'ECE': 'ECE %', 'NLL': 'NLL',
    'agreement': 'agreement %', 'seconds': 's/iter', 'memory_mb': 'Mem (MB)',
}  # fmt: skip
NETWORKS = ('network', 'parameters (M)', 'GFLOPs', 'latency (ms)', 'input')
COMPARED = {'val': 'mIoU val', 'test': 'mIoU test', 'ECE': 'ECE %', 'NLL': 'NLL'}


def spread(summary: dict[str, Any], digits: int = 2) -> str:
    """Write mean and standard deviation."""
    if not summary['n']:
        return '-'
    text = f'{summary["mean"]:.{digits}f}'
    return text if summary['sd'] is None else f'{text} ± {summary["sd"]:.{digits}f}'


def split_of(results: dict[str, Any]) -> str:
    """Return what ECE, NLL and classes are of: val where the test set is the val set."""
    return 'val' if results['test_is_val'] else 'test'


def available(columns: dict[str, str], results: dict[str, Any]) -> dict[str, str]:
    """Return the columns, without test where the test set is the val set."""
    return {k: v for k, v in columns.items() if k != 'test' or not results['test_is_val']}


def result_cells(method: dict[str, Any], columns: Sequence[str]) -> list[str]:
    """Return one row of the main table, without the name."""
    cells = [spread(method[key], DIGITS.get(key, 2)) for key in columns]
    finished = method['finished']
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


def difference_head(results: dict[str, Any]) -> list[str]:
    """Return the head of the table of paired differences."""
    return ['method', 'against', *available(COMPARED, results).values(), 'seeds']


def difference_rows(results: dict[str, Any]) -> list[list[str]]:
    """Return the rows of the table of paired differences."""
    keys = available(COMPARED, results)
    return [
        [
            method['name'], other,
            *(difference(found[key], DIGITS.get(key, 2)) for key in keys), str(found['val']['n']),
        ]
        for method in results['methods']
        for other, found in method['against'].items()
    ]  # fmt: skip


def network_rows(results: dict[str, Any]) -> list[list[str]]:
    """Return what the teacher and the student cost once deployed; every method's student is one."""
    rows = []
    for name in (TEACHER, 'student'):
        found = [
            run['cost']
            for run in results['runs']
            if run['status'] == DONE and (run['name'] == TEACHER) == (name == TEACHER)
        ]
        if found:
            one, median = found[0], statistics.median(c['latency_ms']['median'] for c in found)
            size, flops = f'{one["parameters"] / 1e6:.2f}', f'{one["flops"] / 1e9:.2f}'
            rows.append([name, size, flops, f'{median:.1f}', 'x'.join(map(str, one['input']))])
    return rows


def class_rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of the IoU of each class, means over seeds."""
    methods = [method for method in results['methods'] if method['IoU']]
    rows = [
        [label, *('-' if m['IoU'][i] is None else f'{m["IoU"][i]:.2f}' for m in methods)]
        for i, label in enumerate(results['classes'])
    ]
    return ['class', *(method['name'] for method in methods)], rows


def commands(results: dict[str, Any]) -> str:
    """Return the commands that make the same comparison."""
    return '\n'.join(_command(results, one) for one in results['commands'])


def _command(results: dict[str, Any], one: dict[str, Any]) -> str:
    parts = ['python tools/benchmark_methods.py', *map(shlex.quote, one['configs'])]
    parts.append(f'--seeds {" ".join(map(str, one["seeds"]))}')
    if one['grid']:
        cells = (f'{key}={_compact(values)[1:-1]}' for key, values in one['grid'].items())
        parts.append(f'--grid {shlex.join(cells)}')
    parts += ['--quick'] * results['quick']
    parts += [f'--jobs {results["jobs"]}'] * (results['jobs'] > 1)
    if results['options']:
        options = (f'{key}={_compact(value)}' for key, value in results['options'].items())
        parts.append(f'--cfg-options {shlex.join(options)}')
    return ' \\\n  '.join(parts)


def _compact(value: Any) -> str:
    """Return a value as the command line takes it."""
    if isinstance(value, list):
        return f'[{",".join(map(_compact, value))}]'
    return str(value)


def settings(results: dict[str, Any]) -> list[str]:
    """Return what was trained, for how long and under which teacher."""
    runs = [run for run in results['runs'] if run['name'] != TEACHER]
    lines = [f'{one} iterations a run' for one in sorted({run['max_iters'] for run in runs})]
    if results['teacher']:
        lines.append(f'teacher: {results["teacher"]}')
    return lines


def notes(results: dict[str, Any]) -> list[str]:
    """Return what a reader has to know about the numbers."""
    count = sum(len(method['against']) for method in results['methods'])
    split = 'val (the test set of the config is its val set)' if results['test_is_val'] else 'test'
    lines = [
        f'mIoU in per cent of the last iterate; ECE, NLL and IoU of classes on {split}; agreement: '
        'share of valid val pixels where student and teacher name the same class.',
        'Mean ± standard deviation over seeds. Differences are paired by seed, with 95 % intervals '
        "of Student's t, each for itself.",
        's/iter: median of the training log. Mem: what mmengine logs on a GPU, else the largest '
        'resident set of the training process. Latency: batch 1, one val image, median of 20. '
        'GFLOPs: multiplications and additions of convolutions and matrix products.',
    ]
    if count:
        lines.append(
            f"better and worse hold after Holm's correction for all {count} comparisons of a score "
            'in this report; perhaps: only for that one by itself, as '
            f'{LEVEL * count:.1f} of {count} would if no method made a difference.'
        )
    if results['teacher']:
        lines.append(
            'All seeds share one teacher and one split of the data: intervals tell of other starts '
            'of the student, not of other teachers.'
        )
    seen = {len(r['curves']['val']) for r in results['runs'] if r['status'] == DONE}
    if seen - {0} == {1}:
        lines.append('Validated once, at the end: best val is the last, not a choice.')
    if results['jobs'] > 1:
        lines.append(f'{results["jobs"]} processes ran at a time: times are of a shared machine.')
    if results['quick']:
        lines.append('**Toy size (--quick): only shows that everything runs.**')
    return lines


def machines(results: dict[str, Any]) -> list[str]:
    """Return where and with what the runs were measured."""
    return [
        f'{one["card"] or one["cpu"]}, threads: {one["threads"]}; Python {one["python"]}, PyTorch '
        f'{one["torch"]}, balkd_seg {one["balkd_seg"]}, '
        + (f'trained at commit {one["trained"]}, ' if one['trained'] else '')
        + f'measured at commit {one["commit"] or "unknown"}'
        for one in results['about']
    ]


def open_runs(results: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return what, why and the end of the log of every run that is not done."""
    found = []
    for run in results['runs']:
        if run['status'] == DONE:
            continue
        seed = '' if run['seed'] is None else f' seed {run["seed"]}'
        failed = run['status'] == FAILED
        reason = f'failed: {run["reason"]}' if failed else run['status']
        found.append((f'{run["name"]}{seed}', reason, run['tail'] if failed else ''))
    return found


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lay out a table."""
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def write_markdown(file: Path, results: dict[str, Any]) -> None:
    """Write report.md."""
    columns = available(HEADS, results)
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
        parts += ['## Paired differences', markdown_table(difference_head(results), differences)]
    if results['classes']:
        names, classes = class_rows(results)
        parts += [f'## IoU of classes, {split_of(results)}', markdown_table(names, classes)]
    networks = network_rows(results)
    if networks:
        parts += ['## Deployed networks', markdown_table(NETWORKS, networks)]
    unfinished = open_runs(results)
    if unfinished:
        parts.append('## Runs that are not done')
    for name, reason, tail in unfinished:
        parts.append(f'**{name}**: {reason}' + (f'\n\n```\n{tail.rstrip()}\n```' if tail else ''))
    parts += ['## Settings', f'```\n{commands(results)}\n```']
    parts.append('\n'.join(f'- {line}' for line in settings(results)))
    parts += ['## Measured on', '\n'.join(f'- {line}' for line in machines(results)) or '-']
    file.write_text('\n\n'.join(parts) + '\n')
