"""One network of a config is the same whoever builds it."""

import pytest
import torch
from mmengine.config import Config
from mmseg.registry import MODELS
from torch import nn

from balkd_seg.distillers import OfflineDistiller
from balkd_seg.networks.build import (
    build_network,
    load_network,
    network_config,
    preprocessor_settings,
)


@pytest.fixture
def top(make_segmentor):
    """A config whose data preprocessor stands at its top only."""
    model = make_segmentor()
    return Config(dict(data_preprocessor=model.pop('data_preprocessor'), model=model))


def distillation(cfg, teacher, kind='OfflineDistiller'):
    model = dict(
        type=kind,
        student=cfg.model.to_dict(),
        teacher=dict(teacher, checkpoint='teacher.pth', classes=('a',)),
        distill=[dict(type='PixelwiseKLLoss')],
    )
    return Config(dict(data_preprocessor=cfg.data_preprocessor, model=model))


def test_a_data_preprocessor_at_the_top_belongs_to_the_network(top):
    assert network_config(top).data_preprocessor == top.data_preprocessor
    assert 'data_preprocessor' not in top.model


def test_one_of_its_own_comes_first(top):
    top.model.data_preprocessor = dict(top.data_preprocessor, mean=[1.0, 2.0, 3.0])
    assert network_config(top).data_preprocessor.mean == [1.0, 2.0, 3.0]


@pytest.mark.parametrize('kind', ['OfflineDistiller', 'mmseg.OfflineDistiller', OfflineDistiller])
def test_every_network_of_a_distillation(top, make_segmentor, kind):
    teacher = make_segmentor(depth=34)
    teacher.pop('data_preprocessor')
    cfg = distillation(top, teacher, kind)
    for name, depth in (('student', 18), ('teacher', 34)):
        model = network_config(cfg, name)
        assert (model.type, model.backbone.depth) == ('EncoderDecoder', depth)
        assert model.data_preprocessor == top.data_preprocessor
        assert 'checkpoint' not in model
        assert 'classes' not in model
    with pytest.raises(ValueError, match=r"one of the networks of .*teacher'\], but got 'third'"):
        network_config(cfg, 'third')


def test_peers_by_name(top, make_segmentor):
    cfg = distillation(top, {})
    cfg.model.peers = dict(second=make_segmentor(depth=34))
    assert network_config(cfg, 'second').backbone.depth == 34


def test_distillers_hand_it_to_every_network_that_has_none(top, make_segmentor, save_teacher):
    teacher = make_segmentor(depth=34)
    path = save_teacher(teacher)
    teacher.pop('data_preprocessor')
    cfg = distillation(top, teacher)
    cfg.model.teacher.checkpoint = path
    cfg.model.teacher.pop('classes')
    # as mmengine's Runner builds it
    model = MODELS.build({**cfg.model, 'data_preprocessor': cfg.data_preprocessor})
    model.build_teacher()
    assert model.teacher._renormalise.same
    assert model.teacher.network.data_preprocessor.mean.flatten()[0] == pytest.approx(123.675)


def test_built_to_predict(top, make_segmentor, save_teacher):
    trained = make_segmentor()
    path = save_teacher(trained)
    top.model.backbone.norm_cfg = top.model.decode_head.norm_cfg = dict(type='SyncBN')
    network = load_network(top, path)
    assert not network.training
    assert not network.with_auxiliary_head
    assert not [m for m in network.modules() if isinstance(m, nn.SyncBatchNorm)]
    weights = torch.load(path, weights_only=True)['state_dict']
    assert all(torch.equal(weights[k], v) for k, v in network.state_dict().items())
    again = build_network(top, dict(state_dict=weights), path)
    assert again.data_preprocessor.mean.flatten()[0] == pytest.approx(123.675)


@pytest.mark.parametrize('place', ['top', 'model', 'distiller', 'student', 'named'])
def test_settings_of_the_data_preprocessor_are_changed_where_they_are(top, place, tmp_path):
    if place in ('distiller', 'student', 'named'):
        top.dump(tmp_path / 'student.py')
        top = distillation(top, {})
    own = top.data_preprocessor
    if place == 'model' or place == 'distiller':
        top.model.data_preprocessor = top.pop('data_preprocessor')
    elif place == 'student':
        top.model.student.data_preprocessor = top.pop('data_preprocessor')
    elif place == 'named':
        top.model.student = dict(config=str(tmp_path / 'student.py'))
        top.pop('data_preprocessor')
    preprocessor_settings(top)['size'] = (16, 24)
    assert network_config(top).data_preprocessor == {**own, 'size': (16, 24)}


def test_a_config_without_a_model_is_refused():
    with pytest.raises(ValueError, match=r'Expected the config .* to define `model`'):
        network_config(Config(dict(a=1)))
