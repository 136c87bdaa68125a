"""What a run's log and telemetry say over its iterations, in few enough points to keep."""

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

POINTS = 60
# of the student; names of peers stand before theirs
LOSSES = {'task': 'decode.loss', 'distill': 'distill.loss'}
WATCHED = ('forward', 'reverse', 'student_entropy', 'teacher_entropy', 'agreement',
           'teacher_wrong', 'student_wrong', 'loss', 'gradient', 'task_gradient')  # fmt: skip


def curves(log: Sequence[dict], max_iters: int) -> dict[str, Any]:
    """Return losses and val mIoU by iteration, and the median seconds of an iteration.

    Args:
        log: Entries of mmengine's scalars.json.
        max_iters: Iterations of a whole run.
    """
    result: dict[str, Any] = {'val': [], **{name: [] for name in LOSSES}}
    for entry in log:
        miou = entry.get('mIoU', entry.get('student/mIoU'))
        if miou is not None:
            result['val'].append([entry['step'], miou])
            continue
        for name, start in LOSSES.items():
            values = [value for key, value in entry.items() if key.startswith(start)]
            if values:
                result[name].append([entry['step'], sum(values)])
    times = [entry['time'] for entry in log if 'lr' in entry and 'time' in entry]
    result['seconds'] = statistics.median(times) if times else None
    for name in LOSSES:
        result[name] = thin(result[name], max_iters)
    return result


def thin(rows: Sequence[Sequence[Any]], max_iters: int) -> list[list[float | None]]:
    """Return at most `POINTS` rows, each the mean of those of a stretch of iterations.

    Stretches are the same for every run of a method, however far it came.

    Args:
        rows: The first of each is the iteration, from 1; None where there is no number.
        max_iters: Iterations of a whole run.
    """
    chunks: dict[int, list] = {}
    for row in rows:
        chunks.setdefault(int(row[0] * POINTS / (max_iters + 1)), []).append(row)
    return [[mean_of(column) for column in zip(*chunk, strict=True)] for chunk in chunks.values()]


def mean_of(values: Sequence[float | None]) -> float | None:
    """Return the mean of what is there."""
    there = [value for value in values if value is not None]
    return statistics.fmean(there) if there else None


def finite(content: Any) -> Any:
    """Return the same with None for every number that is infinite or none."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def telemetry(file: Path, max_iters: int) -> dict[str, dict[str, Any]]:
    """Return columns of telemetry by term, and who learns from whom.

    A term stands under its name, with the learner's in front if that is a peer.

    Args:
        file: What `DistillTelemetryHook` wrote; may be missing or end in half a line.
        max_iters: Iterations of a whole run.
    """
    if not file.exists():
        return {}
    lines = [line for line in file.read_text().splitlines(keepends=True) if line.endswith('\n')]
    terms: dict[str, list[list[float | None]]] = {}
    who: dict[str, dict[str, Any]] = {}
    for line in map(json.loads, lines):
        peer = '' if line['learner'] == 'student' else f'{line["learner"]}.'
        name, row = f'{peer}{line["loss_name"]}', [line['step'], *(line[key] for key in WATCHED)]
        terms.setdefault(name, []).append(finite(row))
        who[name] = {'learner': line['learner'], 'source': line['source']}
    found = {}
    for name, rows in terms.items():
        columns = map(list, zip(*thin(rows, max_iters), strict=True))
        found[name] = who[name] | dict(zip(('step', *WATCHED), columns, strict=True))
    return found
