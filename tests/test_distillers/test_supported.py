"""What cannot be distilled, or needs a package, is named before anything is built."""

import copy

import pytest
import torch
from mmseg.models.decode_heads import MaskFormerHead
from mmseg.registry import MODELS
from torch import nn

from balkd_seg.distillers import supported
from balkd_seg.distillers.model_config import resolve_model_config

HEADS = {
    'MaskFormerHead': 'MaskFormerHead, which classifies masks',
    'mmseg.Mask2FormerHead': 'Mask2FormerHead, which classifies masks',
    MaskFormerHead: 'MaskFormerHead, which classifies masks',
    'SideAdapterCLIPHead': 'SideAdapterCLIPHead, which classifies masks',
    'PointHead': 'PointHead, which gives logits at single points',
    'VPDDepthHead': 'VPDDepthHead, which gives depth',
    nn.Identity: 'Identity, which is no subclass of',
}


@pytest.mark.parametrize('kind', HEADS)
@pytest.mark.parametrize('role', ['student', 'teacher', 'rival'])
def test_heads_without_logits_of_every_pixel(kind, role, make_segmentor, make_distiller):
    other = dict(make_segmentor(), decode_head=dict(type=kind))

    def build():
        if role != 'rival':
            return make_distiller(checkpoint='none.pth', **{role: other})
        networks = dict(student=make_segmentor(), peers=dict(rival=other))
        terms = [dict(type='PixelwiseKLLoss')]
        return MODELS.build(dict(type='MutualDistiller', distill=terms, **networks))

    with pytest.raises(ValueError, match=rf'head of the {role} to give logits .*{HEADS[kind]}'):
        build()


def test_a_teacher_that_is_named(make_distiller, make_segmentor, tmp_path):
    """Its config is read when training starts, because testing needs none."""
    model = dict(make_segmentor(), decode_head=dict(type='MaskFormerHead'))
    (tmp_path / 'masks.py').write_text(f'model = {model!r}\n')
    teacher = dict(config=str(tmp_path / 'masks.py'))
    distiller = make_distiller(teacher=teacher, checkpoint='none.pth')
    with pytest.raises(ValueError, match=r'head of the teacher .* MaskFormerHead, which classif'):
        distiller.init_weights()


def test_the_last_head_of_a_cascade(make_segmentor, make_cascade, make_distiller):
    cascade = make_cascade()
    cascade['decode_head'][1] = dict(type='PointHead')
    with pytest.raises(ValueError, match=r'head of the student .*PointHead, which gives logits at'):
        make_distiller(student=cascade)


@pytest.fixture
def without(monkeypatch):
    """Return a function that hides packages, whether they are installed or not."""

    def hide(*packages):
        found = supported.find_spec
        monkeypatch.setattr(supported, 'find_spec', lambda x: None if x in packages else found(x))

    return hide


def test_a_backbone_of_a_package_that_is_not_installed(without, make_segmentor, make_distiller):
    without('mmpretrain', 'timm')
    version = torch.__version__.partition('+')[0]
    for kind, name, packages in (
        ('mmpretrain.ConvNeXt', 'mmpretrain', 'mmpretrain torchvision'),
        ('TIMMBackbone', 'timm', 'timm'),
        ('mmseg.TIMMBackbone', 'timm', 'timm'),
    ):
        model = dict(make_segmentor(), backbone=dict(type=kind))
        told = (
            rf'Expected {name} to be installed, because `{kind}` of the teacher needs it.*Run '
            rf'`pip install {packages} torch=={version}`'
        )
        with pytest.raises(ValueError, match=told) as caught:
            make_distiller(teacher=copy.deepcopy(model), checkpoint='none.pth').build_teacher()
        assert '\n' not in str(caught.value)


def test_a_config_whose_imports_are_not_installed(without, tmp_path):
    without('mmpretrain')
    path = tmp_path / 'convnext.py'
    path.write_text("custom_imports = dict(imports='mmpretrain.missing')\nmodel = dict(type='X')\n")
    told = r'mmpretrain .*the config of the teacher, `.*convnext\.py`, needs it.*`pip install mmp'
    with pytest.raises(ValueError, match=told):
        resolve_model_config(dict(config=str(path)), 'teacher')
    path.write_text("custom_imports = dict(imports='my_own_package')\nmodel = dict(type='X')\n")
    with pytest.raises(ImportError, match='PYTHONPATH'):
        resolve_model_config(dict(config=str(path)), 'teacher')


def test_mmdet_is_not_asked_for_in_vain(without):
    without('mmdet')
    config = 'mmseg::mask2former/mask2former_r50_8xb2-160k_ade20k-512x512.py'
    with pytest.raises(ValueError, match=r'needs mmdet, with which mmseg classifies masks'):
        resolve_model_config(dict(config=config), 'teacher')


def test_scopes_of_other_people_are_left_alone(make_segmentor):
    model = dict(make_segmentor(), backbone=dict(type='my_project.Net'))
    assert resolve_model_config(model, 'student').backbone.type == 'my_project.Net'
