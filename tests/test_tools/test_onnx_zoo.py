"""ONNX files of small families of mmseg's zoo, as they are shipped."""

import importlib.util

import pytest
from mmengine.model import revert_sync_batchnorm
from mmseg.registry import MODELS

FAMILIES = (
    'bisenetv2', 'ddrnet', 'deeplabv3plus', 'erfnet', 'fastscnn', 'mobilenet_v2', 'segformer',
    'segmenter', 'stdc',
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec('onnxruntime'), reason='needs onnxruntime')
@pytest.mark.parametrize('folder', FAMILIES)
def test_export(load, tmp_path, folder):
    zoo = load('zoo')
    model = zoo.plain(zoo.resolve_model_config(zoo.config_of(folder), 'student'))
    model.update(pretrained=None, auxiliary_head=None)
    network = revert_sync_batchnorm(MODELS.build(model)).eval()
    size = (zoo.FAMILIES[folder].size,) * 2
    difference = load('onnx_export').export_onnx(network, tmp_path / 'net.onnx', size, ())
    assert difference < 1e-4
