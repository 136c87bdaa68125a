"""What benchmarks of a few large steps share: options, turns, a table and a JSON file."""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmark_report import metadata

ROOT = Path(__file__).resolve().parents[1]


def options(description: str | None, config: str, size: tuple[int, int]) -> argparse.ArgumentParser:
    """Return a parser of what such benchmarks take.

    Args:
        description: Of the benchmark.
        config: The default, from the root of the repository.
        size: The default (H, W) of the images.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--config', default=str(ROOT / config), help=f'default: {config}')
    parser.add_argument(
        '--size', type=int, nargs=2, default=size, metavar=('H', 'W'),
        help=f'of the images; default {size[0]} {size[1]}',
    )  # fmt: skip
    parser.add_argument('--rounds', type=_at_least_two, default=5, help='default 5')
    parser.add_argument(
        '--threads', type=int, default=os.cpu_count(), help='of PyTorch; default all cores'
    )
    parser.add_argument('--out', type=Path, help='JSON file to write')
    return parser


def _at_least_two(word: str) -> int:
    if int(word) < 2:
        raise argparse.ArgumentTypeError(f'expected at least 2, but got {word}')
    return int(word)


def take_turns(
    steps: dict[str, Callable[[], None]], rounds: int, device: str
) -> dict[str, list[float]]:
    """Return milliseconds of each step in each round, after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if device == 'cuda':
                torch.cuda.synchronize()
            if number:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def make_row(name: str, values: list[float], base: list[float]) -> dict[str, Any]:
    """Return a step's median, spread, and its ratio to what ran in the same rounds."""
    cuts = statistics.quantiles(values, n=5, method='inclusive')
    ratios = [value / other for value, other in zip(values, base, strict=True)]
    row = {'step': name, 'median ms': statistics.median(values), 'p20': cuts[0], 'p80': cuts[-1]}
    return {**row, 'ratio': statistics.median(ratios), 'all ms': values}


def report(args: argparse.Namespace, device: str, rows: list[dict[str, Any]]) -> None:
    """Print rows, and write them with all settings if a file was asked for."""
    config, (height, width) = Path(args.config).stem, args.size
    images = f'{getattr(args, "batch", 1)} x {height}x{width}'
    print(f'{config}, {images}, {device}, {args.threads} threads')
    print(f'{"step":26}{"median ms":>11}{"p20":>9}{"p80":>9}{"ratio":>8}')
    for row in rows:
        print(
            f'{row["step"]:26}{row["median ms"]:>11.0f}{row["p20"]:>9.0f}{row["p80"]:>9.0f}'
            f'{row["ratio"]:>8.3f}'
        )
    if args.out:
        settings = {**vars(args), 'config': config, 'device': device}
        del settings['out']
        about = {**metadata(args.threads), **settings, 'rows': rows}
        args.out.write_text(json.dumps(about, indent=1) + '\n')
