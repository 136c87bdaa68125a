"""The sums and scores against torchmetrics, numpy and hand values."""

import ast
import doctest
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

from balkd_seg.metrics import calibration
from balkd_seg.metrics.calibration import (
    BINNINGS,
    FINE_CELLS,
    calibration_bins,
    calibration_scores,
    calibration_sums,
)


def sums_of(logits, target, **settings):
    return calibration_sums(logits, logits.argmax(0), target, **settings)


def scores_of(logits, target, num_bins=15, binning='equal-width'):
    sums = sums_of(logits, target, num_bins=num_bins, binning=binning)
    return calibration_scores(sums, calibration_bins(sums, num_bins, binning))


def image(num_classes=5, height=40, width=60, scale=2.0, dtype=torch.float64, seed=0):
    """Return logits and labels that agree more often than chance, a tenth ignored."""
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(num_classes, height, width, generator=generator)
    noise = 2 * torch.randn(num_classes, height, width, generator=generator)
    target = (logits + noise).argmax(0)
    target[torch.rand(height, width, generator=generator) < 0.1] = 255
    return logits.to(dtype), target


def reference(logits, target, num_bins):
    """Return the scores by torchmetrics in float64, and by PyTorch where it has none."""
    valid = target != 255
    # torchmetrics puts p = 1 into a bin of its own
    p, y = logits.double().softmax(0)[:, valid].clamp(max=1 - 1e-15), target[valid]
    one_hot = F.one_hot(y, len(p)).T.contiguous()
    confidence, predicted = p.max(0)
    # the binary form: the multiclass one casts to float32
    ece, mce = (binary_calibration_error(confidence, predicted == y, num_bins, norm)
                for norm in ('l1', 'max'))  # fmt: skip
    by_class = [binary_calibration_error(p[c], one_hot[c], num_bins) for c in range(len(p))]
    return {
        'ECE': 100 * float(ece),
        'MCE': 100 * float(mce),
        'cECE': 100 * float(torch.stack(by_class).mean()),
        'NLL': float(F.cross_entropy(logits.double()[None], target[None], ignore_index=255)),
        'Brier': float(((p - one_hot) ** 2).sum(0).mean()),
    }


@pytest.mark.parametrize('num_bins', [1, 10, 15])
@pytest.mark.parametrize('num_classes', [2, 5, 19])
@pytest.mark.parametrize('scale', [0.3, 2.0, 8.0])
def test_equals_torchmetrics(num_classes, num_bins, scale):
    logits, target = image(num_classes, scale=scale)
    expected = reference(logits, target, num_bins)
    assert scores_of(logits, target, num_bins) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize('num_classes', [2, 5, 19])
def test_equals_the_multiclass_error_of_torchmetrics(num_classes):
    logits, target = image(num_classes)
    got, arguments = scores_of(logits, target), (logits.softmax(0)[None], target[None], num_classes)
    for name, norm in (('ECE', 'l1'), ('MCE', 'max')):
        expected = multiclass_calibration_error(*arguments, 15, norm, ignore_index=255)
        assert got[name] == pytest.approx(100 * float(expected), rel=1e-4)  # adds up in float32


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
def test_lower_precision_is_that_of_the_logits_alone(dtype):
    logits, target = image(dtype=dtype)
    expected = reference(logits, target, 15)
    assert scores_of(logits, target) == pytest.approx(expected, rel=1e-5)


def equal_mass_by_sorting(confidence, hit, num_bins):
    order = np.argsort(confidence, kind='stable')
    parts = zip(
        np.array_split(confidence[order], num_bins), np.array_split(hit[order], num_bins),
        strict=True,
    )  # fmt: skip
    return [abs(c.sum() - h.sum()) for c, h in parts]


def test_equal_mass_is_close_to_sorting_every_pixel():
    logits, target = image(num_classes=4, height=300, width=300, scale=1.0)
    got = scores_of(logits, target, 10, 'equal-mass')
    valid = (target != 255).numpy()
    p, y = logits.softmax(0).numpy()[:, valid], target.numpy()[valid]
    gaps = equal_mass_by_sorting(p.max(0), p.argmax(0) == y, 10)
    assert got['ECE'] == pytest.approx(100 * sum(gaps) / len(y), abs=0.05)
    assert got['MCE'] == pytest.approx(1000 * max(gaps) / len(y), abs=0.2)
    by_class = [sum(equal_mass_by_sorting(p[c], y == c, 10)) for c in range(4)]
    assert got['cECE'] == pytest.approx(100 * np.mean(by_class) / len(y), abs=0.05)
    # bins of equal width see something else, so the above can fail
    assert abs(scores_of(logits, target, 10)['MCE'] - got['MCE']) > 1


