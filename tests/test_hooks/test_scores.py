"""Metrics learn from the networks which label does not count."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmseg.registry import MODELS
from torch import nn

from balkd_seg.hooks import CheckDataHook, DistillStateHook, _scores

META = dict(classes=('a', 'b'))


def runner_of(model, *metrics):
    evaluator = Evaluator(list(metrics))
    evaluator.dataset_meta = META
    loop = SimpleNamespace(evaluator=evaluator)
    return SimpleNamespace(model=model, val_loop=loop, test_loop=loop)


def network_of(make_segmentor, ignore_index):
    model = make_segmentor(num_classes=2)
    model['decode_head']['ignore_index'] = ignore_index
    return model


def scores(runner):
    """Score the logits (0, 3), half the labels being 0 and half 1."""
    logits = torch.tensor([0.0, 3.0])[:, None, None].expand(2, 4, 6)
    networks = ('', 'tutor_') if hasattr(runner.model, 'networks') else ('',)
    sample = dict(gt_sem_seg=dict(data=torch.arange(24).reshape(1, 4, 6) % 2), img_path='a.png')
    for name in networks:
        sample[f'{name}seg_logits'] = dict(data=logits)
        sample[f'{name}pred_sem_seg'] = dict(data=logits.argmax(0, keepdim=True))
    runner.val_loop.evaluator.process([sample], {})
    return runner.val_loop.evaluator.evaluate(1)


@pytest.mark.parametrize('when', ['before_val', 'before_test'])
@pytest.mark.parametrize(('ignore_index', 'ece'), [(0, 4.74), (255, 45.26)])
def test_calibration_counts_what_the_network_counts(make_segmentor, when, ignore_index, ece):
    model = MODELS.build(network_of(make_segmentor, ignore_index))
    runner = runner_of(model, dict(type='CalibrationMetric'))
    getattr(CheckDataHook(), when)(runner)
    assert scores(runner)['ECE'] == pytest.approx(ece, abs=0.005)


def test_a_label_that_the_config_names_stays(make_segmentor):
    model = MODELS.build(network_of(make_segmentor, 0))
    runner = runner_of(model, dict(type='CalibrationMetric', ignore_index=1))
    CheckDataHook().before_val(runner)
    assert scores(runner)['ECE'] == pytest.approx(95.26, abs=0.005)


def test_each_network_has_its_own(make_segmentor):
    model = MODELS.build(
        dict(
            type='MutualDistiller',
            student=network_of(make_segmentor, 0),
            peers=dict(tutor=network_of(make_segmentor, 1)),
            distill=[dict(type='PixelwiseKLLoss', ignore_index=0)],
        )
    )
    metric = dict(type='NetworksMetric', metric=[dict(type='CalibrationMetric')])
    runner = runner_of(model, metric)
    for _ in range(2):  # at the second time the metrics are there
        CheckDataHook().before_val(runner)
        found = scores(runner)
        assert found['student/ECE'] == pytest.approx(4.74, abs=0.005)
        assert found['tutor/ECE'] == pytest.approx(95.26, abs=0.005)


def test_iou_of_another_label_is_said(make_segmentor, monkeypatch):
    said = []
    monkeypatch.setattr(_scores, 'print_log', lambda text, **_: said.append(text))
    model = MODELS.build(network_of(make_segmentor, 0))
    CheckDataHook().before_val(runner_of(model, dict(type='IoUMetric', ignore_index=0)))
    assert not said
    CheckDataHook().before_val(runner_of(model, dict(type='IoUMetric')))
    assert 'leaves out label 255, but the network is trained without label 0' in said[0]


def test_another_model_is_left_alone():
    CheckDataHook().before_test(runner_of(nn.Identity(), dict(type='CalibrationMetric')))


@pytest.fixture(params=[CheckDataHook, DistillStateHook])
def monitored(request):
    """Return what lets one of our hooks, whichever a run has, look at the others."""

    def look(metric, *hooks):
        runner = runner_of(nn.Identity(), metric)
        runner.hooks, runner.train_loop = hooks, None
        runner.val_loop.dataloader = SimpleNamespace(dataset=None)
        request.param().before_train(runner)

    return look


NETWORKS = dict(type='NetworksMetric', metric=dict(type='IoUMetric'))


@pytest.mark.parametrize(
    ('hook', 'setting'),
    [
        (CheckpointHook(save_best='mIoU'), 'save_best'),
        (CheckpointHook(save_best=['student/mIoU', 'mIoU'], rule='greater'), 'save_best'),
        (EarlyStoppingHook(monitor='mIoU'), 'monitor'),
    ],
)
def test_a_score_without_its_network_is_told_its_name(monitored, hook, setting):
    with pytest.raises(ValueError, match=rf"`{setting}` of .*but got 'mIoU'.*Say 'student/mIoU'"):
        monitored(NETWORKS, hook)
    monitored(dict(type='IoUMetric'), hook)


def test_scores_of_a_network_and_of_nothing_are_fine(monitored):
    monitored(
        NETWORKS, CheckpointHook(), CheckpointHook(save_best='auto'),
        CheckpointHook(save_best='student/mIoU', rule='greater'),
    )  # fmt: skip
