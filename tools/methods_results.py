"""Everything that a comparison found, as one dict: report.json."""

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
from methods_curves import curves, finite, mean_of, telemetry
from methods_plan import ALONE, TEACHER
from methods_state import DONE, RunFolder
from methods_statistics import paired_difference, put_into_words, summarise
from mmengine.config import Config
from mmseg.registry import MODELS

from balkd_seg.datasets.loading import IGNORE_INDEX
from balkd_seg.kinds import kind_of, name_of

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
    for key, lower_is_better in SCORES.items():
        found = [one[key] for method in methods for one in method['against'].values()]
        put_into_words(found, lower_is_better)
    return {
        **{key: suite[key] for key in ('options', 'quick', 'jobs')},
        'commands': suite.get('commands', []),
        'teacher': next((name_of_teacher(run) for run in runs if run['name'] == TEACHER), None),
        'about': [dict(text) for text in dict.fromkeys(tuple(r['about'].items()) for r in done)],
        'classes': done[0]['classes'] if done else [],
        'palette': done[0]['palette'] if done else None,
        'ignore_index': done[0]['ignore_index'] if done else None,
        'test_is_val': bool(done and done[0]['test_is_val']),
        'methods': methods,
        'runs': runs,
    }


def read_run(run: RunFolder) -> dict[str, Any]:
    """Return what is known of one run."""
    result = run.read()
    if 'checkpoint' in result:  # loaded: nothing of a config was trained
        result['config'] = None
    result['terms'] = read_terms(run.config)
    log = run.log()
    result['curves'] = finite(curves(log, result['max_iters']))
    result['telemetry'] = telemetry(run.work / 'telemetry.jsonl', result['max_iters'])
    if result['status'] != DONE:
        return result
    measured = finite(json.loads(run.measured.read_text()))
    result.update({key: measured[key] for key in ('classes', 'palette', 'cost', 'test_is_val')})
    result.update({split: measured[split] for split in ('val', 'test')})
    # runs measured before it was written down
    result['ignore_index'] = measured.get('ignore_index', IGNORE_INDEX)
    result['about'] = {key: measured[key] for key in ABOUT if key != 'date'}
    attempts = [one for one in result['attempts'] if one['step'] == 'train']
    commits = dict.fromkeys(str(one['commit']) for one in attempts if one.get('commit'))
    result['about']['trained'] = ', '.join(commits) or None
    memory = [entry['memory'] for entry in log if 'memory' in entry]
    rss = [one['max_rss_mb'] for one in attempts if one['max_rss_mb']]
    val, test = result['val'], result['test']
    seen = [*(miou for _, miou in result['curves']['val']), val['mIoU']]
    result['scores'] = {
        'val': val['mIoU'],
        'val_best': max((miou for miou in seen if miou is not None), default=None),
        'test': test['mIoU'],
        'test_of_best': measured['test_of_best'],
        'ECE': test['ECE'],
        'NLL': test['NLL'],
        'agreement': val['agreement'],
        'seconds': result['curves']['seconds'],
        'memory_mb': max(memory or rss, default=None),
        'latency_ms': measured['cost']['latency_ms']['median'],
    }
    return result


def name_of_teacher(run: dict[str, Any]) -> str:
    """Return where the teacher's weights came from."""
    return run.get('checkpoint') or f'{run["config"]}, {run["max_iters"]} iterations'


def read_terms(config: Path) -> list[dict[str, Any]]:
    """Return what the entries of `distill` of a config are called, compare, and where."""
    model = Config.fromfile(config).get('model', {})
    networks = ['student', *model.get('peers', {}), *(['teacher'] if 'teacher' in model else [])]
    terms = []
    for entry in model.get('distill', []):
        loss = kind_of(entry, MODELS)
        named = inspect.signature(loss).parameters.get('loss_name')
        learner = entry.get('learner', 'student')
        terms.append({
            'type': name_of(entry, MODELS),
            'loss_name': entry.get('loss_name', named.default if named else ''),
            'learner': learner,
            'source': entry.get('source') or next(n for n in networks if n != learner),
            'student_tap': entry.get('student_tap', 'logits'),
            'teacher_tap': entry.get('teacher_tap', 'logits'),
        })  # fmt: skip
    return terms


def runs_of(results: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the finished runs of a method, or all while none is: those may end anywhere."""
    runs = [run for run in results['runs'] if run['name'] == name]
    return [run for run in runs if run['status'] == DONE] or runs


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
        'finished': len(done),
        'terms': runs[0]['terms'],
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
    return {key: paired_difference(ours[key], theirs[key]) for key in SCORES}
