r"""Which distillation method helps this student, on this data, and what does it cost?

    python tools/benchmark_methods.py CONFIG ... --methods kd balkd --seeds 0 1 2 --work-dir W

Trains the student alone and with every method, under identical settings, one process a run, and
writes report.json, report.md and report.html to W. Each CONFIG is compared; `--methods` adds the
configs of the same row as the first one, found by name (`all`: every method that has one); the
student alone comes by itself. The teacher is trained first if its checkpoint is not there.

Stop it at any time: the same command, or one that only says --work-dir, goes on where it stopped,
interrupted runs from their last checkpoint. A later command with more methods or seeds adds to what
is there. A failed run is reported with the end of its log; --retry starts it again.

`--grid forward_temperature=1,2,4 reverse_temperature=1,2,4` trains each method whose first entry
of `distill` has these settings once for every combination, and draws heat maps.

`--cfg-options` reach all runs: `model.student...` the student alone too, `model.teacher...`,
`model.distill...` and `model.fuse_task_loss` those that have them, and what is outside of `model`
the training of the teacher. A run is one process: where the name of a config says several GPUs,
such as 4xb4, `train_dataloader.batch_size=16` is yours to give. With several GPUs, `--jobs N` takes
them in turn.
"""

import argparse
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import balkd_seg

# isort: split
from demo import PhaseError, draw_scenes
from methods_config import QUICK
from methods_plan import ROOT, TEACHER, read_grid
from methods_report import write_report
from methods_runs import check_loaded, plan
from methods_state import DONE, FAILED, WAITING, RunFolder, hold, write_json
from methods_work import Work
from mmengine.config import DictAction
from mmseg.utils import register_all_modules

QUICK_CONFIG = 'configs/baseline/baseline_pspnet-r18-d32_1xb4-300_street-scenes-128x256.py'


def read_suite(work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Return the comparison of a work dir, or a new one.

    Raises:
        ValueError: If it is another comparison's, or holds something else.
    """
    file = work / 'suite.json'
    options = json.loads(json.dumps(args.cfg_options or {}))
    if not file.exists():
        # a command killed within its first moment leaves a part of suite.json
        if any(not re.fullmatch(r'lock|suite\.json\.\d+', path.name) for path in work.iterdir()):
            raise ValueError(f'Expected {work} to be empty or of a comparison, but it is not.')
        about = {'version': balkd_seg.__version__, 'options': options, 'quick': args.quick}
        return {**about, 'jobs': args.jobs, 'commands': [], 'runs': []}
    suite = json.loads(file.read_text())
    if suite['version'] != balkd_seg.__version__:
        raise ValueError(
            f'Expected balkd_seg {suite["version"]}, which {work} was started with, but this is '
            f'{balkd_seg.__version__}. Go on with that version, or take another --work-dir; '
            '--report-only reports what is there.'
        )
    if args.config and (options, args.quick) != (suite['options'], suite['quick']):
        raise ValueError(
            f'Expected the --cfg-options and --quick that {work} was started with, '
            f'{suite["options"]} and {suite["quick"]}, but got {options} and {args.quick}. Take '
            'another --work-dir.'
        )
    return {'commands': [], **suite, 'jobs': max(args.jobs, suite['jobs'])}


def add_runs(suite: dict[str, Any], args: argparse.Namespace, work: Path) -> None:
    """Add what the command line asks for to a comparison, and make the folders of its runs.

    Raises:
        ValueError: If the configs cannot be compared, or not with what is there; nothing changed.
        FileNotFoundError: If one is missing.
    """
    planned = plan(suite, args, work)
    write_json(work / 'suite.json', suite)  # from here on the work dir is a comparison's
    known = {run['folder'] for run in suite['runs']}
    for folder, about, text in planned:
        RunFolder.create(work / folder, about, text)
        if folder not in known:
            suite['runs'].append({'name': about['name'], 'folder': folder})
    suite['runs'].sort(key=lambda run: run['name'] != TEACHER)  # the others wait for it
    configs = dict.fromkeys(one.about['config'] for one in planned if one.about['name'] != TEACHER)
    command = {'configs': list(configs), 'seeds': args.seeds, 'grid': args.grid}
    suite['commands'] += [command] * (command not in suite['commands'])


def compare(args: argparse.Namespace) -> bool:
    """Plan, run and report; return whether every run is done."""
    work = args.work_dir.resolve()
    if args.report_only and not (work / 'suite.json').exists():
        raise ValueError(f'Expected a comparison in {work}, but there is none to report.')
    work.mkdir(parents=True, exist_ok=True)
    if not args.report_only:
        with hold(work) as lock:
            train_all(args, work, lock)
    results = write_report(work)
    for file in ('report.html', 'report.md', 'report.json'):
        print(f'Written: {args.work_dir / file}')
    return all(run['status'] == DONE for run in results['runs'])


def train_all(args: argparse.Namespace, work: Path, lock: Any) -> None:
    """Bring every run of a comparison to its end."""
    register_all_modules(init_default_scope=True)
    suite = read_suite(work, args)
    check_loaded(RunFolder(work / 'runs' / TEACHER))
    if args.config:
        add_runs(suite, args, work)
    elif not suite['runs']:
        raise ValueError('Expected at least one CONFIG to start a comparison, but got none.')
    write_json(work / 'suite.json', suite)
    if suite['quick']:
        draw_scenes(work, QUICK, seed=0)
    runs = [RunFolder(work / run['folder']) for run in suite['runs']]
    for run in runs:
        if args.retry and run.read()['status'] == FAILED:
            run.update(status=WAITING)
    teachers = [run for run in runs if run.path.name == TEACHER]
    Work(runs, teachers[0] if teachers else None, lock, args.jobs).do()


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add('config', nargs='*', metavar='CONFIG', help='see above')
    add('--methods', nargs='+', default=[], help='folders of configs/, or all')
    add('--seeds', nargs='+', type=int, help='default: 0')
    add('--work-dir', type=Path, default=Path('work_dirs/methods'), help='default: %(default)s')
    add('--grid', nargs='+', default=[], metavar='SETTING=A,B', help='see above')
    add('--jobs', type=int, default=1, help='processes at a time (default: 1)')
    add('--retry', action='store_true', help='start failed runs again')
    add('--report-only', action='store_true', help='train nothing, write the report anew')
    add('--quick', action='store_true', help='toy size, on scenes that are drawn at once')
    add('--cfg-options', nargs='+', action=DictAction, help='key=value, for all runs; see above')
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f'expected --jobs to be at least 1, but got {args.jobs}')
    if args.quick and args.methods and not args.config:
        args.config = [str(ROOT / QUICK_CONFIG)]
    planning = ('methods', 'seeds', 'grid', 'cfg_options', 'quick')
    given = [f'--{word.replace("_", "-")}' for word in planning if getattr(args, word)]
    if given and not args.config:
        parser.error(
            f'expected a CONFIG with {", ".join(given)}, but got none; without one, a comparison '
            'goes on as it was planned, and --work-dir, --jobs and --retry are all there is to say'
        )
    args.seeds = args.seeds or [0]
    return args


def main(argv: list[str] | None = None) -> int:
    """Compare; return the exit status: 1 if a run failed or nothing could start."""
    args = parse_args(argv)
    try:
        args.grid = read_grid(args.grid)
        return 0 if compare(args) else 1
    except (OSError, PhaseError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nStopped. The same command goes on; finished runs are kept.', file=sys.stderr)
        return 130


if __name__ == '__main__':
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what schedulers send first
    sys.exit(main())
