"""The tables of a sweep: scores over two settings, one table for each choice of the others."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class GridTable(NamedTuple):
    """Means over seeds, NaN where nothing is done; name and values of rows and columns."""

    title: str
    rows: tuple[str, list]
    columns: tuple[str, list]
    table: list[list[float]]


def grid_tables(results: dict[str, Any], split: str) -> list[GridTable]:
    """Return the tables of every swept config.

    Args:
        results: As in report.json.
        split: 'val' or 'test'.
    """
    tables: list[GridTable] = []
    cells = [method for method in results['methods'] if method['cell']]
    kinds = {(method['config'], tuple(method['cell'])): None for method in cells}
    for config, settings in kinds:
        swept = [m for m in cells if (m['config'], tuple(m['cell'])) == (config, settings)]
        tables += _tables_of(swept, settings, split)
    return tables


def in_order(values: Sequence[Any]) -> list[Any]:
    """Return different values, numbers by size and others behind them."""

    def key(value: Any) -> tuple:
        return (0, value, '') if isinstance(value, (int, float)) else (1, 0, str(value))

    return sorted(dict.fromkeys(values), key=key)


def _tables_of(cells: Sequence[dict], settings: tuple[str, ...], split: str) -> list[GridTable]:
    """Return a table of the first two settings for each choice of the others."""
    first, *more = settings
    second = more[0] if more else None
    choices = {tuple(cell['cell'][key] for key in more[1:]): None for cell in cells}
    found = []
    for choice in choices:
        own = [c for c in cells if tuple(c['cell'][key] for key in more[1:]) == choice]
        rows, columns = (
            in_order([c['cell'][key] for c in own]) if key else [''] for key in (second, first)
        )
        scores = {
            (c['cell'][second] if second else '', c['cell'][first]): c[split]['mean'] for c in own
        }
        values = [[scores.get((y, x)) for x in columns] for y in rows]
        table = [[float('nan') if v is None else v for v in line] for line in values]
        method = own[0]['name'].split(' ')[0]
        fixed = ' '.join(f'{key}={value}' for key, value in zip(more[1:], choice, strict=True))
        title = f'{method} {fixed}'.strip()
        found.append(GridTable(title, (second or '', rows), (first, columns), table))
    return found
