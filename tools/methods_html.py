"""Pieces of a page of HTML that needs nothing but itself."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #111827; background: #fff;
       margin: 0 auto; padding: 1rem; max-width: 76rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.25rem; margin-top: 2.5rem; border-top: 1px solid #d1d5db;
     padding-top: 1rem } h3 { font-size: 1rem; margin: 1.5rem 0 .25rem }
.scroll { overflow-x: auto; margin-bottom: 1rem }
table { border-collapse: collapse; font-size: .9rem }
th, td { padding: .35rem .6rem; border-bottom: 1px solid #e5e7eb; text-align: right;
         white-space: nowrap } th { background: #f3f4f6 }
tbody th { position: sticky; left: 0; min-width: 4rem; max-width: 14rem }
th { white-space: normal } thead th { max-width: 14rem }
th:first-child, .words th { text-align: left }
.words td { text-align: left } .words td + td { white-space: normal; min-width: 11rem }
.figures { display: grid; gap: 1rem;
           grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)) }
.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 14rem), 1fr)) }
.case { display: grid; gap: .5rem; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)) }
figure { margin: 0 } figure img { width: 100%; height: auto; display: block }
.figures img { max-width: 27rem } .small img { max-width: 17rem }
figcaption { font-size: .9rem; font-weight: 600; overflow-wrap: anywhere }
.chips { display: flex; flex-wrap: wrap; gap: .25rem .9rem; font-size: .85rem; margin: .5rem 0 }
.chips i { display: inline-block; width: .9rem; height: .9rem; margin-right: .35rem;
           vertical-align: -.1rem; border: 1px solid #9ca3af }
pre { overflow-x: auto; background: #f3f4f6; padding: .75rem; font-size: .8rem }
.better { color: #166534 } .worse { color: #991b1b } ul { padding-left: 1.2rem }
"""


def page(title: str, body: Iterable[str]) -> str:
    """Return a document."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title><style>{STYLE}</style>'
        f'</head><body><h1>{escape(title)}</h1>{"".join(body)}</body></html>\n'
    )


def picture(content: bytes, kind: str, caption: str, alt: str = '') -> str:
    """Return a figure with the picture inside."""
    data = base64.b64encode(content).decode()
    text = escape(alt or caption)
    image = f'<img alt="{text}" src="data:image/{kind};base64,{data}">'
    return f'<figure><figcaption>{escape(caption)}</figcaption>{image}</figure>'


def drawing(svg: str | None, caption: str) -> str:
    """Return a figure of a drawing, nothing if there is none."""
    return '' if svg is None else picture(svg.encode(), 'svg+xml', caption)


def section(title: str, *parts: str) -> str:
    """Return a section, nothing if it is empty."""
    body = '\n'.join(part for part in parts if part)
    return f'<section><h2>{escape(title)}</h2>\n{body}</section>' if body else ''


def figures(parts: Iterable[str], kind: str = '') -> str:
    """Return figures side by side where there is room."""
    body = '\n'.join(part for part in parts if part)
    return f'<div class="figures {kind}">{body}</div>' if body else ''


def table(
    head: Sequence[str], rows: Sequence[Sequence[str]], cell: Any = None, kind: str = ''
) -> str:
    """Return a table that scrolls where it is too wide.

    Args:
        head: Of the columns.
        rows: Texts; the first of a row names it.
        cell: Returns the HTML of a cell from its text.
        kind: Class of the table: 'words' if it holds text rather than numbers.
    """
    cell = cell or (lambda text: f'<td>{escape(text)}</td>')
    lines = [f'<tr>{"".join(f"<th>{escape(text)}</th>" for text in head)}</tr>']
    body = [f'<tr><th>{escape(first)}</th>{"".join(map(cell, rest))}</tr>' for first, *rest in rows]
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}"><thead>{lines[0]}</thead>'
        f'<tbody>{"".join(body)}</tbody></table></div>'
    )


def chips(entries: Iterable[tuple[str, str]]) -> str:
    """Return a legend of colours."""
    spans = (
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for colour, name in entries
    )
    return f'<div class="chips">{"".join(spans)}</div>'


def bullets(lines: Iterable[str]) -> str:
    """Return a list, nothing if it is empty."""
    items = ''.join(f'<li>{escape(line)}</li>' for line in lines)
    return f'<ul>{items}</ul>' if items else ''
