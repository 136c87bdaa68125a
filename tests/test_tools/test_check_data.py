import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest

SCRIPT = Path(__file__).parents[2] / 'tools' / 'check_data.py'


@pytest.fixture
def check(tmp_path, capsys):
    """Return a function that checks the data set in `tmp_path`: exit status and what is printed."""
    spec = importlib.util.spec_from_file_location('check_data', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        status = module.main([*arguments, f'--data-root={tmp_path}', '--workers=1'])
        return status, capsys.readouterr().out

    return run


@pytest.fixture
def camvid(tmp_path):
    """Make two frames for each split, a quarter each of sky, road, car and unlabelled."""
    label = np.repeat(np.array([0, 3, 8, 11], np.uint8), 8).reshape(4, 8)
    for split in ('train', 'val'):
        for folder, picture in ((split, np.zeros((4, 8, 3), np.uint8)), (f'{split}annot', label)):
            (tmp_path / folder).mkdir()
            for name in 'ab':
                cv2.imwrite(str(tmp_path / folder / f'{name}.png'), picture)
    return tmp_path


def test_good_data(camvid, check):
    status, out = check('camvid')
    assert status == 0
    assert 'camvid: ok' in out
    assert '2 images with label; sizes: 8x4 (2)' in out
    lines = [line.split() for line in out.splitlines()]
    for name in ('sky', 'road', 'car', '(ignored)'):
        assert [name, '25.00%', '2'] in lines
    assert '<- does not occur' in next(line for line in out.splitlines() if 'fence' in line)
    assert 'test:' not in out


def test_each_problem_is_named(camvid, check):
    cv2.imwrite(str(camvid / 'train' / 'only_image.png'), np.zeros((4, 8, 3), np.uint8))
    cv2.imwrite(str(camvid / 'trainannot' / 'only_label.png'), np.zeros((4, 8), np.uint8))
    cv2.imwrite(str(camvid / 'trainannot' / 'a.png'), np.full((4, 8), 12, np.uint8))
    (camvid / 'train' / 'b.png').write_bytes(b'broken')
    cv2.imwrite(str(camvid / 'valannot' / 'a.png'), np.zeros((2, 8), np.uint8))
    status, out = check('camvid')
    assert status == 1
    problems = '\n'.join(line for line in out.splitlines() if 'PROBLEM' in line)
    assert problems.count('PROBLEM') == 5
    for text in ('trainannot/only_image.png is missing', 'no image for the label',
                 'trainannot/a.png, but got [12]', 'train/b.png (6 bytes) does not decode',
                 'valannot/a.png to have the size'):  # fmt: skip
        assert text in problems
    assert 'camvid: 5 problem(s)' in out


def test_long_lists_are_cut(camvid, check):
    for path in camvid.glob('trainannot/*'):
        path.unlink()
    _, out = check('camvid', '--show=1', '--splits', 'train')
    assert out.count('PROBLEM') == 1
    assert 'and 1 more (--show 2 lists them all)' in out


def test_missing_and_empty_folders(tmp_path, check):
    status, out = check('cityscapes')
    assert status == 1
    assert out.count('Expected the data folder') == 2
    for folder in ('leftImg8bit/train', 'gtFine/train', 'leftImg8bit/val', 'gtFine/val'):
        (tmp_path / folder).mkdir(parents=True)
    status, out = check('cityscapes')
    assert status == 1
    assert out.count('there is neither an image nor a label') == 2
