r"""Keep the figures of the finished runs of `tools/benchmark_methods.py` in small files, to commit.

    python tools/methods_keep.py W OUT

Writes OUT/ARM_seedN.json for every finished run of the work dir W, and OUT/teacher.json: what the
report knows of the run (scores and IoU on val and test, calibration, curves, telemetry, cost,
commit, circumstances), and SHA-256 of its last weights and of its teacher's. Checkpoints and
pictures stay in W. A file that is there stays if it is of the same weights, trained again or not;
other weights under its name are refused.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import balkd_seg  # noqa: F401  (before mmseg: makes it run with mmcv-lite)

# isort: split
import torch
from methods_plan import TEACHER
from methods_results import read_run
from methods_state import DONE, RunFolder, folder_name
from mmseg.utils import register_all_modules


def hash_weights(checkpoint: str) -> str | None:
    """Return the SHA-256 of the weights in a file, not of its times; None of a URL."""
    if not Path(checkpoint).is_file():
        return None
    content = torch.load(checkpoint, map_location='cpu', weights_only=True)
    found = hashlib.sha256()
    for name, tensor in sorted(content.get('state_dict', content).items()):
        found.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}\n'.encode())
        found.update(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def as_text(content: dict[str, Any]) -> str:
    """Return JSON with one line for each key: short, and a difference is seen."""
    lines = (f'{json.dumps(key)}: {json.dumps(value)}' for key, value in content.items())
    return '{\n' + ',\n'.join(lines) + '\n}\n'


def keep(work: Path, out: Path) -> list[Path]:
    """Write the files of the finished runs; return those that are new.

    Raises:
        ValueError: If `work` holds no comparison, or a file is of other weights.
    """
    if not (work / 'suite.json').exists():
        raise ValueError(
            f'Expected a comparison in {work}, but there is none. Give the --work-dir of '
            'tools/benchmark_methods.py.'
        )
    folders = [one['folder'] for one in json.loads((work / 'suite.json').read_text())['runs']]
    runs = [run for run in map(RunFolder, map(work.joinpath, folders)) if run.exists]
    done = [run for run in runs if run.read()['status'] == DONE]
    teacher = next((r for r in done if r.read()['name'] == TEACHER), None)
    taught_by = hash_weights(teacher.checkpoint) if teacher else None
    written = []
    for run in done:
        about = run.read()
        weights = hash_weights(run.checkpoint)
        seed = '' if about['seed'] is None else f'_seed{about["seed"]}'
        file = out / f'{folder_name(about["name"])}{seed}.json'
        if file.exists():
            check_same(file, weights, run)
            continue
        hashes = {
            'weights_sha256': weights,
            'teacher_sha256': taught_by if about['taught'] else None,
        }
        out.mkdir(parents=True, exist_ok=True)
        file.write_text(as_text({**read_run(run), **hashes}))
        written.append(file)
    return written


def check_same(file: Path, weights: str, run: RunFolder) -> None:
    """Raise ValueError unless a file is of a run that ended with the same weights."""
    if json.loads(file.read_text())['weights_sha256'] != weights:
        raise ValueError(
            f'Expected {file} to be of the weights in {run.path}, but it is of others: of another '
            'teacher or machine, say. Keep these runs in another OUT.'
        )


def main(argv: list[str] | None = None) -> int:
    """Keep what is finished; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('work', type=Path, metavar='W', help='work dir of a comparison')
    parser.add_argument('out', type=Path, metavar='OUT', help='folder of the figures')
    args = parser.parse_args(argv)
    register_all_modules(init_default_scope=True)
    try:
        written = keep(args.work.resolve(), args.out)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print('\n'.join(f'Written: {file}' for file in written) or 'Nothing new.')
    return 0


if __name__ == '__main__':
    sys.exit(main())
