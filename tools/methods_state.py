"""What a comparison keeps on disk, so that it can be killed at any time and goes on.

    W/suite.json             options and the list of runs; a later command may add runs
    W/lock                   held by the command and by every process it started
    W/gallery/               validation images and their truth
    W/runs/NAME/seed-N/      one run; W/runs/teacher/ the teacher
        config.py            what is trained
        run.json             what the run is, its status, one entry for each process it took
        train.log test.log   all that its processes printed
        train/               work dir of tools/train.py: checkpoints, scalars, telemetry.jsonl
        measured.json        what tools/methods_measure.py found
        predictions/         label maps of the validation images in the gallery

Every JSON file is written beside its place and moved there, so it is whole or as before.
"""

import fcntl
import json
import os
import re
import shutil
from collections import deque
from pathlib import Path
from typing import IO, Any

from balkd_seg.compat import load_weights  # before mmengine

# isort: split
from demo import read_log

WAITING, TRAINING, MEASURING, DONE, FAILED = 'waiting', 'training', 'measuring', 'done', 'failed'


def write_json(file: Path, content: Any) -> None:
    """Write or replace a file at once."""
    beside = file.with_name(f'{file.name}.{os.getpid()}')
    beside.write_text(json.dumps(content, indent=1) + '\n')
    beside.replace(file)


def hold(work: Path) -> IO:
    """Return the lock of a work dir, held as long as the file or a copy of it is open.

    Raises:
        ValueError: If a comparison, or a process that one started, holds it.
    """
    lock = (work / 'lock').open('w')
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ValueError(
            f'Expected {work} to be free, but another comparison, or a training that it started, '
            'is running there. Wait for it or stop it.'
        ) from None
    return lock


class RunFolder:
    """A run on disk.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config, self.work = path / 'config.py', path / 'train'
        self.measured = path / 'measured.json'

    @property
    def exists(self) -> bool:
        """Whether it was made; a command killed meanwhile leaves a part."""
        return self.config.exists() and (self.path / 'run.json').exists()

    def check(self, config: str) -> None:
        """Raise ValueError if the run is there and trains something else."""
        if self.exists and self.config.read_text() != config:
            raise ValueError(
                f'Expected the settings of {self.path} to be those it was started with, as all '
                'seeds of a method are compared as one, but they changed since. Compare with '
                f'{self.config}; undo the change or take another --work-dir.'
            )

    @classmethod
    def create(cls, path: Path, about: dict[str, Any], config: str) -> 'RunFolder':
        """Make a run, or accept the one that is there if it trains the same.

        Raises:
            ValueError: If it trains something else.
        """
        run = cls(path)
        if run.exists:
            run.check(config)
            return run
        path.mkdir(parents=True, exist_ok=True)
        run.config.write_text(config)
        write_json(path / 'run.json', {**about, 'status': WAITING, 'attempts': []})
        return run

    def read(self) -> dict[str, Any]:
        """Return what run.json says."""
        return json.loads((self.path / 'run.json').read_text())

    def update(self, **changes: Any) -> None:
        """Change what run.json says."""
        write_json(self.path / 'run.json', {**self.read(), **changes})

    @property
    def checkpoint(self) -> str:
        """The last checkpoint, which a finished run is measured by."""
        return self.checkpoint_of(self.read())

    def checkpoint_of(self, about: dict[str, Any]) -> str:
        """Return the last checkpoint, from what run.json says or will say."""
        return about.get('checkpoint') or str(self.work / f'iter_{about["max_iters"]}.pth')

    @property
    def iteration(self) -> int:
        """How far the training is, from its log."""
        return max((entry['step'] for entry in self.log()), default=0)

    def log(self) -> list[dict[str, Any]]:
        """Return the entries of the training log by step; what was trained twice counts once."""
        entries: dict[tuple, dict] = {}
        for entry in read_log(self.path, 'train'):
            if 'step' in entry:
                entries[entry['step'], any('mIoU' in key for key in entry)] = entry
        return [entries[key] for key in sorted(entries)]

    def tail(self, name: str) -> str:
        """Return the end of a log."""
        file = self.path / f'{name}.log'
        if not file.exists():
            return ''
        with file.open(errors='replace') as lines:
            return ''.join(deque(lines, 15))

    def prepare_to_train(self) -> bool:
        """Make the newest whole checkpoint the one to resume from; return whether there is one.

        A killed process can leave half a file, and mmengine's note of the last checkpoint may name
        a file that it removed since.
        """
        files = [file for file in self.work.glob('iter_*.pth') if file.stem[5:].isdigit()]
        for file in sorted(files, key=lambda file: int(file.stem[5:]), reverse=True):
            try:
                load_weights(file, map_location='cpu', mmap=True)
            except Exception:  # whatever half a file makes the reader raise
                file.unlink()
                continue
            (self.work / 'last_checkpoint').write_text(str(file))
            return True
        shutil.rmtree(self.work, ignore_errors=True)
        return False

    @property
    def is_trained(self) -> bool:
        """Whether a training process came to its end.

        That the last checkpoint is there says less: mmengine writes it once more if the last
        validation was the best, and a process killed meanwhile leaves half of it.
        """
        about = self.read()
        if 'checkpoint' in about:
            return True
        ended = any(one['step'] == 'train' and one['exit'] == 0 for one in about['attempts'])
        return ended and Path(self.checkpoint).exists()

    def drop_spare_checkpoints(self) -> None:
        """Delete what a finished run needs no more: all but the last checkpoint and the best."""
        last = Path(self.checkpoint)
        for file in [*self.work.glob('iter_*.pth'), *self.work.glob(f'best_*_{last.stem}.pth')]:
            if file.name != last.name:
                file.unlink()


def folder_name(name: str) -> str:
    """Return a name as a folder."""
    return re.sub(r'[^\w.=-]+', '_', name)