def test_equal_mass_bins_hold_equally_many_pixels_in_every_row():
    sums = sums_of(*image(num_classes=4, height=300, width=300, scale=1.0), binning='equal-mass')
    pixels = calibration_bins(sums, 10, 'equal-mass')[0]
    assert torch.equal(pixels.sum(1), sums.totals[:1].expand(5))
    # half of the largest cell at either edge
    slack = sums.cells[0].amax(1, keepdim=True)
    assert ((pixels - sums.totals[0] / 10).abs() <= slack).all()
    assert (slack < 0.02 * sums.totals[0]).all()


def test_equal_mass_bins_do_not_split_pixels_of_one_probability():
    logits = torch.zeros(3, 8, 8)
    logits[0, :4] = 30.0
    sums = sums_of(logits, torch.zeros(8, 8, dtype=torch.long), binning='equal-mass')
    pixels, probability, hits = calibration_bins(sums, 4, 'equal-mass')[:, 0]
    assert pixels.tolist() == [0, 32, 0, 32]
    assert hits.tolist() == [0, 32, 0, 32]
    assert probability.tolist() == pytest.approx([0, 32 / 3, 0, 32])


@pytest.mark.parametrize('binning', BINNINGS)
def test_by_hand(binning):
    """Three pixels of confidence 3/4: two hits, one miss; one that does not count."""
    three = math.log(3)
    logits = torch.tensor([[[three, three, 0.0, 9.0]], [[0.0, 0.0, three, 0.0]]])
    got = scores_of(logits, torch.tensor([[0, 1, 1, 255]]), 10, binning)
    assert got == pytest.approx(
        {
            'ECE': 100 * (3 / 4 - 2 / 3),
            'MCE': 100 * (3 / 4 - 2 / 3),
            # class 0: pixels of p = 3/4, 3/4, 1/4 with hits 1, 0, 0; class 1 mirrors it
            'cECE': 100 * ((6 / 4 - 1) + 1 / 4) / 3,
            'NLL': (2 * math.log(4 / 3) + math.log(4)) / 3,
            'Brier': (2 * 2 / 16 + 2 * 9 / 16) / 3,
        },
        rel=1e-6,
    )


@pytest.mark.parametrize('binning', BINNINGS)
def test_sums_of_parts_are_the_sum_of_the_whole(binning):
    """The whole takes three chunks, the parts other ones."""
    logits, target = image(height=500, width=300, dtype=torch.float32)
    whole = sums_of(logits, target, binning=binning)
    parts = [slice(0, 1), slice(1, 300), slice(300, 500)]
    first, *rest = (sums_of(logits[:, rows], target[rows], binning=binning) for rows in parts)
    added = sum(rest, first)
    assert torch.equal(added.cells[0], whole.cells[0])
    assert torch.equal(added.cells[2], whole.cells[2])
    torch.testing.assert_close(added.cells[1], whole.cells[1], rtol=1e-6, atol=1e-4)
    torch.testing.assert_close(added.totals, whole.totals, rtol=1e-6, atol=0)
    assert added.cells.dtype == added.totals.dtype == torch.float64


def test_rows_hold_every_valid_pixel_once():
    logits, target = image(num_classes=7)
    sums = sums_of(logits, target)
    valid = target != 255
    assert torch.equal(sums.cells[0].sum(1), valid.sum().double().expand(8))
    counts = torch.bincount(target[valid], minlength=7).double()
    assert torch.equal(sums.cells[2, 1:].sum(1), counts)
    correct = (logits.argmax(0) == target)[valid].sum()
    assert sums.cells[2, 0].sum() == correct
    mass = logits.softmax(0)[:, valid].sum(1)
    torch.testing.assert_close(sums.cells[1, 1:].sum(1), mass)


