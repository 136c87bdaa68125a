"""Distil a small network on a laptop: `python tools/demo.py`; no GPU, no download, minutes.

Draws street scenes, trains a teacher, then the same student alone and distilled (same seed, same
iterations), and ends with a table and a picture. The networks are trained by `tools/train.py` from
the street-scenes configs with smaller images and fewer iterations; the changed configs, full logs
and checkpoints stay in the work dir. Stop it at any time: the next run keeps the phases that were
finished and starts the interrupted one again.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import balkd_seg  # before mmengine: what it warns of at every start is nothing to act on

# isort: split
from mmengine.config import Config

from balkd_seg.networks.build import preprocessor_settings

ROOT = Path(__file__).resolve().parents[1]
TEACHER, STUDENT = 'pspnet-r34-d16', 'pspnet-r18-d32'
CONFIGS = {
    'teacher': f'baseline/baseline_{TEACHER}_1xb4-600_street-scenes-128x256.py',
    'alone': f'baseline/baseline_{STUDENT}_1xb4-300_street-scenes-128x256.py',
    'distilled': f'balkd/balkd_{TEACHER}-to-{STUDENT}_1xb4-300_street-scenes-128x256.py',
}
TITLES = {
    'teacher': f'teacher ({TEACHER})',
    'alone': f'student alone ({STUDENT})',
    'distilled': 'student distilled (the same)',
}
ROWS = 4  # of the picture


class Scale(NamedTuple):
    """How much is drawn and trained: scenes, (W, H) of images, (H, W) of crops, iterations."""

    train: int
    val: int
    image: tuple[int, int]
    crop: tuple[int, int]
    batch: int
    iterations: dict[str, int]


FULL = Scale(300, 60, (256, 128), (96, 192), 4, dict(teacher=400, alone=150, distilled=150))
QUICK = Scale(4, 2, (96, 48), (32, 64), 2, dict(teacher=3, alone=2, distilled=2))


class PhaseError(Exception):
    """A phase's own process failed."""


class Progress:
    """One line that is kept up to date on a terminal, or printed in quarters elsewhere.

    Args:
        title: What is going on.
        total: Steps until it is done.
    """

    def __init__(self, title: str, total: int) -> None:
        self.title, self.total = title, total
        self.start = time.monotonic()
        self.first: tuple[int, float] | None = None
        self.quarter = 0

    def show(self, done: int) -> None:
        """Tell how many steps are done and, from the pace so far, what time is left."""
        now = time.monotonic()
        if done and self.first is None:
            self.first = done, now
        left = ''
        if self.first and done > self.first[0]:
            pace = (now - self.first[1]) / (done - self.first[0])
            left = f', {clock(pace * (self.total - done))} left'
        line = f'{self.title:<40} {done}/{self.total}{left}'
        if sys.stdout.isatty():
            print(f'\r{line:<78}', end='', flush=True)
        elif done * 4 // self.total > self.quarter:
            self.quarter = done * 4 // self.total
            print(line, flush=True)

    def finish(self, text: str) -> None:
        """Replace the line by the phase's result."""
        line = f'{self.title:<40} {text}, {clock(time.monotonic() - self.start)}'
        print(f'\r{line:<78}' if sys.stdout.isatty() else line, flush=True)


def clock(seconds: float) -> str:
    """Return minutes and seconds, such as 1:05."""
    return f'{int(seconds) // 60}:{int(seconds) % 60:02d}'


def run(command: list[str], log: Path, progress: Progress, count: Callable[[], int]) -> None:
    """Run a phase in its own process and show how far it is.

    Args:
        command: Arguments after the interpreter.
        log: Takes all that the process prints.
        progress: The line to keep up to date.
        count: Returns the steps that are done.

    Raises:
        PhaseError: If the process fails; shows the end of its log.
    """
    command = [sys.executable, '-u', '-W', 'ignore', *command]  # -u: errors stand last in the log
    with log.open('w') as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                progress.show(count())
                time.sleep(0.5)
        finally:
            process.terminate()
            process.wait()
    if process.returncode:
        with log.open() as lines:
            tail = ''.join(deque(lines, 15))
        raise PhaseError(f'\n{tail}\nFailed: {progress.title}. The end of {log} is above.')


def draw_scenes(work: Path, scale: Scale, seed: int) -> None:
    """Draw the data set; scenes that are there already are kept."""
    progress = Progress('drawing scenes', scale.train + scale.val)
    command = [str(ROOT / 'tools/make_street_scenes.py'), f'--out={work / "scenes"}']
    command += [f'--train={scale.train}', f'--val={scale.val}', f'--seed={seed}']
    command += [f'--size={scale.image[0]}x{scale.image[1]}']
    labels = work / 'scenes' / 'gtFine'
    run(command, work / 'scenes.log', progress, lambda: len(list(labels.rglob('*.png'))))
    progress.finish(f'{scale.train} to train on, {scale.val} to test on')


