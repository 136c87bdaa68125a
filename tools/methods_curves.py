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


def curves(log: Sequence[dict]) -> dict[str, Any]:
    """Return losses and val mIoU by iteration, and the median seconds of an iteration.

    Args:
        log: Entries of mmengine's scalars.json.
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
        result[name] = thin(result[name])
    return result


def thin(rows: Sequence[Sequence[float | None]]) -> list[list[float | None]]:
    """Return at most `POINTS` rows, each the mean of neighbours; None where there is no number."""
    size = -(-len(rows) // POINTS) or 1
    chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [[mean_of(column) for column in zip(*chunk, strict=True)] for chunk in chunks]


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


def telemetry(file: Path) -> dict[str, dict[str, Any]]:
    """Return columns of telemetry by term, and who learns from whom.

    A term stands under its name, with the learner's in front if that is a peer.

    Args:
        file: What `DistillTelemetryHook` wrote; may be missing or end in half a line.
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
    columns = ('step', *WATCHED)
    return {
        name: who[name] | dict(zip(columns, map(list, zip(*thin(rows), strict=True)), strict=True))
        for name, rows in terms.items()
    }
