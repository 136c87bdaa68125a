"""Whoever put a label that is no class is named, and not somebody else."""

import pytest
import torch
from mmengine.structures import PixelData


@pytest.fixture
def make(make_distiller, make_segmentor):
    """Return a function that makes a distiller of another ignored label."""

    def make(ignore_index, **preprocessor):
        student = make_segmentor(auxiliary=False)
        student['decode_head']['ignore_index'] = ignore_index
        student['data_preprocessor'].update(preprocessor)
        return make_distiller(student=student)

    return make


def load(distiller, samples, size):
    """Return a batch as the data preprocessor makes it of images and labels of a size."""
    for sample in samples:
        sample.gt_sem_seg = PixelData(data=torch.ones(1, *size, dtype=torch.int64))
    images = [torch.zeros(3, *size) for _ in samples]
    data = distiller.data_preprocessor(dict(inputs=images, data_samples=samples), True)
    return data['inputs'], data['data_samples']


def test_padding_is_not_blamed_on_label_files(make, make_batch):
    distiller, samples = make(5), make_batch()[1]
    with pytest.raises(
        ValueError,
        match=r'from 0 to 4 or the ignored 5, but got \[255\] .*preprocessor pads these images, '
        r'and their labels with 255: set seg_pad_val=5 in its config',
    ):
        distiller.loss(*load(distiller, samples, (20, 30)))
    right = make(5, seg_pad_val=5)
    losses = right.loss(*load(right, samples, (20, 30)))
    assert losses['distill.balkd_valid'] == pytest.approx(20 * 30 / (32 * 48))


def test_what_transforms_and_label_maps_put_is_named(make, make_batch):
    distiller, samples = make(5), make_batch()[1]
    inputs, samples = load(distiller, samples, (32, 48))
    samples[0].gt_sem_seg.data[..., :3] = 255
    with pytest.raises(ValueError, match=r'what mmseg puts for ignored pixels .*ignores 5: set'):
        distiller.loss(inputs, samples)


def test_other_values_are_the_files(make, make_batch):
    distiller, samples = make(255), make_batch()[1]
    inputs, samples = load(distiller, samples, (20, 30))
    samples[0].gt_sem_seg.data[..., :3] = 7
    with pytest.raises(ValueError, match=r'got \[7\] in frame_labels\.png\. Check the label map'):
        distiller.loss(inputs, samples)
