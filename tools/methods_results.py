"""Everything that a comparison found, as one dict: report.json."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from methods_curves import curves, mean_of, telemetry
from methods_plan import ALONE, ROOT, TEACHER
from methods_state import DONE, RunFolder
from methods_statistics import paired_difference, summarise

# name: whether less is better
SCORES = {'val': False, 'val_best': False, 'test': False, 'ECE': True, 'NLL': True}
OTHERS = ('test_of_best', 'agreement', 'seconds', 'memory_mb', 'latency_ms')
ABOUT = ('date', 'commit', 'python', 'torch', 'balkd_seg', 'cpu', 'cores', 'threads', 'card')


def collect(work: Path) -> dict[str, Any]:
    """Return the results of a work dir: every run, finished or not, and what the seeds say."""
    suite = json.loads((work / 'suite.json').read_text())
    runs = [
        {'folder': one['folder'], **read_run(RunFolder(work / one['folder']))}
        for one in suite['runs']
    ]
    done = [run for run in runs if run['status'] == DONE]
    names = list(dict.fromkeys(run['name'] for run in runs))
    methods = [summarise_method([run for run in runs if run['name'] == name]) for name in names]
    by_name = {method['name']: method for method in methods}
    references = [name for name in (ALONE, 'kd') if name in by_name]
    for method in methods:
        method['against'] = {
            other: compare(method, by_name[other])
            for other in references
            if method['name'] not in (other, ALONE, TEACHER)
        }
    return {
        'options': suite['options'],
        'quick': suite['quick'],
        'jobs': suite['jobs'],
        'grid': suite['grid'],
        'about': [dict(text) for text in {tuple(run['about'].items()) for run in done}],
        'classes': done[0]['classes'] if done else [],
        'palette': done[0]['palette'] if done else None,
        'test_is_val': bool(done and done[0]['test_is_val']),
        'methods': methods,
        'runs': runs,
    }


def read_run(run: RunFolder) -> dict[str, Any]:
    """Return what is known of one run."""
    result = run.read()
    config = Path(result['config'] or '')
    if config.is_relative_to(ROOT):
        result['config'] = str(config.relative_to(ROOT))
    log = run.log()
    result['curves'] = curves(log)
    result['telemetry'] = telemetry(run.work / 'telemetry.jsonl')
    if result['status'] != DONE:
        return result
    measured = json.loads(run.measured.read_text())
    result.update({key: measured[key] for key in ('classes', 'palette', 'cost', 'test_is_val')})
    result.update({split: measured[split] for split in ('val', 'test')})
    result['about'] = {key: measured[key] for key in ABOUT if key != 'date'}
    seen = [miou for _, miou in result['curves']['val']]
    attempts = [one for one in result['attempts'] if one['step'] == 'train']
    memory = [entry['memory'] for entry in log if 'memory' in entry]
    rss = [one['max_rss_mb'] for one in attempts if one['max_rss_mb']]
    result['scores'] = {
        'val': measured['val']['mIoU'],
        'val_best': max([*seen, measured['val']['mIoU']]),
        'test': measured['test']['mIoU'],
        'test_of_best': measured['test_of_best'],
        'ECE': measured['test']['ECE'],
        'NLL': measured['test']['NLL'],
        'agreement': measured['val']['agreement'],
        'seconds': result['curves']['seconds'],
        'memory_mb': max(memory or rss, default=None),
        'latency_ms': measured['cost']['latency_ms']['median'],
    }
    return result


def summarise_method(runs: Sequence[dict]) -> dict[str, Any]:
    """Return what the seeds of a method say."""
    done = [run for run in runs if run['status'] == DONE]
    values = {
        key: {
            run['seed'] or 0: run['scores'][key] for run in done if run['scores'][key] is not None
        }
        for key in (*SCORES, *OTHERS)
    }
    return {
        'name': runs[0]['name'],
        'config': runs[0]['config'],
        'cell': runs[0]['cell'],
        'planned': len(runs),
        'failed': [run['seed'] for run in runs if run['status'] == 'failed'],
        'by_seed': values,
        **{key: summarise(list(by_seed.values())) for key, by_seed in values.items()},
        'IoU': [
            mean_of(column) for column in zip(*(run['test']['IoU'] for run in done), strict=True)
        ],
        'cost': done[0]['cost'] if done else None,
    }


def compare(method: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return the paired differences of a method to another."""
    ours, theirs = method['by_seed'], other['by_seed']
    return {key: paired_difference(ours[key], theirs[key], less) for key, less in SCORES.items()}
