"""Networks by name, path and inline."""

import pytest
from mmseg.registry import MODELS

from balkd_seg.distillers.model_config import resolve_model_config

R18 = 'mmseg::pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-512x1024.py'


def test_name_resolves_and_overrides_merge_as_in_inheritance():
    model = resolve_model_config(
        dict(config=R18, backbone=dict(depth=34), auxiliary_head=None), 'student'
    )
    assert model.type == 'EncoderDecoder'
    assert model.backbone.depth == 34
    assert model.backbone.type == 'ResNetV1c'
    assert model.auxiliary_head is None
    assert model.data_preprocessor.size == (512, 1024)


def test_heads_of_a_cascade_are_overridden_by_index():
    name = 'mmseg::ocrnet/ocrnet_hr18s_4xb2-40k_cityscapes-512x1024.py'
    model = resolve_model_config(
        dict(config=name, decode_head={'1': dict(num_classes=11)}), 'student'
    )
    assert [head.num_classes for head in model.decode_head] == [19, 11]


def test_path_and_inline_give_the_same(tmp_path, make_segmentor):
    inline = make_segmentor()
    path = tmp_path / 'tiny.py'
    path.write_text(f'model = {inline!r}\n')
    assert resolve_model_config(dict(config=str(path)), 'teacher') == resolve_model_config(
        inline, 'teacher'
    )


def test_the_given_dict_is_not_changed(make_segmentor):
    network = dict(config=R18, pretrained=None)
    resolve_model_config(network, 'student')
    assert network == dict(config=R18, pretrained=None)


@pytest.mark.parametrize(
    ('network', 'error', 'match'),
    [
        (dict(backbone={}), ValueError, r'`config`.*or `type`.*student|student.*`config`'),
        (dict(config='nowhere.py'), FileNotFoundError, r'config of the student at `nowhere\.py`'),
        (
            dict(config='mmseg::pspnet/none.py'),
            FileNotFoundError,
            r'none named `mmseg::pspnet/none',
        ),
    ],
)
def test_bad_networks_are_refused(network, error, match):
    with pytest.raises(error, match=match):
        resolve_model_config(network, 'student')


@pytest.mark.parametrize('scope', ['mmdet', 'mmsegx', 'balkd_seg'])
def test_a_package_that_is_not_installed_is_refused_and_not_installed(scope, monkeypatch):
    monkeypatch.setattr('mmengine.hub.hub.install_package', lambda package: pytest.fail(package))
    with pytest.raises(ValueError, match=rf"none of scope '{scope}'.*mmseg::"):
        resolve_model_config(dict(config=f'{scope}::a/b.py'), 'teacher')


def test_a_student_with_a_checkpoint_is_told_about_load_from(make_segmentor):
    with pytest.raises(ValueError, match=r"no `checkpoint` in the student.*'x\.pth'.*`load_from`"):
        resolve_model_config(dict(make_segmentor(), checkpoint='x.pth'), 'student')


def test_config_without_model_and_config_of_a_distillation_are_refused(tmp_path):
    empty, nested = tmp_path / 'empty.py', tmp_path / 'nested.py'
    empty.write_text('a = 1\n')
    nested.write_text("model = dict(type='OfflineDistiller')\n")
    with pytest.raises(ValueError, match='to define `model`'):
        resolve_model_config(dict(config=str(empty)), 'student')
    with pytest.raises(ValueError, match='its config is a distillation itself'):
        resolve_model_config(dict(config=str(nested)), 'student')


PYTHON_STYLE = """
from mmseg.models import EncoderDecoder
from balkd_seg.distillers import {kind}
model = dict(type={kind}, student=dict(type=EncoderDecoder))
"""


@pytest.mark.parametrize('kind', ['OfflineDistiller', 'MutualDistiller'])
def test_a_distiller_inside_a_distiller_is_refused_however_it_is_spelt(tmp_path, kind):
    from mmengine.config import Config

    path = tmp_path / 'python_style.py'
    path.write_text(PYTHON_STYLE.format(kind=kind))
    kinds = [kind, f'mmseg.{kind}', MODELS.get(kind), Config.fromfile(path).model.type]
    networks = [dict(type=spelt, student={}) for spelt in kinds]
    for network in (*networks, dict(config=str(path))):
        with pytest.raises(ValueError, match=rf'distillation itself \({kind}\)'):
            resolve_model_config(network, 'student')
    outer = dict(distill=[dict(type='PixelwiseKLLoss')], student=networks[0])
    with pytest.raises(ValueError, match=rf'student to be one.*distillation itself \({kind}\)'):
        MODELS.build(dict(outer, type='OfflineDistiller', teacher={}))
    outer.update(student=dict(config=R18, pretrained=None), peers=dict(tutor=networks[1]))
    with pytest.raises(ValueError, match=rf'tutor to be one.*distillation itself \({kind}\)'):
        MODELS.build(dict(outer, type='MutualDistiller'))
