"""What is read from a network, and how it is told to those who count."""

import pytest
import torch
from mmseg.registry import MODELS
from torch import nn

from balkd_seg.networks.facts import channel_statistics, ignored_label, input_channels


def four_bands(config, **preprocessor):
    config['backbone']['in_channels'] = 4
    for key in ('mean', 'std', 'bgr_to_rgb'):
        config['data_preprocessor'].pop(key)
    config['data_preprocessor'].update(preprocessor)
    return config


def test_the_ignored_label_is_that_of_the_head_that_predicts(make_segmentor, make_cascade):
    model, cascade = make_segmentor(), make_cascade()
    model['decode_head']['ignore_index'] = 3
    cascade['decode_head'][1]['ignore_index'] = 4
    assert ignored_label(MODELS.build(model)) == 3
    assert ignored_label(MODELS.build(cascade)) == 4


@pytest.mark.parametrize(
    'preprocessor',
    [{}, dict(mean=[1.0, 2.0, 3.0, 4.0], std=[5.0] * 4), dict(mean=[1.0], std=[5.0])],
)
def test_channels_with_a_mean_each_with_one_for_all_and_without(make_segmentor, preprocessor):
    network = MODELS.build(four_bands(make_segmentor(), **preprocessor))
    assert input_channels(network) == 4
    mean, std = channel_statistics(network.data_preprocessor, 4)
    expected = preprocessor.get('mean', [0.0])
    assert mean.shape == std.shape == (4, 1, 1)
    assert mean.flatten().tolist() == (expected if len(expected) == 4 else expected * 4)
    assert std[0] == (5 if preprocessor else 1)


def test_a_network_that_does_not_tell_is_refused(make_segmentor):
    network = MODELS.build(four_bands(make_segmentor()))
    network.backbone = nn.Linear(4, 4)
    with pytest.raises(ValueError, match='but Linear has neither'):
        input_channels(network)


@pytest.mark.parametrize('normalised', [True, False])
def test_a_teacher_of_other_bands_is_refused_by_name(make_distiller, make_segmentor, normalised):
    statistics = dict(mean=[0.0] * 4, std=[1.0] * 4) if normalised else {}
    distiller = make_distiller(student=four_bands(make_segmentor(), **statistics))
    with pytest.raises(
        ValueError,
        match=r'teacher \(ResNetV1c\) takes 3 channels and the student \(ResNetV1c\) 4\. Take a',
    ):
        distiller.build_teacher()
    with pytest.raises(ValueError, match=r'tutor \(ResNetV1c\) takes 3 channels'):
        MODELS.build(
            dict(
                type='MutualDistiller',
                student=four_bands(make_segmentor(), **statistics),
                peers=dict(tutor=make_segmentor()),
                distill=[dict(type='PixelwiseKLLoss')],
            )
        )


def test_four_bands_are_converted_from_one_normalisation_to_another(make_distiller, make_segmentor):
    student = four_bands(make_segmentor(), mean=[1.0, 2.0, 3.0, 4.0], std=[5.0, 6.0, 7.0, 8.0])
    teacher = four_bands(make_segmentor(depth=34), bgr_to_rgb=True)  # mmseg converts three alone
    distiller = make_distiller(student=student, teacher=teacher)
    distiller.build_teacher()
    raw = torch.randint(256, (2, 4, 32, 48)).float()
    batch = dict(inputs=list(raw), data_samples=None)
    images = distiller.data_preprocessor(batch, False)['inputs']
    torch.testing.assert_close(distiller.teacher._renormalise(images), raw, rtol=0, atol=1e-3)
