"""What a network raises by itself names the network, its size, and a size that works."""

import copy

import pytest
import torch
from mmseg.registry import MODELS

NORM = dict(type='BN', requires_grad=True)
OHEM = dict(type='OhemCrossEntropy', min_kept=100)


def with_parts(model, backbone, head):
    return dict(model, backbone=copy.deepcopy(backbone), decode_head=copy.deepcopy(head))


DDRNET = (
    dict(type='DDRNet', channels=4, ppm_channels=8, norm_cfg=NORM),
    dict(
        type='DDRHead', in_channels=16, channels=8, num_classes=5, norm_cfg=NORM,
        loss_decode=[OHEM, OHEM],
    ),
)  # fmt: skip
UNET = (
    dict(type='UNet', base_channels=4, norm_cfg=NORM),
    dict(
        type='FCNHead', in_channels=4, in_index=4, channels=4, num_convs=1, num_classes=5,
        norm_cfg=NORM,
    ),
)  # fmt: skip


@pytest.mark.parametrize(('parts', 'raised'), [(DDRNET, 'RuntimeError'), (UNET, 'AssertionError')])
def test_a_size_that_the_student_cannot_take(
    parts, raised, make_distiller, make_segmentor, make_batch
):
    """As in mmseg alone; at the size that is suggested it trains."""
    student = with_parts(make_segmentor(auxiliary=False), *parts)
    distiller = make_distiller(student=student)
    before = copy.deepcopy(distiller.state_dict())
    batch = make_batch(height=180, width=240)
    told = rf'the student to take images of 180x240 .*raised {raised}.*padded to (\d+)x(\d+) work'
    with pytest.raises(ValueError, match=told) as caught:
        distiller.loss(*batch)
    assert type(caught.value.__cause__).__name__ == raised
    with pytest.raises(type(caught.value.__cause__)):
        MODELS.build(student).loss(*batch)
    divisor = {'RuntimeError': 8, 'AssertionError': 16}[raised]
    setting = f'size_divisor={divisor}, test_cfg=dict(size_divisor={divisor})'
    assert setting in str(caught.value)
    for name, value in distiller.state_dict().items():
        if 'running' not in name and 'num_batches' not in name:  # these moved before it failed
            assert torch.equal(value, before[name]), name
    losses = distiller.loss(*make_batch(height=-(-180 // divisor) * divisor, width=256))
    assert losses['distill.loss_balkd'] > 0
    assert not any('forward' in vars(module) for module in distiller.modules())


def test_a_size_that_the_teacher_or_a_peer_cannot_take(make_distiller, make_segmentor, make_batch):
    unet = with_parts(make_segmentor(auxiliary=False), *UNET)
    batch = make_batch(height=36, width=48)
    told = r'the teacher to take images of 36x48 .*padded to 48x48 work.*size_divisor=16'
    with pytest.raises(ValueError, match=told):
        make_distiller(teacher=unet).loss(*batch)
    mutual = MODELS.build(
        dict(
            type='MutualDistiller', student=make_segmentor(), peers=dict(teacher=unet),
            distill=[dict(type='PixelwiseKLLoss')],
        )
    )  # fmt: skip
    with pytest.raises(ValueError, match=told):
        mutual.loss(*batch)


def test_a_failure_that_has_nothing_to_do_with_sizes(make_distiller, make_batch, monkeypatch):
    distiller = make_distiller()
    monkeypatch.setattr(distiller.student.backbone, 'forward', lambda _: 1 / 0)
    told = (
        r'student .*raised ZeroDivisionError: division by zero\. .*to 1024 fail too.*without dist'
    )
    with pytest.raises(ValueError, match=told):
        distiller.loss(*make_batch())


def test_a_failure_that_does_not_come_again(make_distiller, make_batch, monkeypatch):
    """As of one image: then padding would be blamed for nothing."""
    distiller = make_distiller()
    distiller.build_teacher()
    backbone, calls = distiller.student.backbone, []

    def forward(inputs):
        calls.append(len(inputs))
        return type(backbone).forward(backbone, inputs) if len(inputs) < 3 else 1 / 0

    monkeypatch.setattr(backbone, 'forward', forward)
    with pytest.raises(ValueError, match=r'does not depend on the size: .* two of these alone do'):
        distiller.loss(*make_batch(size=3, height=30))
    assert calls == [3, 2]


def test_padding_is_ignored_as_the_head_ignores(make_distiller, make_segmentor, make_batch):
    student = with_parts(make_segmentor(auxiliary=False), *UNET)
    student['decode_head']['ignore_index'] = 4
    inputs, samples = make_batch(height=36, width=48)
    for sample in samples:
        sample.gt_sem_seg.data[sample.gt_sem_seg.data == 255] = 4
    with pytest.raises(ValueError, match=r'padded to 48x48 work'):
        make_distiller(student=student).loss(inputs, samples)


def test_of_several_processes_none_tries_sizes(make_distiller, make_batch, monkeypatch):
    distiller, calls = make_distiller(), []
    monkeypatch.setattr('balkd_seg.distillers.failures.get_world_size', lambda: 2)
    monkeypatch.setattr(distiller.student.backbone, 'forward', lambda x: calls.append(x) or 1 / 0)
    with pytest.raises(ValueError, match=r'about sizes, set data_preprocessor.*size_divisor=64'):
        distiller.loss(*make_batch())
    assert len(calls) == 1


def test_that_memory_ran_out_stays_what_it_is(make_distiller, make_batch, monkeypatch):
    distiller = make_distiller()

    def forward(inputs):
        raise torch.cuda.OutOfMemoryError('no memory')

    monkeypatch.setattr(distiller.student.backbone, 'forward', forward)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        distiller.loss(*make_batch())
