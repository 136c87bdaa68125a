"""Measure the loss on a GPU: `python tools/benchmark_loss.py --device cuda`.

Beside plain PyTorch (naive; lean: every softmax once), torch.compile of both and Liger-Kernel
(`pip install -c constraints.txt -e '.[bench]'`), on logits of full size and of 1/8 with upsampling
and cross-entropy. What fails or is not there is a row that says so, and an aim UNMEASURED. In every
table all providers take turns in shuffled order, the L2 cache is flushed before every step, and
errors to float64 stand beside the times. Times are the device's: it idles until the host has
submitted a step. What that takes the host is the column `host`, outside of the race like `forward`
(without gradients), `scaled` (an upstream gradient of 65536) and `graph` (a replayed CUDA graph).
Bytes are the least a step must move: both logits and the labels read, the gradient written; `share`
is their rate as a share of what copying and a triad reach in the same run. Memory in L, one
full-size tensor in the dtype of the logits.

Not measured: fp16, labels other than blobs with a tenth ignored, aligned corners, Liger-Kernel's
divergence of raw logits (forward only) and its kernels with fewer warps than it was tuned for, the
mode of ours that computes gradients again, and instructions a second.

First the kernels have to be right: `BALKD_REQUIRE_GPU=1 pytest tests/test_ops`.
"""

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from benchmark_cuda_report import bars, circumstances, format_rows, sm_clock
from benchmark_meter import Meter
from benchmark_providers import ours, ours_with_task, providers
from benchmark_report import metadata
from torch import Tensor

SHAPES = ((8, 19, 512, 1024), (16, 11, 360, 480), (16, 150, 512, 512), (16, 171, 512, 512))
DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16}


