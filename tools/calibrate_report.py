"""How `tools/calibrate.py` shows its results: a table and reliability diagrams."""

from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

BAR, BEFORE, AFTER = '#9ecae1', '#08519c', '#d94801'


def format_table(results: list[dict[str, Any]]) -> str:
    """Lay the networks out, one a line."""
    width = max(len('network'), *(len(one['name']) for one in results))
    lines = [
        f'{"":{width}}{"":>8}{"":>13}{"ECE %":>9}{"":>9}{"NLL":>9}',
        f'{"network":{width}}{"mIoU %":>8}{"temperature":>13}' + f'{"before":>9}{"after":>9}' * 2,
    ]
    for one in results:
        before, after = one['before'], one['after']
        ece = f'{before["ECE"]:>9.2f}{after["ECE"]:>9.2f}'
        nll = f'{before["NLL"]:>9.4f}{after["NLL"]:>9.4f}'
        lines.append(
            f'{one["name"]:{width}}{one["mIoU"]:>8.2f}{one["temperature"]:>13.4f}{ece}{nll}'
        )
    return '\n'.join(lines)


def draw_reliability(axes: Axes, one: dict[str, Any]) -> None:
    """Draw accuracy over confidence, as trained and scaled; on the diagonal, both are equal."""
    axes.plot([0, 100], [0, 100], color='0.5', linewidth=1, linestyle='--')
    num_bins = len(one['before']['bins']['pixels'])
    edges = np.linspace(0, 100, num_bins + 1)
    for name, colour in (('before', BEFORE), ('after', AFTER)):
        pixels, probability, hits = (
            np.array(one[name]['bins'][key]) for key in ('pixels', 'probability', 'hits')
        )
        seen = pixels > 0
        confidence, accuracy = (
            100 * probability[seen] / pixels[seen],
            100 * hits[seen] / pixels[seen],
        )
        if name == 'before':
            axes.bar(
                edges[:-1][seen], accuracy, 100 / num_bins, align='edge', color=BAR, edgecolor='w'
            )
            label = f'as trained: ECE {one[name]["ECE"]:.2f} %'
        else:
            label = f'T = {one["temperature"]:.3f}: ECE {one[name]["ECE"]:.2f} %'
        axes.plot(confidence, accuracy, color=colour, marker='o', markersize=3, label=label)
    axes.set(xlim=(0, 100), ylim=(0, 100), box_aspect=1)
    axes.legend(loc='upper left', fontsize=8, frameon=False)


def draw_histogram(axes: Axes, one: dict[str, Any]) -> None:
    """Draw which share of the pixels is in each bin of confidence."""
    for name, colour in (('before', BEFORE), ('after', AFTER)):
        pixels = np.array(one[name]['bins']['pixels'])
        edges = np.linspace(0, 100, len(pixels) + 1)
        axes.stairs(100 * pixels / pixels.sum(), edges, color=colour)
    axes.set(
        xlim=(0, 100),
        ylim=(0, None),
        box_aspect=1 / 3,
        xlabel='confidence in the predicted class, %',
    )


def write_figure(file: Path, results: list[dict[str, Any]]) -> None:
    """Write the networks side by side as a PNG.

    Args:
        file: Written or replaced.
        results: One for each network, as in calibration.json.
    """
    figure = Figure(figsize=(3.6 * len(results) + 0.6, 5.4), layout='constrained')
    rows = figure.subplots(
        2, len(results), squeeze=False, sharey='row', gridspec_kw={'height_ratios': [3, 1]}
    )
    for one, upper, lower in zip(results, *rows, strict=True):
        draw_reliability(upper, one)
        draw_histogram(lower, one)
        title = '\n'.join(wrap(one['name'], 44))
        upper.set_title(f'{title}\nmIoU {one["mIoU"]:.2f} %', fontsize=9)
    rows[0, 0].set_ylabel('accuracy, %')
    rows[1, 0].set_ylabel('pixels, %')
    figure.savefig(file, dpi=120)
