"""Time the balanced divergence and its peak memory on the CPU, against what people write today.

Two tables, forward and backward to the student's logits, at each pair of temperatures:

  same size   naive           log_softmax and F.kl_div, in both directions
              naive-compiled  torch.compile of it
              chunked         balkd_seg.ops.balanced_divergence
  low size    upsample        F.interpolate of both logits, then naive
              upsample-compiled
              banded          balkd_seg.ops.balanced_divergence, which upsamples inside

On a GPU: `--device cuda`, with settings of its own (`--device cuda --help`).

Every provider runs in a process of its own, and they take turns, so that a busy machine slows all
alike. Ours also counts the agreement of the two networks, which naive does not. Memory is in L, the
bytes of one full-size fp32 tensor of logits: `peak L` is the most that tensors of a step take at
once, `resident L` what the step adds to the resident set, with the allocator's and the libraries'
own needs (Linux only; elsewhere the column says n/a). Errors are the largest absolute ones to
naive in float64.
"""

import argparse
import ctypes
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import benchmark_loss_cuda
import torch
import torch.nn.functional as F
from benchmark_report import format_table, metadata, row
from torch import Tensor

from balkd_seg.ops import balanced_divergence

PROVIDERS = {
    'same': ('naive', 'naive-compiled', 'chunked'),
    'low': ('upsample', 'upsample-compiled', 'banded'),
}


def naive(student: Tensor, teacher: Tensor, target: Tensor, tau_f: float, tau_r: float) -> Tensor:
    """Return the divergence as it is usually written, in the dtype that comes in."""

    def kl(a: Tensor, b: Tensor, tau: float) -> Tensor:
        log_a, log_b = F.log_softmax(a / tau, 1), F.log_softmax(b / tau, 1)
        return tau**2 * F.kl_div(log_b, log_a, reduction='none', log_target=True).sum(1)

    valid = target != 255
    loss = kl(teacher, student, tau_f) + kl(student, teacher, tau_r)
    return (loss * valid).sum() / valid.sum().clamp(min=1)


def upsample(
    student: Tensor, teacher: Tensor, target: Tensor, tau_f: float, tau_r: float
) -> Tensor:
    """Return `naive` of logits resized to the target."""
    size = target.shape[1:]
    with torch.no_grad():
        teacher = F.interpolate(teacher, size, mode='bilinear', align_corners=False)
    student = F.interpolate(student, size, mode='bilinear', align_corners=False)
    return naive(student, teacher, target, tau_f, tau_r)


def ours(student: Tensor, teacher: Tensor, target: Tensor, tau_f: float, tau_r: float) -> Tensor:
    """Return the loss of the package."""
    temperatures = {'forward_temperature': tau_f, 'reverse_temperature': tau_r}
    return balanced_divergence(student, teacher, target, **temperatures).loss


def loss_function(provider: str) -> Callable[..., Tensor]:
    """Return the function that a provider's name stands for."""
    if provider in ('chunked', 'banded'):
        return ours
    function = naive if provider.startswith('naive') else upsample
    return torch.compile(function, dynamic=False) if provider.endswith('compiled') else function


def make_inputs(shape: list[int], ratio: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return student and teacher logits, and labels of which a tenth is ignored."""
    num, classes, height, width = shape
    generator = torch.Generator().manual_seed(0)
    size = (num, classes, height // ratio, width // ratio)
    student, teacher = (3 * torch.randn(size, generator=generator) for _ in range(2))
    target = torch.randint(0, classes, (num, height, width), generator=generator)
    target[torch.rand(target.shape, generator=generator) < 0.1] = 255
    return student.requires_grad_(), teacher, target


def resident(field: str) -> int | None:
    """Return VmRSS or VmHWM in bytes, or None where there is no /proc."""
    try:
        lines = Path('/proc/self/status').read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def tensor_memory(step: Callable[[], Any]) -> int:
    """Return the most bytes that PyTorch's CPU allocator gave out at once during a step."""
    with torch.profiler.profile(profile_memory=True) as profile:
        step()
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == '[memory]']
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate(event.nbytes() for event in events))


def resident_memory(step: Callable[[], Any]) -> int | None:
    """Return the bytes by which a step raises the resident set, or None if not on Linux."""
    if resident('VmHWM') is None:
        return None
    # Freed memory that the allocator keeps would hide what the step needs.
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)
    if trim is not None:
        trim(0)
    before = resident('VmRSS')
    Path('/proc/self/clear_refs').write_text('5')
    step()
    return resident('VmHWM') - before


def write_truth(case: dict[str, Any]) -> None:
    """Write value and gradient in float64, image by image, by plain PyTorch."""
    student, teacher, target = make_inputs(case['shape'], case['ratio'])
    count = (target != 255).sum()
    value, gradients = torch.zeros((), dtype=torch.float64), []
    for image in range(len(target)):
        one = slice(image, image + 1)
        leaf = student[one].detach().double().requires_grad_()
        loss = upsample(leaf, teacher[one].double(), target[one], *case['temperatures'])
        loss = loss * (target[one] != 255).sum() / count
        gradients.append(torch.autograd.grad(loss, leaf)[0])
        value += loss.detach()
    torch.save((value, torch.cat(gradients)), case['truth'])


