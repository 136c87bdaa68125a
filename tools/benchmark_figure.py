"""Draw what the GPU benchmark measured: time and memory of every provider, one row a table."""

from pathlib import Path
from typing import Any


def draw(result: dict[str, Any], path: Path) -> None:
    """Write a PNG of bars on a logarithmic axis; ours in colour."""
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot

    tables = result['tables']
    figure, axes = pyplot.subplots(
        len(tables), 2, figsize=(11, 0.6 + 2.1 * len(tables)), squeeze=False, layout='constrained'
    )
    for (left, right), table in zip(axes, tables, strict=True):
        rows = [row for row in table['rows'] if 'error' not in row][::-1]
        names = [row['provider'] for row in rows]
        colours = ['#d1495b' if name == 'balkd_seg' else '#8d99ae' for name in names]
        for axis, key, label in ((left, 'p50 ms', 'ms'), (right, 'peak MB', 'MB')):
            values = [row[key] or 0 for row in rows]
            bars = axis.barh(names, values, color=colours)
            axis.bar_label(bars, [f' {value:.3g}' for value in values], fontsize=7)
            if min(values, default=0) > 0:
                axis.set_xscale('log')
                axis.set_xlim(0.5 * min(values), 4 * max(values))
            axis.set_xlabel(label, fontsize=8)
            axis.tick_params(labelsize=7)
            axis.spines[['top', 'right']].set_visible(False)
        left.set_title(table['title'], fontsize=8, loc='left')
        right.set_yticklabels([])
    card = result.get('card') or result.get('cpu')
    figure.suptitle(f'Forward and backward on {card}: time (left), memory (right)', fontsize=10)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
