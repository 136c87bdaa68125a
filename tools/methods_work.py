"""Train and measure runs, one process each, several at a time if asked, and tell how far it is."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO

import torch
from benchmark_report import find_commit
from demo import clock
from methods_state import DONE, FAILED, MEASURING, TRAINING, RunFolder

TOOLS = Path(__file__).resolve().parent
POLL_SECONDS = 0.5


class Job:
    """A process of a run.

    Args:
        run: The run.
        name: 'train' or 'test', for the log.
        command: Arguments after the interpreter.
        lock: A file that the process keeps open too.
        slot: Which of the processes at a time it is, from 0; several GPUs are taken in turn.
    """

    def __init__(self, run: RunFolder, name: str, command: list[str], lock: IO, slot: int) -> None:
        self.run, self.name, self.slot = run, name, slot
        self.commit, self.start = find_commit(), time.monotonic()
        devices, environment = cuda_devices(), dict(os.environ)
        if len(devices) > 1:
            environment['CUDA_VISIBLE_DEVICES'] = devices[slot % len(devices)]
        with (run.path / f'{name}.log').open('a') as log:
            print(f'$ python {" ".join(command)}', file=log, flush=True)
            self.process = subprocess.Popen(
                [sys.executable, '-u', '-W', 'ignore', *command],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                pass_fds=[lock.fileno()],
                env=environment,
                preexec_fn=_die_with_parent(),
            )

    def is_over(self) -> bool:
        """Note the end of the process, if it came; never waits."""
        pid, status, usage = os.wait4(self.process.pid, os.WNOHANG)
        if not pid:
            return False
        self.process.returncode = os.waitstatus_to_exitcode(status)
        scale = 2**20 if sys.platform == 'darwin' else 2**10
        self.note(usage.ru_maxrss / scale)
        return True

    def note(self, max_rss_mb: float | None) -> None:
        """Write down what became of the process."""
        attempt = {
            'step': self.name,
            'seconds': round(time.monotonic() - self.start, 1),
            'exit': self.process.returncode,
            'max_rss_mb': max_rss_mb,
            'commit': self.commit,
        }
        self.run.update(attempts=[*self.run.read()['attempts'], attempt])


def cuda_devices() -> list[str]:
    """Return the CUDA devices that may be used, as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    named = os.environ.get('CUDA_VISIBLE_DEVICES')
    return named.split(',')[:count] if named else [str(number) for number in range(count)]


def stop(jobs: Sequence[Job]) -> None:
    """End processes, all of them before a note is written: the disk may be full."""
    for job in jobs:
        job.process.terminate()
    for job in jobs:
        job.process.wait()
    for job in jobs:
        job.note(None)


def _die_with_parent() -> partial | None:
    """Return what makes a process on Linux end with the one that started it, however that ends."""
    if sys.platform != 'linux':
        return None  # there the lock keeps others out until the process has ended
    pr_set_pdeathsig = 1
    return partial(ctypes.CDLL(None).prctl, pr_set_pdeathsig, signal.SIGKILL)