def serve(case: dict[str, Any]) -> None:
    """Run one provider: report errors and memory, then one time for each line that comes in."""
    torch.set_num_threads(case['threads'])
    student, teacher, target = make_inputs(case['shape'], case['ratio'])
    function = loss_function(case['provider'])

    def step() -> float:
        student.grad = None
        loss = function(student, teacher, target, *case['temperatures'])
        loss.backward()
        return loss.item()

    start = time.perf_counter()
    value = step()
    first = time.perf_counter() - start
    truth, gradient = torch.load(case['truth'], mmap=True)
    errors = [abs(value - truth.item()), (student.grad - gradient).abs().max().item()]
    del truth, gradient
    step()
    student.grad = None
    report = {'first_s': first, 'errors': errors, 'resident': resident_memory(step)}
    student.grad = None
    print(json.dumps({**report, 'peak': tensor_memory(step)}), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        step()
        print(time.perf_counter() - start, flush=True)


def spawn(case: dict[str, Any]) -> subprocess.Popen:
    """Start a process that serves a case."""
    command = [sys.executable, __file__, '--serve', json.dumps(case)]
    environment = {**os.environ, 'OMP_NUM_THREADS': str(case['threads']), 'KINETO_LOG_LEVEL': '5'}
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)


def read(process: subprocess.Popen, provider: str) -> Any:
    """Return what a process reports next."""
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f'The benchmark of {provider} ended early; its error is shown above')
    return json.loads(line)


def measure(case: dict[str, Any], providers: list[str], rounds: int) -> list[dict[str, Any]]:
    """Return one row a provider, of one table."""
    processes: dict[str, subprocess.Popen] = {}
    write_truth(case)
    try:
        reports, times = {}, {provider: [] for provider in providers}
        for provider in providers:  # one after the other: each has the machine for its first steps
            processes[provider] = spawn({**case, 'provider': provider})
            reports[provider] = read(processes[provider], provider)
        for _ in range(rounds):
            for provider, process in processes.items():
                process.stdin.write('\n')
                process.stdin.flush()
                times[provider].append(1e3 * read(process, provider))
    finally:
        for process in processes.values():
            process.kill()
            process.communicate()
    unit = 4 * torch.Size(case['shape']).numel()
    rows = [row(provider, reports[provider], times[provider], unit) for provider in providers]
    for one in rows:
        one['faster'] = rows[0]['median ms'] / one['median ms']
        one['of naive'] = one['peak L'] / rows[0]['peak L']
    return rows


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--shape', type=int, nargs=4, default=[2, 19, 512, 1024], metavar=('N', 'C', 'H', 'W'),
        help='full size; default 2 19 512 1024, a small one such as 1 5 64 64 for a quick look',
    )  # fmt: skip
    parser.add_argument('--ratio', type=int, default=8, help='of H to the low height; default 8')
    parser.add_argument(
        '--temperatures', type=float, nargs=2, action='append', metavar=('FORWARD', 'REVERSE'),
        help='a pair; may be repeated; default 1 1 and 1 2',
    )  # fmt: skip
    parser.add_argument('--rounds', type=int, default=11, help='timed steps each; default 11')
    parser.add_argument(
        '--threads', type=int, default=os.cpu_count(), help='of PyTorch; default all cores'
    )
    parser.add_argument('--no-compile', action='store_true', help='leave torch.compile out')
    parser.add_argument('--out', type=Path, help='JSON file to write')
    parser.add_argument('--serve', type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    args.temperatures = args.temperatures or [[1.0, 1.0], [1.0, 2.0]]
    if args.rounds < 2:
        parser.error(f'expected --rounds of at least 2, but got {args.rounds}')
    if args.ratio < 1 or min(args.shape[2:]) < args.ratio:
        parser.error(f'expected --ratio from 1 to the smaller side, but got {args.ratio}')
    return args


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark, on a GPU if asked to."""
    if any(x.split('=')[0] == '--device' for x in (sys.argv if argv is None else argv)):
        benchmark_loss_cuda.main(argv)
        return
    args = parse_args(argv)
    if args.serve:
        serve(args.serve)
        return
    result = {**metadata(args.threads), 'shape': args.shape, 'ratio': args.ratio, 'tables': []}
    with tempfile.TemporaryDirectory() as folder:
        for temperatures in args.temperatures:
            for size, providers in PROVIDERS.items():
                names = [x for x in providers if not (args.no_compile and 'compiled' in x)]
                case = {
                    'shape': args.shape,
                    'ratio': args.ratio if size == 'low' else 1,
                    'temperatures': temperatures,
                    'threads': args.threads,
                    'truth': str(Path(folder) / 'truth.pt'),
                }
                rows = measure(case, names, args.rounds)
                title = f'{size} size, temperatures {temperatures[0]:g} and {temperatures[1]:g}'
                print(f'\n{title}\n{format_table(rows)}', flush=True)
                table = {'size': size, 'temperatures': temperatures, 'rows': rows}
                result['tables'].append(table)
                if args.out:
                    args.out.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
