"""A peer's weights learn at the rates that they would have as a student's."""

import pytest
from mmengine.optim import build_optim_wrapper
from mmseg.registry import MODELS
from torch import nn

from balkd_seg.compat.layer_decay import give_peers_their_layers

DECAY = 0.9
pytestmark = pytest.mark.filterwarnings('ignore:torch.meshgrid')  # of mmseg's BEiT


def beit(num_layers=2):
    return dict(
        type='BEiT', img_size=(32, 32), patch_size=16, in_channels=3, embed_dims=8, num_heads=2,
        num_layers=num_layers, mlp_ratio=1, out_indices=(num_layers - 1,), qv_bias=True,
        attn_drop_rate=0.0, drop_path_rate=0.0, init_values=0.1,
    )  # fmt: skip


def segmentor(backbone, channels=8):
    head = dict(
        type='FCNHead', in_channels=channels, in_index=-1, channels=8, num_convs=1, num_classes=5,
        concat_input=False, norm_cfg=dict(type='BN'),
    )  # fmt: skip
    preprocessor = dict(type='SegDataPreProcessor', mean=[0.0] * 3, std=[1.0] * 3, size=(32, 32))
    return dict(
        type='EncoderDecoder', data_preprocessor=preprocessor, backbone=backbone, decode_head=head
    )


def mutual(student, **peers):
    term = dict(type='PixelwiseKLLoss', source=next(iter(peers)))
    distill = [dict(term, projection=dict(in_channels=5, out_channels=5))]
    return MODELS.build(dict(type='MutualDistiller', student=student, peers=peers, distill=distill))


def rates(model, constructor='LearningRateDecayOptimizerConstructor', **paramwise):
    """Return the factor and the weight decay of every parameter, by the name in the model."""
    paramwise = dict(dict(num_layers=2, decay_rate=DECAY), **paramwise)
    optimizer = dict(type='AdamW', lr=1.0, weight_decay=0.05)
    wrapper = build_optim_wrapper(
        model, dict(constructor=constructor, paramwise_cfg=paramwise, optimizer=optimizer)
    )
    found = {}
    for group in wrapper.optimizer.param_groups:
        for parameter in group['params']:
            assert id(parameter) not in found
            found[id(parameter)] = group['lr'], group['weight_decay']
    return {name: found.pop(id(p)) for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize('num_layers', [2, 12])  # the second as it is set for another depth
def test_a_peer_has_the_levels_of_a_student(num_layers):
    alone = rates(MODELS.build(segmentor(beit())), num_layers=num_layers)
    both = rates(mutual(segmentor(beit()), tutor=segmentor(beit())), num_layers=num_layers)
    assert len({rate for rate, _ in alone.values()}) == 4
    assert min(alone.values())[0] == pytest.approx(DECAY ** (num_layers + 1))
    assert {k: v for k, v in both.items() if not k.startswith(('peers', 'distill'))} == alone
    peer = {k.removeprefix('peers.tutor.'): v for k, v in both.items() if k.startswith('peers')}
    assert peer == alone
    assert both['distill_terms.0.projection.weight'] == (1.0, 0.05)


def test_a_deeper_peer_has_those_of_its_own_depth():
    alone = rates(MODELS.build(segmentor(beit(3))), num_layers=3)
    both = rates(mutual(segmentor(beit()), tutor=segmentor(beit(3))), num_layers=2)
    peer = {k.removeprefix('peers.tutor.'): v for k, v in both.items() if k.startswith('peers')}
    assert peer == alone


@pytest.mark.filterwarnings('ignore:DeprecationWarning')
def test_the_deprecated_constructor_too():
    model = mutual(segmentor(beit()), tutor=segmentor(beit()))
    found = rates(model, 'LayerDecayOptimizerConstructor', layer_decay_rate=DECAY)
    weight = 'backbone.layers.0.ln1.weight'
    assert found[f'peers.tutor.{weight}'] == found[weight]
    assert found[weight][0] == pytest.approx(DECAY**2)


def test_a_peer_without_known_layers_learns_at_the_full_rate(make_segmentor):
    model = mutual(segmentor(beit()), tutor=make_segmentor(auxiliary=False))
    both = rates(model)
    assert {rate for name, (rate, _) in both.items() if name.startswith('peers')} == {1.0}
    assert both['backbone.layers.0.ln1.weight'][0] == pytest.approx(DECAY**2)


class ConvNeXt(nn.Module):
    """What names and counts of mmpretrain's are."""

    def __init__(self, blocks):
        super().__init__()
        for name in ('downsample_layers', 'stages'):
            setattr(self, name, nn.ModuleList(nn.ModuleList() for _ in range(4)))
        for stage, count in enumerate((1, 1, blocks, 1)):
            self.stages[stage].extend(nn.Linear(2, 2) for _ in range(count))
            self.downsample_layers[stage].append(nn.Linear(2, 2))


@pytest.mark.parametrize('kind', ['layer_wise', 'stage_wise'])
def test_convnext_by_layers_and_by_stages(kind):
    """27 blocks in the third stage are the 12 layers of mmseg's configs, 9 are the 6."""
    model = mutual(segmentor(beit()), tutor=segmentor(beit()))
    student, tutor = ConvNeXt(9), ConvNeXt(27)
    model.backbone = model.student.backbone = student
    model.peers.network('tutor').backbone = tutor
    alone = nn.Module()
    alone.backbone = ConvNeXt(27)
    wanted = rates(alone, num_layers=12, decay_type=kind)
    both = rates(model, num_layers=6, decay_type=kind)
    assert len({rate for rate, _ in wanted.values()}) > 3
    prefix = 'peers.tutor.'
    assert {n: both[f'{prefix}{n}'] for n in wanted} == wanted


def test_another_model_is_mmsegs_own_affair():
    give_peers_their_layers()  # a second time changes nothing
    model = MODELS.build(segmentor(beit()))
    assert rates(model)['backbone.cls_token'][0] == pytest.approx(DECAY**3)
