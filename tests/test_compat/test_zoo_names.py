"""Configs named by `mmseg::`, whichever distribution brought mmseg."""

from importlib import metadata

import pytest
from mmengine.config import Config
from mmengine.config.utils import MODULE2PACKAGE

from balkd_seg.compat.zoo_names import find_the_zoo

NAME = 'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'


@pytest.fixture
def as_shipped(monkeypatch):
    """Undo what the import of the plugin may have set."""
    monkeypatch.setitem(MODULE2PACKAGE, 'mmseg', 'mmsegmentation')


def without_mmsegmentation(monkeypatch):
    def distribution(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, 'distribution', distribution)


def test_stock_mmsegmentation_keeps_its_name(as_shipped, monkeypatch):
    monkeypatch.setattr(metadata, 'distribution', lambda name: None)
    find_the_zoo()
    assert MODULE2PACKAGE['mmseg'] == 'mmsegmentation'


def test_a_fork_is_found_by_the_name_of_its_module(as_shipped, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        without_mmsegmentation(patch)
        find_the_zoo()
    assert MODULE2PACKAGE['mmseg'] == 'mmseg'
    config = tmp_path / 'config.py'
    config.write_text(f'_base_ = {NAME!r}\n')
    assert Config.fromfile(config).model.decode_head.type == 'PSPHead'
