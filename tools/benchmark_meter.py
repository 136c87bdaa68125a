"""Time and memory of a step on a device."""

import time
from collections.abc import Callable
from typing import Any

import torch

# Clock cycles that the GPU idles before a timed step, at least 2 ms: the host submits it meanwhile.
IDLE = 4_000_000


class Meter:
    """Times steps and their memory, on CUDA by events behind a flushed cache."""

    def __init__(self, device: str) -> None:
        self.cuda = device == 'cuda'
        self.flush = torch.empty(256 * 2**20 if self.cuda else 1, dtype=torch.int8, device=device)

    def times(self, step: Callable[[], Any], reps: int) -> list[float]:
        """Return milliseconds of each repetition, on CUDA those of the device alone.

        Of a step that takes the host longer than `IDLE`, or that waits for the device, they contain
        what the device waits for the host.
        """
        if not self.cuda:
            return self.host(step, reps)
        events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(reps)]
        for start, end in events:
            self.flush.zero_()
            torch.cuda._sleep(IDLE)
            start.record()
            step()
            end.record()
        torch.cuda.synchronize()
        return [start.elapsed_time(end) for start, end in events]

    def host(self, step: Callable[[], Any], reps: int) -> list[float]:
        """Return milliseconds until each repetition has returned to an otherwise idle host."""
        result = []
        for _ in range(reps):
            if self.cuda:
                torch.cuda.synchronize()
            start = time.perf_counter()
            step()
            result.append(1e3 * (time.perf_counter() - start))
        return result

    def warm_up(self, step: Callable[[], Any], milliseconds: float = 20.0) -> None:
        """Repeat a step for so long, and at least five times."""
        spent, count = 0.0, 0
        while count < 5 or spent < milliseconds:
            spent, count = spent + sum(self.times(step, 5)), count + 5

    def peak(self, step: Callable[[], Any]) -> int | None:
        """Return the bytes that a step takes beyond what was there."""
        if not self.cuda:
            return None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def graph(self, step: Callable[[], Any], reps: int) -> list[float] | str:
        """Return milliseconds of a replayed CUDA graph, or why there is none."""
        if not self.cuda:
            return 'no CUDA'
        stream = torch.cuda.current_stream()
        try:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                step()
            return self.times(graph.replay, reps)
        except Exception as error:
            torch.cuda.set_stream(stream)  # a capture that fails does not leave its own
            torch.cuda.synchronize()
            return f'not capturable ({type(error).__name__})'

    def bandwidth(self) -> float:
        """Return the bytes a second of the better of a copy and a triad, on 1 GiB tensors."""
        size = 2**28 if self.cuda else 2**20
        a, b, c = (torch.ones(size, device=self.flush.device) for _ in range(3))
        copy = min(self.times(lambda: c.copy_(a), 20))
        triad = min(self.times(lambda: torch.add(a, b, out=c), 20))
        return 4e3 * size * max(2 / copy, 3 / triad)