class Work:
    """All that is to be done.

    Args:
        runs: In order.
        teacher: One of them or None; what it teaches waits for it, and all measurements do.
        lock: Of the work dir.
        jobs: How many processes at a time.
    """

    def __init__(
        self, runs: Sequence[RunFolder], teacher: RunFolder | None, lock: IO, jobs: int
    ) -> None:
        self.runs, self.teacher, self.lock, self.jobs = runs, teacher, lock, jobs
        self.waiting = [run for run in runs if run.read()['status'] not in (DONE, FAILED)]
        self.running: list[Job] = []
        self.progress = Progress(runs)

    def do(self) -> None:
        """Work until nothing is left; an interrupt ends all processes."""
        try:
            while self.waiting or self.running:
                self._fill()
                if not self.running:  # what waits, waits for a teacher that somebody stopped
                    break
                over = [job for job in self.running if job.is_over()]
                for job in over:
                    self.running.remove(job)
                    self._after(job)
                if not over:
                    self.progress.show([job.run for job in self.running])
                    time.sleep(POLL_SECONDS)
        finally:
            stop(self.running)

    def _fill(self) -> None:
        """Start what can be started."""
        for run in list(self.waiting):
            if len(self.running) >= self.jobs:
                return
            if self._may_start(run):
                self.waiting.remove(run)
                self._train(run)

    def _may_start(self, run: RunFolder) -> bool:
        """Return whether a run's next step needs no teacher that is not there yet.

        Fails a run whose teacher failed.
        """
        if self.teacher is None or run is self.teacher:
            return True
        status, taught = self.teacher.read()['status'], run.read()['taught']
        if status == FAILED and taught:
            self.waiting.remove(run)
            self._fail(run, 'the teacher failed', '')
            return False
        return status in (DONE, FAILED) or not (taught or run.is_trained)

    def _train(self, run: RunFolder) -> None:
        """Start a run's training where it stopped, or its measurement."""
        if run.is_trained:
            self._measure(run)
            return
        resume = ['--resume'] if run.prepare_to_train() else []
        run.update(status=TRAINING)
        command = [str(TOOLS / 'train.py'), str(run.config), f'--work-dir={run.work}', *resume]
        self._start(run, 'train', command)
        self.progress.say(run, f'goes on at {run.iteration}' if resume else 'starts')

    def _measure(self, run: RunFolder) -> None:
        run.update(status=MEASURING)
        command = [str(TOOLS / 'methods_measure.py'), str(run.path)]
        if self.teacher not in (None, run) and self.teacher.read()['status'] != FAILED:
            command.append(f'--teacher={self.teacher.path}')
        self._start(run, 'test', command)

    def _start(self, run: RunFolder, name: str, command: list[str]) -> None:
        slot = min(set(range(self.jobs)) - {job.slot for job in self.running})
        self.running.append(Job(run, name, command, self.lock, slot))

    def _after(self, job: Job) -> None:
        """Go on with a run whose process has ended."""
        code = job.process.returncode
        if code in (-signal.SIGTERM, -signal.SIGINT):  # somebody stopped it: no fault of the run
            self.progress.say(job.run, 'stopped from outside; the next command goes on')
        elif code:
            reason = f'signal {-code}' if code < 0 else f'exit status {code}'
            self._fail(job.run, f'{job.name} ended with {reason}', job.run.tail(job.name))
        elif job.name == 'train' and self._may_start(job.run):
            self._measure(job.run)
        elif job.name == 'train':  # the agreement with the teacher is measured too
            self.waiting.insert(0, job.run)
        else:
            job.run.update(status=DONE)
            job.run.drop_spare_checkpoints()
            self.progress.say(job.run, 'done')

    def _fail(self, run: RunFolder, reason: str, tail: str) -> None:
        run.update(status=FAILED, reason=reason, tail=tail)
        self.progress.say(run, f'FAILED: {reason}')


class Progress:
    """Lines that tell how far a comparison is and, from the pace of this command, what is left."""

    def __init__(self, runs: Sequence[RunFolder]) -> None:
        self.runs, self.start = runs, time.monotonic()
        self.total = {run: run.read()['max_iters'] for run in runs}
        self.at_start = sum(self._done(run) for run in runs)

    def _done(self, run: RunFolder) -> int:
        if run.read()['status'] in (DONE, MEASURING):
            return self.total[run]
        return min(run.iteration, self.total[run])

    def left(self) -> str:
        """Return how many runs are over, and the time that the others take."""
        status = {run: run.read()['status'] for run in self.runs}
        over = sum(one in (DONE, FAILED) for one in status.values())
        text = f'{over}/{len(self.runs)} runs'
        seconds = time.monotonic() - self.start
        trained = {run: self._done(run) for run in self.runs}
        done = sum(trained.values()) - self.at_start
        rest = sum(self.total[r] - trained[r] for r in self.runs if status[r] != FAILED)
        if done <= 0 or not rest:
            return text
        return f'{text}, {clock(seconds / done * rest)} left'

    def say(self, run: RunFolder, text: str) -> None:
        """Print what became of a run."""
        about = run.read()
        seed = '' if about['seed'] is None else f' seed {about["seed"]}'
        end = '\r\033[K' if sys.stdout.isatty() else ''
        print(f'{end}[{self.left()}] {about["name"]}{seed}: {text}', flush=True)

    def show(self, runs: Sequence[RunFolder]) -> None:
        """Keep one line up to date on a terminal."""
        if sys.stdout.isatty():
            parts = [f'{run.read()["name"]} {run.iteration}/{self.total[run]}' for run in runs]
            print(f'\r\033[K[{self.left()}] {", ".join(parts)}'[:100], end='', flush=True)