def shrink(cfg: Config, scenes: Path, scale: Scale, iterations: int) -> None:
    """Change a street-scenes config to other scenes, sizes and iterations."""
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(scenes)
        for step in loader.dataset.pipeline:
            if 'scale' in step:
                step.scale = scale.image
            if 'crop_size' in step:
                step.crop_size = scale.crop
    cfg.train_dataloader.batch_size = scale.batch
    preprocessor_settings(cfg)['size'] = scale.crop
    cfg.train_cfg.update(max_iters=iterations, val_interval=iterations)
    warm_up, decay = cfg.param_scheduler
    warm_up.end = decay.begin = max(1, iterations // 8)
    decay.end = cfg.default_hooks.checkpoint.interval = iterations
    cfg.default_hooks.logger.interval = min(10, iterations)


def write_config(work: Path, name: str, scale: Scale, seed: int) -> Path:
    """Write the shipped config of a phase at demo size and return the file."""
    cfg = Config.fromfile(ROOT / 'configs' / CONFIGS[name])
    shrink(cfg, work / 'scenes', scale, scale.iterations[name])
    if 'teacher' in cfg.model:
        cfg.model.teacher.checkpoint = str(checkpoint_of(work, 'teacher', scale))
    cfg.randomness = dict(seed=seed)
    file = work / f'{name}.py'
    cfg.dump(file)
    return file


def checkpoint_of(work: Path, name: str, scale: Scale) -> Path:
    """Return where a phase leaves its weights."""
    return work / name / f'iter_{scale.iterations[name]}.pth'


def read_log(work: Path, name: str) -> list[dict]:
    """Return the entries of a training's JSON log so far, complete lines only."""
    files = sorted((work / name).glob('*/vis_data/scalars.json'))
    lines = [line for file in files for line in file.read_text().splitlines(keepends=True)]
    return [json.loads(line) for line in lines if line.endswith('\n')]


def train(work: Path, name: str, scale: Scale, seed: int) -> float:
    """Train one network unless an earlier run finished it; return its mIoU in per cent."""
    progress = Progress(f'training {TITLES[name]}', scale.iterations[name])
    result = work / name / 'result.json'
    if result.exists():
        progress.finish('kept from the run before')
        return json.loads(result.read_text())['mIoU']
    shutil.rmtree(work / name, ignore_errors=True)  # what an interrupted run left
    config = write_config(work, name, scale, seed)
    command = [str(ROOT / 'tools/train.py'), str(config), f'--work-dir={work / name}']
    count = lambda: max((entry['step'] for entry in read_log(work, name)), default=0)  # noqa: E731
    run(command, work / f'{name}.log', progress, count)
    miou = next(entry['mIoU'] for entry in read_log(work, name) if 'mIoU' in entry)
    result.write_text(json.dumps({'mIoU': miou}))
    progress.finish(f'mIoU {miou:.2f}')
    return miou


def claim(work: Path, settings: dict) -> None:
    """Make the work dir, or accept it if it belongs to a demo of the same settings.

    Raises:
        ValueError: If it belongs to another demo, or holds something else.
    """
    stamp = work / 'demo.json'
    text = json.dumps(settings)
    if stamp.exists() and stamp.read_text() == text:
        return
    if work.exists() and any(work.iterdir()):
        raise ValueError(
            f'Expected {work} to be empty or of a demo with the same settings, but it is not. '
            'Choose another --work-dir, or remove it.'
        )
    work.mkdir(parents=True, exist_ok=True)
    stamp.write_text(text)


def show_results(work: Path, scale: Scale, mious: dict[str, float]) -> None:
    """Print the table and what it says, then draw the picture."""
    import demo_figure

    print(f'\n{"":<34}{"mIoU %":>7}{"parameters":>12}{"iterations":>12}  checkpoint')
    for name, miou in mious.items():
        file = checkpoint_of(work, name, scale)
        weights = balkd_seg.compat.load_weights(file, map_location='cpu')['state_dict']
        skip = ('auxiliary_head.', 'running_', 'num_batches')
        count = sum(v.numel() for k, v in weights.items() if not any(word in k for word in skip))
        print(
            f'{TITLES[name]:<34}{miou:>7.2f}{count / 1e6:>10.1f} M'
            f'{scale.iterations[name]:>12}  {file}'
        )
    gain = mious['distilled'] - mious['alone']
    verdict = f'{"better" if gain >= 0 else "worse"} by {abs(gain):.2f}'
    print(
        f'\nThe distilled student is {verdict} mIoU than the same student alone, on {scale.val} '
        'images.\nThis is one seed: by how much results differ between seeds was not measured.'
    )
    images = sorted((work / 'scenes/leftImg8bit/val').rglob('*.png'))[:ROWS]
    truths = sorted((work / 'scenes/gtFine/val').rglob('*.png'))[:ROWS]
    predictions = {
        f'{TITLES[name]}\nmIoU {miou:.2f}': demo_figure.predict(
            work / f'{"teacher" if name == "teacher" else "alone"}.py',
            checkpoint_of(work, name, scale),
            images,
        )
        for name, miou in mious.items()
    }
    demo_figure.write_figure(work / 'comparison.png', images, truths, predictions)
    print(f'Picture: {work / "comparison.png"} (the first {len(images)} test images)')


def main(argv: list[str] | None = None) -> int:
    """Run the demo; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/demo'))
    parser.add_argument('--seed', type=int, default=0, help='of scenes and networks')
    parser.add_argument('--quick', action='store_true', help='toy size: only see that it runs')
    args = parser.parse_args(argv)
    scale, work = QUICK if args.quick else FULL, args.work_dir
    start = time.monotonic()
    try:
        claim(work, dict(seed=args.seed, quick=args.quick, version=balkd_seg.__version__))
        print(f'Everything goes to {work}; about 5 minutes on 2 CPU cores.', flush=True)
        draw_scenes(work, scale, args.seed)
        mious = {name: train(work, name, scale, args.seed) for name in CONFIGS}
        show_results(work, scale, mious)
    except (PhaseError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nStopped. The same command goes on; finished phases are kept.', file=sys.stderr)
        return 130
    print(f'All of it took {clock(time.monotonic() - start)} on {os.cpu_count()} CPU cores.')
    return 0


if __name__ == '__main__':
    sys.exit(main())
