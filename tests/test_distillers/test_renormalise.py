"""A network gets the inputs it was trained with."""

import pytest
import torch
from mmengine.model import BaseDataPreprocessor, ImgDataPreprocessor
from mmseg.models import SegDataPreProcessor

from balkd_seg.distillers.renormalise import Renormalise, converts_channels

MEAN, STD = [100.0, 50.0, 25.0], [2.0, 4.0, 8.0]


@pytest.mark.parametrize('kind', [SegDataPreProcessor, ImgDataPreprocessor])
@pytest.mark.parametrize('converts', [False, True])
def test_either_name_of_the_channel_order_is_read(kind, converts):
    """mmseg says `channel_conversion`; mmengine, and mmseg's fork, with an underscore."""
    assert converts_channels(kind(mean=MEAN, std=STD, bgr_to_rgb=converts)) is converts


@pytest.mark.parametrize('name', ['channel_conversion', '_channel_conversion'])
def test_a_teacher_of_another_order_gets_its_colours_under_either_name(name):
    student, teacher = (
        SegDataPreProcessor(mean=MEAN, std=STD, bgr_to_rgb=rgb) for rgb in (True, False)
    )
    for preprocessor in (student, teacher):
        value = converts_channels(preprocessor)
        for other in ('channel_conversion', '_channel_conversion'):
            vars(preprocessor).pop(other, None)
        vars(preprocessor)[name] = value
    images = torch.randint(256, (1, 3, 2, 2)).float()  # BGR
    seen, wanted = ((x - teacher.mean) / teacher.std for x in (images.flip(1), images))
    torch.testing.assert_close(Renormalise(student, teacher, 3)(seen), wanted)


def test_a_preprocessor_that_does_not_tell_is_refused():
    known = SegDataPreProcessor(mean=MEAN, std=STD)
    with pytest.raises(ValueError, match=r'_channel_conversion.*but got BaseDataPreprocessor'):
        Renormalise(known, BaseDataPreprocessor(), 3)
