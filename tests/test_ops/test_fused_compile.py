"""The kernels compile for real GPUs, without one: no register spills, vectorised loads."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from balkd_seg.ops._versions import why_no_triton

if why_no_triton():
    pytest.skip(why_no_triton(), allow_module_level=True)
from balkd_seg.ops import _fused, _fused_upsample

SCRIPT = Path(__file__).with_name('compile_kernels.py')
SPEC = importlib.util.spec_from_file_location('compile_kernels', SCRIPT)
COMPILE = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(COMPILE)


@pytest.fixture(scope='module')
def compiled(tmp_path_factory):
    """Compile everything, on two processes, and return one report a kernel."""
    cases = COMPILE.heaviest_cases()
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
    assert names == {(case['arch'], case['classes'], case['form']) for case in cases}
    return reports


@pytest.mark.parametrize(
    ('module', 'form', 'num_tiles'),
    [
        (_fused, 'full, half precision', 4),
        (_fused, 'full, everything', 8),
        (_fused_upsample, 'upsampled, two temperatures', 6),
        (_fused_upsample, 'upsampled, everything', 7),
    ],
)
def test_every_layout_is_compiled(module, form, num_tiles):
    """With the most classes that a thread of it can get."""

    def fullest(classes):
        layout, most = module.layout, {}
        for c in classes:
            one = layout(c, num_tiles)
            most[one] = max(most.get(one, 0), -(-c // one.groups))
        return most

    for arch in (80, 90) if form.endswith('everything') else (90,):
        cases = [c for c in COMPILE.heaviest_cases() if (c['arch'], c['form']) == (arch, form)]
        every = set(range(2, 257))
        if form == 'upsampled, two temperatures':
            every.remove(20)  # see `heaviest_cases`
        assert fullest(c['classes'] for c in cases) == fullest(every)


def test_new_sizes_ask_for_no_compilation_and_new_classes_for_one(tmp_path):
    """What 60 random problems of each family ask for; see the docstrings of the kernels."""
    pytest.importorskip('triton.knobs', reason='older Tritons cannot be asked in this way')
    environment = {k: v for k, v in os.environ.items() if k != 'TRITON_INTERPRET'}
    environment |= {'TRITON_CACHE_DIR': str(tmp_path), 'OMP_NUM_THREADS': '1'}
    script = SCRIPT.with_name('count_compilations.py')
    run = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr
    counts = json.loads(run.stdout)
    assert counts['full full_resolution'] == 2  # whether 16 divides the number of pixels
    assert counts['upsampled upsampled'] == counts['upsampled gather'] == 1
    assert counts['classes upsampled'] > 10  # which are unrolled
    assert counts['classes gather'] == 1


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
