"""The benchmark end to end on a small image, and what its numbers mean."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

TOOLS = Path(__file__).parents[2] / 'tools'


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return importlib.import_module('benchmark_calibration')


def test_end_to_end(tool, make_segmentor, tmp_path, capsys):
    Config(dict(model=make_segmentor(num_classes=19))).dump(tmp_path / 'tiny.py')
    out = tmp_path / 'result.json'
    tool.main(
        ['--config', str(tmp_path / 'tiny.py'), '--size', '32', '48', '--rounds', '2',
         '--threads', '1', '--out', str(out)]
    )  # fmt: skip
    printed = capsys.readouterr().out
    result = json.loads(out.read_text())
    assert result['config'] == 'tiny'
    assert result['torch'] == torch.__version__
    assert [row['step'] for row in result['rows']] == ['evaluation', 'equal-width', 'equal-mass']
    for row in result['rows']:
        assert len(row['all ms']) == 2
        assert row['p20'] <= row['median ms'] <= row['p80']
        assert row['step'] in printed


def test_ratio_is_to_the_evaluation(tool):
    rows = tool.summarise({'evaluation': [90.0, 200.0, 100.0], 'equal-width': [9.0, 4.0, 5.0]})
    assert [row['ratio'] for row in rows] == [1, 0.05]


def test_prediction_is_as_sure_as_the_docstring_says(tool):
    sample = tool.make_prediction(19, (64, 128), 'cpu')
    confidence = sample['seg_logits']['data'].softmax(0).amax(0).mean()
    assert float(confidence) == pytest.approx(0.7, abs=0.05)
    assert 0.05 < (sample['gt_sem_seg']['data'] == 255).float().mean() < 0.15
