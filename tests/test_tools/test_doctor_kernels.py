"""The doctor's check of every form of the fused kernels that configs use, in the interpreter."""

from pathlib import Path

import pytest
import torch

from balkd_seg.ops._versions import why_no_triton

if why_no_triton():
    pytest.skip(why_no_triton(), allow_module_level=True)

from balkd_seg.ops import _fused_upsample

CONFIGS = Path(__file__).parents[2] / 'configs'
SMALL = 'pspnet-r34-d16-to-pspnet-r18-d32_1xb8-400_camvid-128x160.py'
CPU = torch.device('cpu')

pytestmark = pytest.mark.usefixtures('read_each_metafile_once')


@pytest.fixture
def kernels(load):
    return load('doctor_kernels')


@pytest.fixture
def some(tmp_path):
    """Return a folder with the shipped configs of some methods, and one without a form."""
    (tmp_path / '_base_').symlink_to(CONFIGS / '_base_')
    baseline = 'baseline_pspnet-r18-d32_1xb8-400_camvid-128x160.py'
    methods = {m: f'{m}_{SMALL}' for m in ('kd', 'balkd', 'cwd', 'annealed')}
    methods['mutual'] = 'mutual_' + SMALL.replace('-to-', '-with-')
    for method, name in {**methods, 'baseline': baseline}.items():
        (tmp_path / method).mkdir()
        (tmp_path / method / name).symlink_to(CONFIGS / method / name)
    (tmp_path / 'mixed').mkdir()
    mixed = dict(type='AmpOptimWrapper', dtype='bfloat16')
    text = f'_base_ = {str(CONFIGS / "kd" / methods["kd"])!r}\noptim_wrapper = {mixed}\n'
    (tmp_path / 'mixed' / 'mixed_precision.py').write_text(text)
    return tmp_path


def test_forms_are_those_that_the_losses_of_configs_ask_for(kernels, some):
    forms = kernels.forms_of(some, CPU)
    found = {
        (form.student.dtype, form.sizes[2][1] // 2, form.flags): sorted(
            name.split('_')[0] for name in used
        )
        for form, (_, used) in forms.items()
    }
    forward, both = ('FORWARD', 'SAME'), ('FORWARD', 'REVERSE', 'SAME')
    assert found == {
        (torch.float32, 32, forward): ['annealed', 'kd', 'mutual'],  # at the first iteration
        (torch.float32, 16, forward): ['mutual'],  # what the other network learns
        (torch.float32, 32, both): ['annealed', 'balkd'],
        (torch.bfloat16, 32, forward): ['mixed'],
    }
    for form in forms:
        assert (form.device, form.classes, form.gradients) == (CPU, 11, (True, False))
        assert form.student.dtype == form.teacher.dtype


@pytest.fixture
def few(kernels, monkeypatch):
    """Let the doctor find two small forms in the configs."""
    from balkd_seg.ops._form import Form
    from balkd_seg.ops._types import Problem, Terms

    found = {}
    for low in ((4, 8), (2, 4)):
        logits = torch.empty(1, 3, *low)
        valid = torch.empty(1, 4, 8, dtype=torch.bool)
        terms = Terms(1.0, 1.0, 1.0, 1.0)
        problem = Problem(valid, None, None, torch.ones(1, 3), terms, False, False, 255)
        form = Form.of(logits, logits, problem, (True, False))
        found[form] = (problem, ['a'])
    monkeypatch.setattr(kernels, 'forms_of', lambda *_: found)


@pytest.mark.usefixtures('few')
@pytest.mark.skipif(torch.cuda.is_available(), reason='is about the interpreter')
def test_each_form_is_a_line_with_the_time_it_took(kernels):
    machine, *lines = kernels.check_kernels()
    assert machine.status == 'ok'
    assert machine.text.startswith(f'cpu (interpreted), torch {torch.__version__}, Triton 3')
    assert [line.status for line in lines] == ['ok', 'ok']
    assert ' s,  1 config: 3 classes, full resolution, student float32' in lines[0].text
    assert '3 classes, upsampled by about 2 and 2, one grid' in lines[1].text


@pytest.mark.usefixtures('few')
@pytest.mark.skipif(torch.cuda.is_available(), reason='is about the interpreter')
def test_kernels_that_are_wrong_make_the_machine_wrong(load, kernels, monkeypatch, capsys):
    def out_of_resources(*_, **__):
        raise RuntimeError('out of resource')

    monkeypatch.setattr(_fused_upsample, '_run', out_of_resources)
    doctor = load('doctor')
    monkeypatch.setattr(doctor, 'check_data', lambda data: [])
    monkeypatch.setattr(doctor, 'check_stock_commands', list)
    assert doctor.main([]) == 1
    out = capsys.readouterr().out
    assert 'wrong  kernels         RuntimeError: out of resource; ' in out
    assert "-> report it; impl='auto' does without" in out
    assert '\n1 wrong' in out


@pytest.mark.skipif(torch.cuda.is_available(), reason='is about a machine without')
def test_without_a_gpu_it_says_so(kernels, monkeypatch):
    monkeypatch.delenv('TRITON_INTERPRET')
    (found,) = kernels.check_kernels()
    assert (found.status, found.name) == ('note', 'kernels')
    assert 'there is no GPU (optional)' in found.text
    monkeypatch.setattr(kernels, 'import_error', lambda name: 'gone')
    (found,) = kernels.check_kernels()
    assert found.text == 'not checked: torch does not import'


def test_a_card_without_kernels_is_a_note(kernels, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(
        'balkd_seg.ops._select.why_no_kernels', lambda device: f'{device} is too old'
    )
    (found,) = kernels.check_kernels()
    assert found == ('note', 'kernels', 'not checked, and not used: cuda:0 is too old', '')


@pytest.mark.slow
def test_the_forms_of_every_shipped_config_are_found(kernels):
    """Losses of features or of channel maps ask for none."""
    forms = kernels.forms_of(CONFIGS, CPU)
    names = {name.split('_')[0] for _, used in forms.values() for name in used}
    assert names >= {'kd', 'rkl', 'balkd', 'annealed', 'mutual', 'bdkd', 'bdkd-offline'}
    assert not names & {'baseline', 'cwd', 'jsd', 'fitnet'}
    sizes = {form.sizes for form in forms}
    assert ((3, 400),) * 3 in sizes  # resize='none'
    assert len(sizes) > 3
