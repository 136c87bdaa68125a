"""Small networks and batches that every test of models shares."""

import copy
import functools
import os

import pytest
import torch
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

# Without a GPU the Triton kernels are interpreted. Triton reads this when it meets the first.
if not torch.cuda.is_available():
    os.environ.setdefault('TRITON_INTERPRET', '1')

NUM_CLASSES = 5
NORM = dict(type='BN', requires_grad=True)
PREPROCESSOR = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=(32, 48),
)


def segmentor(depth=18, stride=16, num_classes=NUM_CLASSES, auxiliary=True, **overrides):
    """Return the inline config of a narrow PSPNet."""
    strides, dilations = {
        8: ((1, 2, 1, 1), (1, 1, 2, 4)),
        16: ((1, 2, 2, 1), (1, 1, 1, 2)),
    }[stride]
    head = dict(norm_cfg=NORM, align_corners=False, num_classes=num_classes)
    cross_entropy = dict(type='CrossEntropyLoss', use_sigmoid=False)
    return dict(
        type='EncoderDecoder',
        data_preprocessor=copy.deepcopy(PREPROCESSOR),
        backbone=dict(
            type='ResNetV1c',
            depth=depth,
            stem_channels=8,
            base_channels=8,
            strides=strides,
            dilations=dilations,
            norm_cfg=NORM,
            norm_eval=False,
            style='pytorch',
        ),
        decode_head=dict(
            type='PSPHead',
            in_channels=64,
            in_index=3,
            channels=16,
            pool_scales=(1, 2),
            dropout_ratio=0.1,
            loss_decode=dict(cross_entropy, loss_weight=1.0),
            **head,
        ),
        auxiliary_head=dict(
            type='FCNHead',
            in_channels=32,
            in_index=2,
            channels=8,
            num_convs=1,
            concat_input=False,
            dropout_ratio=0.1,
            loss_decode=dict(cross_entropy, loss_weight=0.4),
            **head,
        )
        if auxiliary
        else None,
        train_cfg=dict(),
        test_cfg=dict(mode='whole'),
        **overrides,
    )


def cascade(**overrides):
    """Return the inline config of a narrow two-stage cascade (FCN, then OCR)."""
    model = segmentor(auxiliary=False, **overrides)
    first = dict(model['decode_head'], type='FCNHead', num_convs=1, concat_input=False)
    first.pop('pool_scales')
    second = dict(model['decode_head'], type='OCRHead', ocr_channels=8)
    second.pop('pool_scales')
    return dict(model, type='CascadeEncoderDecoder', num_stages=2, decode_head=[first, second])


def batch(size=2, height=32, width=48, num_classes=NUM_CLASSES, seed=0, path='frame.png'):
    """Return images (N, 3, H, W) and data samples with labels, 10 % ignored."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(size, 3, height, width, generator=generator)
    labels = torch.randint(num_classes, (size, 1, height, width), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255
    meta = dict(
        img_shape=(height, width),
        ori_shape=(height, width),
        pad_shape=(height, width),
        padding_size=[0, 0, 0, 0],
        img_path=path,
        seg_map_path=path.replace('.png', '_labels.png'),
    )
    samples = [
        SegDataSample(gt_sem_seg=PixelData(data=label), metainfo=dict(meta)) for label in labels
    ]
    return inputs, samples


@pytest.fixture(autouse=True, scope='session')
def _mmseg_scope():
    """Register mmseg's modules and make its scope the default, as a Runner does."""
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    torch.set_num_threads(1)
    from mmseg.utils import register_all_modules

    import balkd_seg  # noqa: F401

    register_all_modules(init_default_scope=True)


@pytest.fixture(scope='module')
def read_each_metafile_once():
    """Spare mmengine from parsing the 50 metafiles of mmseg for each `mmseg::`."""
    with pytest.MonkeyPatch.context() as patch:
        from mmengine.config import utils

        patch.setattr(utils, 'load', functools.cache(utils.load))
        yield


@pytest.fixture
def make_segmentor():
    return segmentor


@pytest.fixture
def make_cascade():
    return cascade


@pytest.fixture
def make_batch():
    return batch


@pytest.fixture
def save_teacher(tmp_path):
    """Return a function that builds a network, saves a checkpoint of it and returns its path."""

    def save(config, name='teacher.pth', classes=None, seed=7):
        from mmseg.registry import MODELS

        torch.manual_seed(seed)
        network = MODELS.build(copy.deepcopy(config))
        meta = dict(dataset_meta=dict(classes=classes)) if classes else {}
        path = tmp_path / name
        torch.save(dict(state_dict=network.state_dict(), meta=meta), path)
        return str(path)

    return save


@pytest.fixture
def make_distiller(make_segmentor, save_teacher):
    """Return a function that builds an OfflineDistiller of two tiny networks."""

    def make(
        student=None, teacher=None, distill=None, checkpoint=None, classes=None, seed=0, **settings
    ):
        from mmseg.registry import MODELS

        teacher = teacher or make_segmentor(depth=34)
        checkpoint = checkpoint or save_teacher(teacher, classes=classes)
        torch.manual_seed(seed)
        return MODELS.build(
            dict(
                type='OfflineDistiller',
                student=student or make_segmentor(),
                teacher=dict(teacher, checkpoint=checkpoint),
                distill=distill or [dict(type='BalancedDivergenceLoss')],
                **settings,
            )
        )

    return make