def make_inputs(case: dict[str, Any], device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return student (a leaf) and teacher logits, and labels in blobs, a tenth of them ignored."""
    num, classes, height, width = case['shape']
    generator = torch.Generator(device).manual_seed(0)
    size = (num, classes, height // case['ratio'], width // case['ratio'])
    student, teacher = (
        (3 * torch.randn(size, generator=generator, device=device)).to(DTYPES[case['dtype']])
        for _ in range(2)
    )
    blobs = (num, -(-height // 16), -(-width // 16))
    target = torch.randint(0, classes, blobs, generator=generator, device=device)
    target[torch.rand(blobs, generator=generator, device=device) < 0.1] = 255
    target = target.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, :height, :width]
    return student.requires_grad_(), teacher, target.contiguous()


def truth(case: dict[str, Any], inputs: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return value and gradient in float64, image by image, by the chunked implementation."""
    student, teacher, target = inputs
    function = ours_with_task if case['ratio'] > 1 else ours
    count, value, gradients = (target != 255).sum(), 0, []
    for image in range(len(target)):
        one = slice(image, image + 1)
        leaf = student[one].detach().double().requires_grad_()
        loss = function(leaf, teacher[one].double(), target[one], case['taus'])
        loss = loss * (target[one] != 255).sum() / count
        gradients.append(torch.autograd.grad(loss, leaf)[0].float())
        value = value + loss.detach()
    return value, torch.cat(gradients)


class Runner:
    """One provider on one case."""

    def __init__(self, name: str, make: Callable, inputs: tuple, taus: tuple, meter: Meter) -> None:
        self.name, self.meter, self.taus = name, meter, taus
        student, teacher, self.target = inputs
        if name.endswith('rows'):
            student, teacher = (
                z.detach().contiguous(memory_format=torch.channels_last) for z in (student, teacher)
            )
        self.student, self.teacher = student.detach().requires_grad_(), teacher
        self.function = make()
        self.samples: list[float] = []
        self.row: dict[str, Any] = {'provider': name}

    def step(self, factor: float = 1.0) -> Tensor:
        """Forward and backward."""
        self.student.grad = None
        loss = self.function(self.student, self.teacher, self.target, self.taus)
        (loss if factor == 1 else factor * loss).backward()
        return loss

    def forward(self) -> Tensor:
        """Forward alone, without gradients."""
        with torch.no_grad():
            return self.function(self.student, self.teacher, self.target, self.taus)

    def prepare(self, expected: tuple[Tensor, Tensor], unit: int) -> None:
        """Warm up and note what is not a time of the race: errors, memory, a graph."""
        start = time.perf_counter()
        value = self.step().item()
        self.row['first s'] = time.perf_counter() - start
        self.row['value error'] = abs(value - expected[0].item())
        self.row['grad error'] = (self.student.grad.float() - expected[1]).abs().max().item()
        gradient = self.student.grad
        self.row['repeats'] = all(
            self.step().item() == value and torch.equal(self.student.grad, gradient)
            for _ in range(3)
        )
        del gradient
        self.meter.warm_up(self.step)
        self.student.grad = None
        peak = self.meter.peak(self.step)
        self.row['peak MB'] = None if peak is None else peak / 2**20
        self.row['peak L'] = None if peak is None else peak / unit
        self.row['forward'] = statistics.median(self.meter.times(self.forward, 10))
        self.row['scaled'] = statistics.median(self.meter.times(lambda: self.step(65536.0), 10))
        self.row['host'] = statistics.median(self.meter.host(self.step, 20))
        waits = 'not capturable (it reads values on the host)'
        graph = waits if 'liger' in self.name else self.meter.graph(self.step, 10)
        self.row['graph'] = graph if isinstance(graph, str) else statistics.median(graph)


def measure(
    case: dict[str, Any], device: str, meter: Meter, rate: float, rounds: int, reps: int,
    names: list[str] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Return one row a provider; one that fails has an `error` instead of figures."""
    inputs = make_inputs(case, device)
    expected = truth(case, inputs)
    item, full = inputs[0].element_size(), torch.Size(case['shape']).numel()
    least = 3 * inputs[0].numel() * item + inputs[2].numel() * inputs[2].element_size()
    rows, runners = [], []
    for name, make in providers(case['ratio'] > 1, names).items():
        try:
            runner = Runner(name, make, inputs, case['taus'], meter)
            runner.prepare(expected, item * full)
            runners.append(runner)
            rows.append(runner.row)
        except Exception as error:
            rows.append({'provider': name, 'error': f'{type(error).__name__}: {error}'[:200]})
        if meter.cuda:
            torch.cuda.empty_cache()
    for _ in range(rounds):
        random.shuffle(runners)
        for runner in runners:
            runner.samples += meter.times(runner.step, reps)
    for runner in runners:
        cuts = statistics.quantiles(runner.samples, n=10, method='inclusive')
        row = runner.row
        row['p20'], row['p50 ms'], row['p80'] = cuts[1], cuts[4], cuts[7]
        row['GB/s'] = least / row['p50 ms'] / 1e6
        row['share'] = 1e9 * row['GB/s'] / rate
    first = next((r.get('p50 ms') for r in rows if r['provider'].endswith('naive')), None)
    for row in rows:
        if 'error' not in row and first is not None:
            row['x'] = first / row['p50 ms']
    return rows


def cases(quick: bool) -> list[dict[str, Any]]:
    """Return what is measured, first the tables that carry aims."""
    if quick:
        return [
            {'shape': [1, 5, 32, 64], 'ratio': ratio, 'dtype': 'fp32', 'taus': (1.0, 2.0)}
            for ratio in (1, 8)
        ]
    found = [
        {'shape': list(shape), 'ratio': ratio, 'dtype': dtype, 'taus': (1.0, 1.0)}
        for shape in SHAPES
        for ratio in (1, 8)
        for dtype in DTYPES
    ]
    flagship = [dict(case, taus=(1.0, 2.0)) for case in found if case['shape'][1] == 19]
    return sorted(found[:4] + flagship + found[4:], key=_priority)


def _priority(case: dict[str, Any]) -> int:
    """Sort what carries the aims to the front, in case that time runs out."""
    aims = ((19, 8), (150, 8), (19, 1))
    kind = case['shape'][1], case['ratio']
    plain = case['dtype'] == 'fp32' and case['taus'] == (1.0, 1.0)
    return aims.index(kind) if plain and kind in aims else len(aims)


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        prog='benchmark_loss.py',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda')
    parser.add_argument('--quick', action='store_true', help='one tiny shape, to try it out')
    parser.add_argument(
        '--minutes', type=float, default=9.0, help='start no table after; default 9'
    )
    parser.add_argument('--rounds', type=int, default=5, help='of turns; default 5')
    parser.add_argument('--reps', type=int, default=20, help='timed steps a turn; default 20')
    parser.add_argument('--only', nargs='+', metavar='PROVIDER', help='leave the others out')
    parser.add_argument('--out', type=Path, help='JSON file to write')
    parser.add_argument('--png', type=Path, help='picture to draw')
    args = parser.parse_args(argv)
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('expected a CUDA device, but PyTorch sees none; leave --device cuda out')
    start, meter = time.monotonic(), Meter(args.device)
    rate = meter.bandwidth()
    result = {**metadata(torch.get_num_threads()), **circumstances(args.device)}
    result |= {'copy GB/s': rate / 1e9, 'skipped': [], 'tables': [], 'bars': []}
    for case in cases(args.quick):
        num = 'x'.join(map(str, case['shape']))
        title = f'{num} {case["dtype"]} from 1/{case["ratio"]}, temperatures {case["taus"]}'
        if time.monotonic() - start > 60 * args.minutes:
            result['skipped'].append(title)
            continue
        torch.compiler.reset()
        clocks = [sm_clock()]
        rows = measure(case, args.device, meter, rate, args.rounds, args.reps, args.only)
        clocks.append(sm_clock())
        result['tables'].append({'title': title, 'case': case, 'SM MHz': clocks, 'rows': rows})
        result['bars'] = bars(result['tables'])
        print(f'\n{title}\n{format_rows(rows)}', flush=True)
        if args.out:
            args.out.write_text(json.dumps(result, indent=1) + '\n')
    print('\n' + '\n'.join(result['bars']))
    if result['skipped']:
        print(f'Out of time (--minutes {args.minutes:g}): {"; ".join(result["skipped"])}')
    if args.png:
        from benchmark_figure import draw

        draw(result, args.png)