@pytest.mark.parametrize('binning', BINNINGS)
def test_ignored_pixels_change_nothing(binning):
    logits, target = image(dtype=torch.float32)
    rows = slice(0, 25)
    expected = sums_of(logits[:, rows], target[rows], binning=binning)
    target[25:] = 255
    logits[0, 25:] = -torch.inf
    got = sums_of(logits, target, binning=binning)
    torch.testing.assert_close(got.totals, expected.totals, rtol=1e-6, atol=0)
    torch.testing.assert_close(got.cells, expected.cells, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize('binning', BINNINGS)
def test_without_valid_pixel_the_scores_are_nan(binning):
    logits, target = image()
    got = scores_of(logits, torch.full_like(target, 255), binning=binning)
    assert all(math.isnan(score) for score in got.values())


def test_another_ignore_index():
    logits, target = image()
    expected = sums_of(logits, target)
    target[target == 255] = -1
    got = sums_of(logits, target, ignore_index=-1)
    assert torch.equal(got.cells, expected.cells)
    assert torch.equal(got.totals, expected.totals)


def test_a_constant_added_to_all_logits_changes_nothing():
    logits, target = image()
    expected = scores_of(logits, target)
    assert scores_of(logits + 100, target) == pytest.approx(expected, rel=1e-6)


def test_huge_logits_and_ruled_out_classes():
    logits, target = torch.zeros(3, 1, 4), torch.tensor([[0, 0, 1, 0]])
    logits[0], logits[1] = 1e4, -1e4
    got = scores_of(logits, target)
    assert got['ECE'] == got['MCE'] == 25
    assert got['NLL'] == pytest.approx(2e4 / 4)
    assert got['Brier'] == 2 / 4
    logits[1] = -torch.inf
    assert scores_of(logits, target)['NLL'] == math.inf
    assert scores_of(logits, target)['ECE'] == 25
    target[:] = 0
    assert set(scores_of(logits, target).values()) == {0.0}


def test_of_equal_classes_the_first_is_predicted():
    target = torch.tensor([[0, 1, 2, 3]])
    got = scores_of(torch.zeros(4, 1, 4), target)
    assert got['ECE'] == got['cECE'] == 0  # confidence 1/4, a quarter right
    assert scores_of(torch.zeros(4, 1, 4), torch.zeros_like(target))['ECE'] == 75


@pytest.mark.parametrize('binning', BINNINGS)
def test_labels_drawn_from_the_probabilities_are_calibrated(binning):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(4, 300, 300, generator=generator)
    p = logits.softmax(0).flatten(1).T
    target = p.multinomial(1, generator=generator).view(300, 300)
    assert scores_of(logits, target, binning=binning)['ECE'] < 1
    assert scores_of(logits, target, binning=binning)['cECE'] < 1
    assert scores_of(3 * logits, target, binning=binning)['ECE'] > 10


def test_strides_do_not_matter():
    logits, target = image()
    expected = sums_of(logits, target)
    got = sums_of(logits.permute(1, 2, 0).contiguous().permute(2, 0, 1), target.T.contiguous().T)
    assert torch.equal(got.cells, expected.cells)


def test_inputs_stay_as_they_are():
    logits, target = image()
    before = logits.clone(), target.clone()
    sums_of(logits.requires_grad_(), target)
    assert torch.equal(logits, before[0])
    assert torch.equal(target, before[1])


def test_memory_depends_on_classes_and_cells_alone():
    for size in (8, 200):
        logits, target = image(num_classes=3, height=size, width=size)
        assert sums_of(logits, target, num_bins=7).cells.shape == (3, 4, 7)
        assert sums_of(logits, target, binning='equal-mass').cells.shape == (3, 4, FINE_CELLS)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(num_bins=0), 'integer above 0, but got 0'),
        (dict(num_bins=1.5), 'integer above 0, but got 1.5'),
        (dict(binning='equal'), "one of .'equal-width', 'equal-mass'., but got 'equal'"),
        (dict(logits=torch.zeros(1, 2, 2)), r'two classes.* got \(1, 2, 2\).*class_logits_of'),
        (dict(logits=torch.zeros(2, 2)), r'logits \(C, H, W\).* got \(2, 2\)'),
        (dict(logits=torch.zeros(3, 2, 2, dtype=torch.long)), 'floating logits.*torch.int64'),
        (dict(target=torch.zeros(1, 2)), r'the target to be.*\(2, 2\).*got \(1, 2\).*`Resize`'),
        (dict(target=torch.zeros(2, 2)), 'the target to be integers.*torch.float32'),
        (dict(prediction=torch.zeros(2, 1, dtype=torch.long)), 'the prediction to be.*2, 1'),
        (dict(target=torch.full((2, 2), 3)), 'from 0 to 2 or 255.*got 3.*reduce_zero_label'),
        (dict(target=torch.full((2, 2), -1)), 'from 0 to 2 or 255.*got -1'),
        # both are the same byte
        (dict(target=torch.full((2, 2), -1).to(torch.int8)), 'from 0 to 2 or 255.*got -1'),
        (dict(logits=torch.full((3, 2, 2), torch.nan)), 'finite logits, but got NaN'),
        (dict(logits=torch.full((3, 2, 2), torch.inf)), 'finite logits.*test in float32'),
        (dict(logits=torch.full((3, 2, 2), -torch.inf)), '-inf in every class'),
        (dict(logits=torch.eye(3)[:, :2, None].expand(3, 2, 2)), 'argmax.*test without'),
    ],
)
def test_refuses(change, message):
    arguments = dict(
        logits=torch.zeros(3, 2, 2),
        prediction=torch.zeros(2, 2, dtype=torch.long),
        target=torch.zeros(2, 2, dtype=torch.long),
    )
    with pytest.raises(ValueError, match=message):
        calibration_sums(**{**arguments, **change})


def test_the_example_of_the_docstring():
    result = doctest.testmod(calibration)
    assert (result.failed, result.attempted) == (0, 3)


def test_maths_imports_torch_only():
    with open(calibration.__file__, encoding='utf-8') as file:
        tree = ast.parse(file.read())
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names]
    assert set(names) == {'dataclasses', 'torch'}
