"""The kernels compile for real GPUs, without one: no register spills, vectorised loads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('triton')

SCRIPT = Path(__file__).with_name('compile_kernels.py')
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
# The flagship in every form, then the layouts with the most classes a thread.
CASES = {
    90: [
        *((19, form) for form in FORMS),
        (160, 'full, everything'),
        (160, 'upsampled, everything'),
        (256, 'upsampled, two temperatures'),
    ],
    80: [
        (19, 'full, one temperature'),
        (256, 'full, everything'),
        (19, 'upsampled, two temperatures'),
    ],
}


@pytest.fixture(scope='module')
def compiled(tmp_path_factory):
    """Compile everything, on two processes, and return one report a kernel."""
    cases = [
        {'arch': arch, 'classes': classes, 'form': form, **FORMS[form]}
        for arch, pairs in CASES.items()
        for classes, form in pairs
    ]
    cache = str(tmp_path_factory.mktemp('triton'))
    environment = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
    environment |= {'TRITON_CACHE_DIR': cache, 'OMP_NUM_THREADS': '1'}
    processes = [
        subprocess.Popen(
            [sys.executable, SCRIPT, json.dumps(cases[half::2])],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for half in (0, 1)
    ]  # fmt: skip
    reports = []
    for process in processes:
        out, error = process.communicate(timeout=1500)
        assert process.returncode == 0, error
        reports += [json.loads(line) for line in out.splitlines()]
    names = {(r['case']['arch'], r['case']['classes'], r['case']['form']) for r in reports}
    assert names == {(arch, *pair) for arch, pairs in CASES.items() for pair in pairs}
    return reports


@pytest.mark.slow
def test_no_kernel_spills_registers(compiled):
    spilled = [r for r in compiled if r['spills'] or r['stack']]
    assert spilled == []


@pytest.mark.slow
def test_a_program_of_every_kernel_fits_on_a_multiprocessor(compiled):
    """65536 registers, given out to warps in units of 256."""
    for report in compiled:
        per_warp = -(-report['registers'] * 32 // 256) * 256
        assert per_warp * report['warps'] <= 65536, report


@pytest.mark.slow
def test_loads_of_full_resolution_are_vectorised(compiled):
    """Two neighbouring pixels at once, of both networks and every class."""
    wanted = {'full, one temperature': 'LDG.E.64', 'full, half precision': 'LDG.E'}
    found = [r for r in compiled if r['case']['form'] in wanted and r['case']['classes'] == 19]
    assert len(found) == 3
    for report in found:
        assert report['loads'][wanted[report['case']['form']]] >= 2 * 19, report


@pytest.mark.slow
def test_instructions_of_the_flagship_stay_few(compiled):
    """The kernels are bound by issue slots: what is asked of a thread, divided by its elements."""
    (same,) = (
        r for r in compiled
        if r['case']['arch'] == 90 and r['case']['form'] == 'full, half precision'
        and r['case']['classes'] == 19
    )  # fmt: skip
    assert same['instructions'] / (2 * 19) < 60
