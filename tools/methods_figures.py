"""The drawings of a comparison's report, each an SVG as a string."""

import io
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter, MaxNLocator
from methods_plan import ALONE, TEACHER

STYLE = {
    'svg.fonttype': 'none',  # text stays text
    'svg.hashsalt': 'balkd_seg',  # the same figure is the same file
    'font.size': 10,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.grid': True,
    'grid.color': '#e5e7eb',
    'axes.axisbelow': True,
    'text.parse_math': False,  # names are names
}
WIDTH, HEIGHT = 4.4, 3.2
LEGEND_ROW, LONG_NAME = 0.22, 18
_FIXED = {ALONE: '#4b5563', TEACHER: '#000000'}


class Series(NamedTuple):
    """A line of a figure: pairs (iteration, value) of each run it is the mean of."""

    label: str
    colour: Any
    curves: Sequence[Sequence[Sequence[float]]]
    dash: str = '-'


def colours(names: Iterable[str]) -> dict[str, Any]:
    """Return a colour for each method, the same in all figures."""
    free = itertools.cycle([*mpl.colormaps['tab10'].colors, *mpl.colormaps['Dark2'].colors])
    return {name: _FIXED.get(name) or next(free) for name in names}


def as_svg(figure: Figure) -> str:
    """Return a figure as the text of an SVG file."""
    file = io.StringIO()
    figure.savefig(file, format='svg', metadata={'Date': None}, transparent=True)
    return file.getvalue()


def _columns(names: Sequence[str]) -> int:
    """Return how many names of a legend stand side by side."""
    return 2 if max(map(len, names), default=0) <= LONG_NAME else 1


def _axes(names: Sequence[str]) -> tuple[Figure, Axes]:
    """Return a figure with room for a legend of these names below."""
    rows = -(-len(names) // _columns(names))
    figure = Figure(figsize=(WIDTH, HEIGHT + LEGEND_ROW * rows), layout='constrained')
    return figure, figure.subplots()


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        place = dict(loc='outside lower center', ncols=_columns(labels))
        figure.legend(handles, labels, frameon=False, fontsize=10, **place)


@mpl.rc_context(STYLE)
def draw_cost(methods: Sequence[dict[str, Any]], split: str) -> str:
    """Draw mIoU over the time of a training iteration, with the spread over seeds."""
    shown = [m for m in methods if m[split]['n'] and m['seconds']['n'] and m['name'] != TEACHER]
    figure, axes = _axes([m['name'] for m in shown])
    colour = colours(m['name'] for m in methods)
    for method, marker in zip(shown, itertools.cycle('osD^vP*X'), strict=False):
        (x, y), (dx, dy) = ([method[k][v] for k in ('seconds', split)] for v in ('mean', 'sd'))
        axes.errorbar(
            x, y, xerr=dx, yerr=dy, fmt=marker, color=colour[method['name']],
            label=method['name'], capsize=2, markersize=7,
        )  # fmt: skip
    axes.set(xlabel='training time of an iteration, s', ylabel=f'mIoU on {split}, %')
    axes.set_xlim(left=0)
    _legend(figure, axes)
    return as_svg(figure)


@mpl.rc_context(STYLE)
def draw_curves(series: Iterable[Series], log: bool = False) -> str | None:
    """Draw a quantity over iterations, the mean over seeds and their range; None if there is none.

    Args:
        series: The curves.
        log: Whether the axis of values is logarithmic.
    """
    found = [(one, _mean_curve(one.curves)) for one in series]
    shown = [(one, rows) for one, rows in found if len(rows)]
    if not shown:
        return None
    figure, axes = _axes([one.label for one, _ in shown])
    for one, (steps, mean, low, high) in ((one, rows.T) for one, rows in shown):
        axes.plot(
            steps, mean, color=one.colour, label=one.label, linestyle=one.dash, linewidth=1.5,
            marker='o' if len(steps) < 8 else None, markersize=3,
        )  # fmt: skip
        axes.fill_between(steps, low, high, color=one.colour, alpha=0.15, linewidth=0)
    axes.set(xlabel='iteration')
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6))
    if log:
        axes.set_yscale('log')
        axes.yaxis.set_major_formatter(LogFormatter())  # plain text, not math
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    _legend(figure, axes)
    return as_svg(figure)


