"""Every network is scored by what it predicted."""

import pytest
import torch
from mmcv import imread
from mmseg.evaluation import IoUMetric
from mmseg.registry import METRICS

META = dict(classes=('a', 'b', 'c'))
IOU = dict(type='IoUMetric', iou_metrics=['mIoU'])


def predict(names, count=4):
    """Return predictions of several networks for images of random labels."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for _ in range(count):
        sample = dict(
            gt_sem_seg=dict(data=torch.randint(3, (1, 6, 8), generator=generator)), img_path='x.png'
        )
        for name in names:
            logits = torch.randn(3, 6, 8, generator=generator)
            prefix = '' if name == 'student' else f'{name}_'
            sample[f'{prefix}seg_logits'] = dict(data=logits)
            sample[f'{prefix}pred_sem_seg'] = dict(data=logits.argmax(0, keepdim=True))
        samples.append(sample)
    return samples


def test_scores_are_those_of_each_network_alone():
    names = ('student', 'teacher', 'third')
    samples = predict(names)
    metric = METRICS.build(
        dict(type='NetworksMetric', metric=[IOU, dict(type='CalibrationMetric')])
    )
    metric.dataset_meta = META
    for _ in range(2):  # the second time starts anew
        for sample in samples:
            metric.process({}, [sample])
        scores = metric.evaluate(len(samples))
    assert len({scores[f'{name}/mIoU'] for name in names}) == 3
    for name in names:
        alone = IoUMetric()
        alone.dataset_meta = META
        prefix = '' if name == 'student' else f'{name}_'
        alone.process({}, [dict(s, pred_sem_seg=s[f'{prefix}pred_sem_seg']) for s in samples])
        expected = alone.evaluate(len(samples))
        assert {k: scores[f'{name}/{k}'] for k in expected} == expected
        assert 0 < scores[f'{name}/ECE'] < 100


def test_a_students_checkpoint_has_only_the_student_scored():
    metric = METRICS.build(dict(type='NetworksMetric', metric=IOU))
    metric.dataset_meta = META
    samples = predict(['student'])
    metric.process({}, samples)
    scores = metric.evaluate(len(samples))
    assert set(scores) == {'student/aAcc', 'student/mIoU', 'student/mAcc'}


@pytest.mark.parametrize('kind', ['IoUMetric', 'mmseg.IoUMetric', IoUMetric])
def test_predicted_label_maps_go_to_a_folder_for_each_network(tmp_path, kind):
    metric = METRICS.build(
        dict(
            type='NetworksMetric', metric=[dict(IOU, type=kind), dict(type='CalibrationMetric')],
            output_dir=str(tmp_path), keep_results=True,
        )
    )  # fmt: skip
    metric.dataset_meta = META
    (sample,) = predict(['student', 'teacher'], count=1)
    metric.process({}, [sample])
    for network, prefix in (('student', ''), ('teacher', 'teacher_')):
        written = torch.from_numpy(imread(tmp_path / network / 'x.png', flag='unchanged'))
        assert torch.equal(written, sample[f'{prefix}pred_sem_seg']['data'][0].to(torch.uint8))


def test_nothing_to_score_is_refused():
    with pytest.raises(ValueError, match='at least one entry in `metric`'):
        METRICS.build(dict(type='NetworksMetric', metric=[]))
