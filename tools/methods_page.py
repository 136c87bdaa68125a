"""report.html: a comparison on one page that needs nothing but itself."""

import re
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from methods_curves import mean_of
from methods_figures import (
    Series,
    colours,
    draw_cost,
    draw_curves,
    draw_heat_map,
    draw_reliability,
)
from methods_gallery import LEGEND, class_chips, make_cases
from methods_grid import grid_tables
from methods_html import bullets, chips, drawing, figures, page, picture, section, table
from methods_plan import ALONE, TEACHER
from methods_results import runs_of
from methods_state import DONE
from methods_table import (
    HEADS,
    NETWORKS,
    available,
    commands,
    difference_head,
    difference_rows,
    machines,
    network_rows,
    notes,
    open_runs,
    result_cells,
    settings,
    split_of,
)
from methods_why import why

LIGHT_TEXT = 0.6  # of the largest gain: from there on a cell's colour is dark
SMALLEST_SCALE = 1.0  # points of IoU: less than that is not shown in full colour


def difference_cell(text: str) -> str:
    """Return a cell of the table of differences, coloured by what it says."""
    said = re.search(r'(perhaps )?(better|worse)$', text)
    kind = said[2] if said and not said[1] else ''
    return f'<td class="{kind}">{escape(text)}</td>'


def gains_of(runs: list[dict[str, Any]], name: str) -> list[float | None]:
    """Return what each class gains over the student alone, the mean of the seeds both have."""
    found: dict[str, dict[int, list]] = {
        one: {r['seed']: r['test']['IoU'] for r in runs if r['name'] == one and r['status'] == DONE}
        for one in (name, ALONE)
    }
    seeds = set(found[name]) & set(found[ALONE])
    pairs = [zip(found[name][seed], found[ALONE][seed], strict=True) for seed in seeds]
    by_seed = [[None if None in (b, a) else b - a for b, a in pair] for pair in pairs]
    if not by_seed:
        return [None] * max((len(r['test']['IoU']) for r in runs if r['status'] == DONE), default=0)
    return [mean_of(column) for column in zip(*by_seed, strict=True)]


def class_gains(results: dict[str, Any]) -> str:
    """Return the table of what each class gains or loses against the student alone."""
    methods = {method['name']: method for method in results['methods'] if method['IoU']}
    others = [name for name in methods if name not in (ALONE, TEACHER)]
    if ALONE not in methods or not others:
        return ''
    gains = {name: gains_of(results['runs'], name) for name in others}
    seen = [abs(x) for column in gains.values() for x in column if x is not None]
    largest = max([SMALLEST_SCALE, *seen])

    def cell(text: str) -> str:
        if text[:1] not in '+-' or text == '-':
            return f'<td>{text}</td>'
        share = min(abs(float(text)) / largest, 1)
        rgb = '21,128,61' if float(text) > 0 else '185,28,28'
        light = 'color:#fff;' if share > LIGHT_TEXT else ''
        return f'<td style="{light}background:rgba({rgb},{share:.2f})">{text}</td>'

    def number(value: float | None, how: str) -> str:
        return '-' if value is None else format(value, how)

    references = [name for name in (TEACHER, ALONE) if name in methods]
    rows = [
        [label, *(number(methods[n]['IoU'][i], '.1f') for n in references),
         *(number(gains[n][i], '+.1f') for n in others)]
        for i, label in enumerate(results['classes'])
    ]  # fmt: skip
    return table(['class', *references, *others], rows, cell)


def reliability(results: dict[str, Any]) -> list[str]:
    """Return the reliability diagram of each method."""
    names = [method['name'] for method in results['methods']]
    colour, found = colours(names), []
    for method in results['methods']:
        runs = [r for r in results['runs'] if r['name'] == method['name'] and r['status'] == DONE]
        if runs:
            bins, ece = [run['test']['bins'] for run in runs], method['ECE']['mean']
            svg = draw_reliability(bins, ece, colour[method['name']])
            found.append(drawing(svg, method['name']))
    return found


def learning_curves(results: dict[str, Any]) -> list[str]:
    """Return the drawings of loss and val mIoU over iterations."""
    colour = colours(method['name'] for method in results['methods'])
    labels = {
        'val': 'mIoU on val, %', 'task': "student's own loss of the main head",
        'distill': 'distillation terms, weighted',
    }  # fmt: skip

    def series(key: str) -> list[Series]:
        return [
            Series(name, colour[name], [r['curves'][key] for r in runs_of(results, name)])
            for name in colour
        ]

    return [drawing(draw_curves(series(key)), label) for key, label in labels.items()]


def gallery(work: Path, results: dict[str, Any]) -> list[str]:
    """Return the images with what each network sees."""
    cases = make_cases(work, results)
    if not cases:
        return []
    labels = [*class_chips(results), ('#000000', 'not labelled')]
    legend = [chips(labels), chips(LEGEND.items())]
    return legend + [
        f'<h3>{escape(case.title)}</h3><div class="case">'
        + ''.join(picture(data, kind, name) for name, (kind, data) in case.pictures.items())
        + '</div>'
        for case in cases
    ]


def heat_maps(results: dict[str, Any]) -> list[str]:
    """Return the heat maps of a sweep, on val: who picks a cell by test selects on test."""
    found = []
    for one in grid_tables(results, 'val'):
        svg = draw_heat_map(np.array(one.table), one.rows, one.columns, 'mIoU on val, %')
        found.append(drawing(svg, one.title))
    return found


def unfinished(results: dict[str, Any]) -> list[str]:
    """Return what became of the runs that are not done, those with a log first."""
    runs = open_runs(results)
    told = [
        f'<h3>{escape(name)}: {escape(reason)}</h3><pre>{escape(tail)}</pre>'
        for name, reason, tail in runs
        if tail
    ]
    return [*told, bullets(f'{name}: {reason}' for name, reason, tail in runs if not tail)]


def differences(results: dict[str, Any]) -> str:
    """Return the table of paired differences, nothing if there are none."""
    rows = difference_rows(results)
    return table(difference_head(results), rows, difference_cell, 'words') if rows else ''


def setting_parts(results: dict[str, Any]) -> list[str]:
    """Return the commands that repeat the comparison, and what it trains."""
    return [f'<pre>{escape(commands(results))}</pre>', bullets(settings(results))]


def write_page(file: Path, work: Path, results: dict[str, Any]) -> None:
    """Write report.html."""
    columns, split = available(HEADS, results), split_of(results)
    rows = [[method['name'], *result_cells(method, columns)] for method in results['methods']]
    cost = drawing(draw_cost(results['methods'], split), f'mIoU on {split}')
    gains = f'Gain of each class against the student alone, IoU on {split} in points'
    body = [
        table(['method', *columns.values(), 'seeds done'], rows),
        bullets(line.strip('*') for line in notes(results)),
        section('Runs that are not done', *unfinished(results)),
        section('Paired differences', differences(results)),
        section('Deployed networks', table(NETWORKS, network_rows(results))),
        section('mIoU against training cost', figures([cost])),
        section(gains, class_gains(results)),
        section('Sweep', figures(heat_maps(results))),
        section(f'Reliability on {split}', figures(reliability(results), 'small')),
        section('Learning curves', figures(learning_curves(results))),
        section('Why it helps or not', *why(results)),
        section('Validation images: greatest gains and losses', *gallery(work, results)),
        section('Settings', *setting_parts(results)),
        section('Measured on', bullets(machines(results))),
    ]
    file.write_text(page('Comparison of methods', body))
