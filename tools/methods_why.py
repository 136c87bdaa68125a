"""The part of a report that tells why distillation helps or not: telemetry, drawn by term."""

import itertools
from collections.abc import Iterator
from typing import Any

from methods_figures import Series, colours, draw_curves
from methods_html import drawing, figures, table
from methods_results import runs_of

DASHES = ('-', '--', ':', '-.')
OF_LOGITS = {
    'forward part KL(teacher‖student), nats': 'forward',
    'reverse part KL(student‖teacher), nats': 'reverse',
    'entropy of the student, nats': 'student_entropy',
    'entropy of the teacher, nats': 'teacher_entropy',
    'share of pixels where both agree': 'agreement',
    'share of pixels where the teacher is wrong': 'teacher_wrong',
    'share of pixels where the student is wrong': 'student_wrong',
}
RATIO = 'gradient norm, distillation term / task loss'
EXPLANATION = (
    'Forward and reverse part, entropies and shares compare the logits of learner and source, '
    'whatever the loss compares. Gradients are taken at the output of the tap of the learner; '
    'there is no ratio where the task loss does not act through it.'
)


def why(results: dict[str, Any]) -> list[str]:
    """Return what the terms are and the drawings of their telemetry."""
    if not any(run['telemetry'] for run in results['runs']):
        return []
    drawn = [
        drawing(draw_curves(series(results, key, by_pair=True)), label)
        for label, key in OF_LOGITS.items()
    ]
    ratio = draw_curves(series(results, None, by_pair=False), log=True)
    return [
        f'<p>{EXPLANATION}</p>',
        table(['method', 'term', 'loss', 'learns from', 'at'], term_rows(results), kind='words'),
        figures([drawing(ratio, RATIO), *drawn]),
    ]


def term_rows(results: dict[str, Any]) -> list[list[str]]:
    """Return what each term of each method compares, and where."""
    return [
        [
            method['name'], term['loss_name'], term['type'],
            f'{term["learner"]} from {term["source"]}',
            term['student_tap'] + (
                '' if term['student_tap'] == term['teacher_tap'] else f', {term["teacher_tap"]}'
            ),
        ]
        for method in results['methods']
        for term in method['terms']
    ]  # fmt: skip


def series(results: dict[str, Any], key: str | None, by_pair: bool) -> Iterator[Series]:
    """Return the lines of a figure.

    Args:
        results: As in report.json.
        key: A column of the telemetry; None: the ratio of the gradients.
        by_pair: Whether one line tells all of a learner and its source; else one for each term.
    """
    names = [method['name'] for method in results['methods']]
    colour = colours(names)
    for name in names:
        runs = [run['telemetry'] for run in runs_of(results, name)]
        terms: dict[Any, str] = {}  # the first term of each pair, or every term
        for term, columns in ((t, c) for run in runs for t, c in run.items()):
            pair = f'{columns["learner"]} from {columns["source"]}'
            terms.setdefault(pair if by_pair else term, term)
        for (shown, term), dash in zip(terms.items(), itertools.cycle(DASHES), strict=False):
            label = name if len(terms) == 1 else f'{name}: {shown}'
            curves = [_column(run[term], key) for run in runs if term in run]
            yield Series(label, colour[name], curves, dash)


def _column(term: dict[str, Any], key: str | None) -> list[list[float]]:
    """Return pairs (iteration, value) where there is a value."""
    if key is not None:
        return [[step, v] for step, v in zip(term['step'], term[key], strict=True) if v is not None]
    rows = zip(term['step'], term['gradient'], term['task_gradient'], strict=True)
    return [[step, own / task] for step, own, task in rows if own is not None and task]
