"""Compile the fused kernels ahead of time, without a GPU, and print what they cost as JSON.

A script, because it needs a process in which Triton does not interpret:
`python tests/test_ops/compile_kernels.py '[{"arch": 90, "classes": 19, ...}]'`, one line a kernel;
`--all` for every form in every layout, which takes half an hour. The launches are the product's
own; only the driver under them is replaced.
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from balkd_seg.ops import _fused, _fused_upsample
from balkd_seg.ops._types import Problem, Terms, Weighting

CUOBJDUMP = Path(triton.__file__).parent / 'backends/nvidia/bin/cuobjdump'
TASK = {'task': True, 'size': [256, 512]}
FORMS = {
    'full, one temperature': {'dtype': 'float32', 'temperatures': [2, 2]},
    'full, half precision': {'dtype': 'bfloat16', 'temperatures': [1, 2]},
    'full, with cross-entropy': {'dtype': 'bfloat16', 'temperatures': [1, 1], 'task': True},
    'full, everything': {
        'dtype': 'float32', 'temperatures': [1.5, 4], 'teacher': True, 'task': True,
        'class_weight': True,
    },
    'full, weighted pixels': {
        'dtype': 'bfloat16', 'temperatures': [1, 2], 'weighting': ['pixel', 2.0, 1.5], 'task': True,
    },
    'upsampled, weighted pixels': {
        'dtype': 'float32', 'temperatures': [1, 1], 'weighting': ['pixel', 2.0, 1.0], 'ratio': 8,
        **TASK,
    },
    'upsampled, two temperatures': {
        'dtype': 'float32', 'temperatures': [1, 3], 'ratio': 8, **TASK,
    },
    'upsampled, everything': {
        'dtype': 'bfloat16', 'temperatures': [1.5, 4], 'ratio': 4, 'class_weight': True, **TASK,
    },
    'upsampled, two sizes': {
        'dtype': 'float32', 'temperatures': [1, 1], 'ratio': 16, 'teacher_ratio': 8, **TASK,
    },
}  # fmt: skip
# Classes that fill the threads of each layout most; halves where a thread takes half as many.
FULLEST = (20, 40, 80, 160, 256)


def collect(arch, launch):
    """Return what a launch would have run on a GPU, compiled."""
    kernels = []

    def compile_only(self, grid):
        return lambda *args, **kwargs: kernels.append(
            self.run(*args, grid=grid, warmup=True, **kwargs)
        )

    driver.set_active(
        SimpleNamespace(
            get_current_target=lambda: GPUTarget('cuda', arch, 32),
            get_current_device=lambda: arch,
            get_current_stream=lambda device: 0,
        )
    )
    JITFunction.__getitem__ = compile_only
    launch()
    return kernels


def launch_of(case):
    """Return the product's launch for a case."""
    num, classes = 2, case['classes']
    dtype = getattr(torch, case['dtype'])
    height, width = case.get('size', (512, 1024))
    low = (height // case.get('ratio', 1), width // case.get('ratio', 1))
    teacher_low = (height // case.get('teacher_ratio', case.get('ratio', 1)),
                   width // case.get('teacher_ratio', case.get('ratio', 1)))  # fmt: skip
    student = torch.empty(num, classes, *low, dtype=dtype)
    teacher = torch.empty(num, classes, *teacher_low, dtype=dtype)
    valid = torch.ones(num, height, width, dtype=torch.bool)
    task = case.get('task', False)
    problem = Problem(
        valid,
        torch.zeros(valid.shape, dtype=torch.long) if task else None,
        torch.ones(classes) if case.get('class_weight') else None,
        torch.ones(num, 3),
        Terms(1.0, 1.0, *case.get('temperatures', (1.0, 1.0))),
        False,
        case.get('align_corners', False),
        255,
        Weighting(*case.get('weighting', ())),
    )
    if case.get('ratio', 1) > 1:
        return lambda: _fused_upsample._run(student, teacher, problem, True)
    return lambda: _fused.solve(student, teacher, problem, True, case.get('teacher', False))


def case_of(arch, classes, form):
    """Return a case by the name of its form."""
    return {'arch': arch, 'classes': classes, 'form': form, **FORMS[form]}


def heaviest_cases():
    """Return the flagship in every form but those that ask more of a thread in every layout.

    Of those, sm_80 gets the two that ask most. The form that needs every register is compiled for
    the flagship in place of 20 classes: it had spilled at 19 and not at 20, and 40 ask of a thread
    what 20 do.
    """
    heaviest = {
        'full, half precision': FULLEST,  # two pixels a thread
        'full, everything': FULLEST,
        'upsampled, two temperatures': (19, *FULLEST[1:]),
        'upsampled, everything': (10, *FULLEST),  # half the classes a thread
    }
    cases = [
        case_of(90, 19, form)
        for form in FORMS
        if form == 'full, half precision' or form not in heaviest
    ]
    cases += [case_of(80, 19, 'full, one temperature')]
    return cases + [
        case_of(arch, classes, form)
        for arch in (80, 90)
        for form, every in heaviest.items()
        if arch == 90 or form.endswith('everything')
        for classes in every
    ]


def describe(kernel):
    """Return registers, spills and the widths of loads of a compiled kernel."""
    with tempfile.NamedTemporaryFile(suffix='.cubin') as file:
        file.write(kernel.asm['cubin'])
        file.flush()
        usage, code = (
            subprocess.run([CUOBJDUMP, flag, file.name], capture_output=True, text=True).stdout
            for flag in ('--dump-resource-usage', '-sass')
        )
    lines = re.findall(r'^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?\w+ )?(\S+)', code, re.M)
    return {
        'kernel': kernel.metadata.name,
        'warps': kernel.metadata.num_warps,
        'registers': int(re.search(r'REG:(\d+)', usage)[1]),
        'stack': int(re.search(r'STACK:(\d+)', usage)[1]),
        'spills': sum(line.startswith(('STL', 'LDL')) for line in lines),
        'instructions': len(lines),
        'loads': dict(Counter(line for line in lines if line.startswith('LDG'))),
    }


def main():
    """Compile the cases on the command line."""
    cases = [case_of(arch, c, form) for arch in (80, 90) for c in FULLEST for form in FORMS]
    if sys.argv[1:] != ['--all']:
        cases = json.loads(sys.argv[1])
    for case in cases:
        for kernel in collect(case['arch'], launch_of(case)):
            print(json.dumps({**describe(kernel), 'case': case}), flush=True)


if __name__ == '__main__':
    main()
