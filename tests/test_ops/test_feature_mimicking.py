"""FitNets' difference of features, place by place."""

import pytest
import torch

from balkd_seg.ops import feature_mimicking


def truth(student, teacher, _):
    return sum(((s - t) ** 2).mean() for s, t in zip(student, teacher, strict=True)) / len(student)


@pytest.mark.parametrize('align_corners', [False, True])
def test_value_and_gradient_at_every_size(compare, case, align_corners):
    compare(feature_mimicking, truth, case, align_corners)


def test_cosine_is_watched(compare):
    features = torch.randn(2, 5, 3, 4)
    torch.testing.assert_close(feature_mimicking(features, 3 * features).cosine, torch.tensor(1.0))
    assert feature_mimicking(features, -features).cosine < -0.99


def test_channels_that_differ_need_a_projection():
    message = r'but got 5 and 7; set projection=dict\(in_channels=5, out_channels=7\)'
    with pytest.raises(ValueError, match=message):
        feature_mimicking(torch.zeros(1, 5, 2, 2), torch.zeros(1, 7, 2, 2))
