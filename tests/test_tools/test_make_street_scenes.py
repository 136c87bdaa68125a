import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from mmseg.datasets import CityscapesDataset

SCRIPT = Path(__file__).parents[2] / 'tools' / 'make_street_scenes.py'


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location('make_street_scenes', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make(tool, tmp_path):
    """Return a function that runs the tool on a folder and returns that folder and the status."""

    def run(*arguments, name='scenes', train=2, val=1):
        out = tmp_path / name
        status = tool.main([f'--out={out}', f'--train={train}', f'--val={val}', '--size=64x32',
                            '--workers=1', *arguments])  # fmt: skip
        return out, status

    return run


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob('*.png')}


def test_mmseg_reads_it(make):
    out, status = make()
    assert status == 0
    dataset = CityscapesDataset(
        data_root=str(out),
        data_prefix=dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train'),
        pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
                  dict(type='PackSegInputs')],
    )  # fmt: skip
    assert len(dataset) == 2
    sample = dataset[1]
    assert sample['inputs'].shape == (3, 32, 64)
    assert sample['data_samples'].gt_sem_seg.data.shape == (1, 32, 64)


def test_scene_depends_on_seed_split_and_number_alone(make):
    small, _ = make(name='small')
    large, _ = make(name='large', train=4, val=2)
    first, more = contents(small), contents(large)
    assert len(first) == 6
    assert len(more) == 12
    assert first.items() <= more.items()
    assert len(set(more.values())) == 12
    other, _ = make('--seed=1', name='other')
    assert not set(contents(other).values()) & set(first.values())


def test_processes_change_nothing(make, tmp_path):
    one, _ = make(name='one', train=9)
    two = tmp_path / 'two'
    command = [sys.executable, str(SCRIPT), f'--out={two}', '--train=9', '--val=1']
    subprocess.run([*command, '--size=64x32', '--workers=2'], check=True, timeout=120)
    assert contents(one) == contents(two)


def test_continues_what_was_interrupted(make, capsys):
    out, _ = make()
    whole = contents(out)
    lost = next(iter(out.glob('gtFine/train/*/*.png')))
    lost.unlink()
    kept = next(iter(out.glob('leftImg8bit/val/*/*.png')))
    before = kept.stat().st_mtime_ns
    assert make()[1] == 0
    assert '1 new, 2 kept' in capsys.readouterr().out
    assert contents(out) == whole
    assert kept.stat().st_mtime_ns == before


def test_other_scenes_are_not_destroyed(make, capsys):
    out, _ = make()
    before = contents(out)
    assert make('--seed=5')[1] == 1
    assert "'seed': 0" in capsys.readouterr().err
    assert contents(out) == before
    assert make('--seed=5', '--force')[1] == 0
    after = contents(out)
    assert after.keys() == before.keys()
    assert not set(after.values()) & set(before.values())
    assert json.loads((out / 'recipe.json').read_text())['seed'] == 5


def test_data_of_others_is_never_touched(make, capsys):
    out, _ = make()
    (out / 'recipe.json').unlink()
    before = contents(out)
    assert make('--seed=5', '--force')[1] == 1
    assert 'which this tool did not make' in capsys.readouterr().err
    assert contents(out) == before


@pytest.mark.parametrize(
    'option', ['--size=512', '--size=0x9', '--size=ax9', '--train=-1', '--seed=x']
)
def test_bad_options(make, option, capsys):
    with pytest.raises(SystemExit):
        make(option)
    assert 'but got' in capsys.readouterr().err


def test_files_are_named_as_cityscapes_does(tool):
    image, label = tool.scene_paths(Path('x'), 'val', 1203)
    assert str(image) == 'x/leftImg8bit/val/block002/block002_001203_000019_leftImg8bit.png'
    assert str(label) == 'x/gtFine/val/block002/block002_001203_000019_gtFine_labelTrainIds.png'
    assert cv2.__version__
