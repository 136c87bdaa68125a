"""Count what random problems would have Triton compile, without a GPU and without compiling.

A script, because it needs a process in which Triton does not interpret. It prints, as JSON, how
many different compilations of every kernel the launches of each family of problems ask for.
"""

import json
import random
from collections import defaultdict

import torch
import triton
from compile_kernels import collect

from balkd_seg.ops import _fused, _fused_upsample
from balkd_seg.ops._types import Problem, Terms

CLASSES = 19
PROBLEMS = 60


def problem_of(num, size, ignore_index, per_image):
    """Return a problem with cross-entropy, and with coefficients of every image or of all."""
    valid = torch.ones(num, *size, dtype=torch.bool)
    coefficients = torch.ones(num, 3) if per_image else torch.ones(1, 3).expand(num, 3)
    return Problem(
        valid, valid.long(), None, coefficients, Terms(1.0, 1.0, 1.0, 1.0), False, False,
        ignore_index,
    )  # fmt: skip


def full(draw):
    """Return sizes of logits and labels that are equal."""
    size = draw.randint(2, 90), draw.randint(2, 90)
    return CLASSES, size, size


def upsampled(draw):
    """Return sizes at ratios from 3 to 4, whose cells have one power of two."""
    low = draw.randint(2, 30), draw.randint(2, 30)
    return CLASSES, low, tuple(draw.randint(3 * n, 4 * n) for n in low)


def classes(draw):
    """Return sizes with any number of classes."""
    return draw.randint(2, 256), (4, 6), (16, 24)


def main():
    """Launch random problems of each family."""
    seen = defaultdict(set)
    draw = random.Random(0)
    for family in (full, upsampled, classes):

        def note(*, key, fn, family=family, **_):
            seen[family.__name__, fn.jit_function.__name__].add(key)
            return True  # do not compile

        triton.knobs.runtime.jit_cache_hook = note
        for _ in range(PROBLEMS):
            num_classes, low, size = family(draw)
            num = draw.randint(1, 40)
            problem = problem_of(num, size, draw.choice((0, 1, 16, 255)), draw.random() < 0.5)
            pair = [torch.empty(num, num_classes, *low) for _ in range(2)]
            run = _fused.solve if low == size else _fused_upsample.solve
            collect(90, lambda run=run, args=(*pair, problem): run(*args, True, False))
    print(json.dumps({' '.join(names): len(keys) for names, keys in seen.items()}))


if __name__ == '__main__':
    main()