def _mean_curve(curves: Sequence[Sequence[Sequence[float]]]) -> np.ndarray:
    """Return step, mean, least and largest over runs, (points, 4), where all have a value."""
    by_step: dict[float, list[float]] = {}
    for step, value in itertools.chain(*curves):
        if value is not None and np.isfinite(value):
            by_step.setdefault(step, []).append(value)
    full = max(map(len, by_step.values()), default=0)
    rows = [
        (step, np.mean(values), min(values), max(values))
        for step, values in sorted(by_step.items())
        if len(values) == full
    ]
    return np.array(rows)


@mpl.rc_context(STYLE)
def draw_reliability(bins: Sequence[dict[str, list[float]]], ece: float | None, colour: Any) -> str:
    """Draw accuracy over confidence, pixels of all seeds together, and where the pixels are.

    Args:
        bins: Of each seed: pixels, probability and hits in bins of equal width.
        ece: Mean over seeds, per cent; None if it is no number.
        colour: Of the method.
    """
    sums = [np.sum([one[key] for one in bins], 0) for key in ('pixels', 'probability', 'hits')]
    pixels, probability, hits = sums
    edges, seen = np.linspace(0, 100, len(pixels) + 1), pixels > 0
    figure = Figure(figsize=(2.7, 3.3), layout='constrained')
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    upper.plot([0, 100], [0, 100], color='0.5', linewidth=1, linestyle='--')
    confidence, accuracy = (100 * x[seen] / pixels[seen] for x in (probability, hits))
    width = 100 / len(pixels)
    upper.bar(edges[:-1][seen], accuracy, width, align='edge', color=colour, alpha=0.25)
    upper.plot(confidence, accuracy, color=colour, marker='o', markersize=3)
    upper.set(xlim=(0, 100), ylim=(0, 100), ylabel='accuracy, %')
    upper.text(4, 92, 'ECE -' if ece is None else f'ECE {ece:.2f} %', va='top')
    lower.stairs(100 * pixels / pixels.sum(), edges, color=colour, fill=True, alpha=0.6)
    lower.set(xlabel='confidence, %', ylabel='pixels, %')
    return as_svg(figure)


@mpl.rc_context({**STYLE, 'axes.grid': False})
def draw_heat_map(
    table: np.ndarray, rows: tuple[str, list], columns: tuple[str, list], label: str
) -> str:
    """Draw numbers over two settings.

    Args:
        table: (rows, columns); NaN where nothing is done.
        rows: Name and values of the setting.
        columns: The same.
        label: What the numbers are.
    """
    figure = Figure(figsize=(WIDTH, 1.6 + 0.55 * len(table)), layout='constrained')
    axes = figure.subplots()
    image = axes.imshow(table, cmap='viridis', aspect='auto')
    middle = np.nanmean([np.nanmin(table), np.nanmax(table)]) if np.isfinite(table).any() else 0
    for (i, j), value in np.ndenumerate(table):
        text = f'{value:.2f}' if np.isfinite(value) else '-'
        colour = 'black' if value > middle else 'white' if np.isfinite(value) else 'black'
        axes.text(j, i, text, ha='center', va='center', color=colour)
    axes.set_xticks(range(len(columns[1])), columns[1])
    axes.set_yticks(range(len(rows[1])), rows[1])
    axes.set(xlabel=columns[0], ylabel=rows[0])
    axes.spines[:].set_visible(False)
    figure.colorbar(image, label=label)
    return as_svg(figure)
