"""Predictions of networks with one sigmoid channel, as mmseg's own test step leaves them."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import ConfigDict
from mmseg.evaluation import IoUMetric
from mmseg.registry import MODELS
from torchmetrics.functional.classification import binary_calibration_error

from balkd_seg.metrics import CalibrationMetric
from balkd_seg.metrics.predictions import class_logits_of
from balkd_seg.metrics.temperature import fit_temperature, nll_slopes

CLASSES = dict(classes=('background', 'road'))


@pytest.fixture
def predict(make_segmentor, make_batch):
    """Return a function that gives logits z (N, H, W), labels and predictions of a network."""

    def run(threshold):
        config = make_segmentor(num_classes=2, auxiliary=False)
        config['decode_head'].update(out_channels=1, threshold=threshold)
        config['decode_head']['loss_decode'].update(use_sigmoid=True)
        torch.manual_seed(0)
        network = MODELS.build(ConfigDict(config)).eval()
        torch.nn.init.normal_(network.decode_head.conv_seg.weight, std=3.0)
        inputs, samples = make_batch(size=3, num_classes=2)
        with torch.no_grad():
            logits = network.encode_decode(inputs, [x.metainfo for x in samples])[:, 0]
            logits -= logits.mean()
            labels = torch.stack([x.gt_sem_seg.data[0] for x in samples])
            predictions = network.postprocess_result(logits[:, None], copy.deepcopy(samples))
        return logits, labels, [x.to_dict() for x in predictions]

    return run


@pytest.mark.parametrize('threshold', [0.3, 0.5])
def test_the_metric_reads_both_classes(predict, threshold):
    logits, labels, samples = predict(threshold)
    assert samples[0]['seg_logits']['data'].shape[0] == 1
    metric = CalibrationMetric()
    metric.dataset_meta = CLASSES
    metric.process({}, samples)
    got = metric.evaluate(len(samples))
    valid = labels != 255
    z, y = logits[valid].double(), labels[valid]
    assert ((z.sigmoid() > threshold) != (z > 0)).any() == (threshold != 0.5)
    nll = F.binary_cross_entropy_with_logits(z, y.double())
    assert got['NLL'] == pytest.approx(float(nll), rel=1e-5)
    p = z.sigmoid()
    confidence, hit = torch.maximum(p, 1 - p), ((z > 0).long() == y).long()
    ece = binary_calibration_error(confidence, hit, 15)
    assert got['ECE'] == pytest.approx(100 * float(ece), rel=1e-3)
    assert got['Brier'] == pytest.approx(float((2 * (p - y) ** 2).mean()), rel=1e-5)


def test_the_temperature_divides_the_logit(predict):
    logits, labels, samples = predict(0.3)
    slopes = None
    for sample, label in zip(samples, labels, strict=True):
        z, _ = class_logits_of(sample['seg_logits']['data'], sample['pred_sem_seg']['data'][0])
        one = nll_slopes(z, label)
        slopes = one if slopes is None else slopes + one
    pair = torch.stack((torch.zeros_like(logits), logits), 1)
    exact = sum((nll_slopes(z, y) for z, y in zip(pair[1:], labels[1:], strict=True)),
                nll_slopes(pair[0], labels[0]))  # fmt: skip
    assert fit_temperature(slopes) == pytest.approx(fit_temperature(exact), rel=1e-4)


def test_iou_is_mmsegs_own(predict):
    """The metric beside it leaves a prediction above the threshold as it is."""
    _, _, samples = predict(0.3)
    before = copy.deepcopy([x['pred_sem_seg']['data'] for x in samples])
    iou = IoUMetric(iou_metrics=['mIoU'])
    iou.dataset_meta = CLASSES
    for metric in (CalibrationMetric(), iou):
        metric.process({}, samples)
    after = [x['pred_sem_seg']['data'] for x in samples]
    assert all(torch.equal(one, two) for one, two in zip(after, before, strict=True))
    assert 0 < iou.evaluate(len(samples))['mIoU'] < 100


def test_test_time_augmentation_is_refused(predict):
    _, _, samples = predict(0.5)
    samples[0]['pred_sem_seg']['data'] = 1 - samples[0]['pred_sem_seg']['data']
    with pytest.raises(ValueError, match=r'above a threshold.*test without.*Image: frame.png'):
        CalibrationMetric().process({}, samples)


def test_a_logit_in_place_of_a_probability_is_refused(predict):
    _, _, samples = predict(0.5)
    samples[0]['seg_logits']['data'] = 5 - 20 * samples[0]['seg_logits']['data']
    with pytest.raises(ValueError, match=r'probabilities of class 1.*Image: frame.png'):
        CalibrationMetric().process({}, samples)
