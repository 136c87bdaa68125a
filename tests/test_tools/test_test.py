"""Which evaluators write label maps for `--out`, however their config spells them."""

import importlib.util
from pathlib import Path

import pytest
from mmengine.config import Config
from mmseg.evaluation import CityscapesMetric, IoUMetric
from mmseg.registry import METRICS

from balkd_seg.metrics import CalibrationMetric, NetworksMetric

TOOLS = Path(__file__).parents[2] / 'tools'
WRITES = dict(output_dir='maps', keep_results=True)


@pytest.fixture
def tool(monkeypatch):
    """The file by its path: its name is that of a module of Python's own."""
    monkeypatch.syspath_prepend(TOOLS)
    spec = importlib.util.spec_from_file_location('tools_test', TOOLS / 'test.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def spellings(kind):
    return [kind.__name__, f'mmseg.{kind.__name__}', kind]


@pytest.mark.parametrize('kind', [*spellings(NetworksMetric), *spellings(CityscapesMetric)])
def test_those_that_take_both_settings_get_both(tool, kind):
    evaluator = dict(type=kind)
    tool.write_label_maps(evaluator, 'maps')
    assert evaluator == dict(WRITES, type=kind)


@pytest.mark.parametrize(
    ('iou', 'calibration'),
    list(zip(*map(spellings, (IoUMetric, CalibrationMetric)), strict=True)),
)
def test_calibration_writes_none_and_iou_keeps_what_it_writes(tool, tmp_path, iou, calibration):
    evaluators = [dict(type=iou), dict(type=calibration), dict(type='NoSuchMetric')]
    tool.write_label_maps(evaluators, str(tmp_path / 'maps'))
    assert evaluators[1:] == [dict(type=calibration), dict(type='NoSuchMetric')]
    assert METRICS.build(evaluators[0]).output_dir == str(tmp_path / 'maps')
    METRICS.build(evaluators[1])


def test_augmentation_leaves_the_network_its_own_data_preprocessor(tool):
    """What the Runner would do without: the top of the config is for who has none."""

    def augmented(**model):
        cfg = dict(model=dict(type='EncoderDecoder', **model), data_preprocessor=dict(mean='top'))
        cfg.update(tta_model=dict(type='SegTTAModel'), tta_pipeline=['steps'])
        cfg = Config(dict(cfg, test_dataloader=dict(dataset=dict(pipeline=[]))))
        tool.augment(cfg)
        assert cfg.test_dataloader.dataset.pipeline == ['steps']
        assert cfg.get('data_preprocessor') is None
        return cfg.model.module.data_preprocessor.mean

    assert augmented() == 'top'
    assert augmented(data_preprocessor=dict(mean='own')) == 'own'
