"""The tool against scipy and torchmetrics on the same networks and images."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from mmengine.config import Config, ConfigDict
from mmengine.structures import PixelData
from mmseg.apis import inference_model, init_model
from mmseg.datasets import CityscapesDataset
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample
from scipy.optimize import minimize_scalar
from torchmetrics.functional.classification import (
    multiclass_calibration_error,
    multiclass_jaccard_index,
)

TOOLS = Path(__file__).parents[2] / 'tools'
LABELS = '_gtFine_labelTrainIds.png'


@pytest.fixture(scope='module')
def tool(load):
    return load('calibrate')


@pytest.fixture(scope='module')
def scenes(load, tmp_path_factory):
    """Draw five scenes to validate on and three to test on."""
    folder = tmp_path_factory.mktemp('scenes')
    options = ['--out', str(folder), '--train=0', '--val=5', '--test=3', '--size=96x64']
    assert load('make_street_scenes').main([*options, '--workers=1']) == 0
    return folder


def loader(scenes, split):
    folders = dict(img_path=f'leftImg8bit/{split}', seg_map_path=f'gtFine/{split}')
    steps = ('LoadImageFromFile', 'LoadAnnotations', 'PackSegInputs')
    return dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(
            type='CityscapesDataset',
            data_root=str(scenes),
            data_prefix=folders,
            pipeline=[dict(type=step) for step in steps],
        ),
    )


@pytest.fixture
def make_network(make_segmentor, scenes, tmp_path):
    """Return a function that writes a config and random weights, and names both files."""

    def make(name, seed=0, test='test'):
        model = make_segmentor(num_classes=19, auxiliary=False)
        cfg = Config(
            dict(
                model=model,
                val_dataloader=loader(scenes, 'val'),
                test_dataloader=loader(scenes, test),
                test_pipeline=[dict(type='LoadImageFromFile'), dict(type='PackSegInputs')],
                work_dir=str(tmp_path / 'work'),
            )
        )
        cfg.dump(tmp_path / f'{name}.py')
        torch.manual_seed(seed)
        network = MODELS.build(ConfigDict(model))
        torch.nn.init.normal_(network.decode_head.conv_seg.weight, std=0.15)
        network.decode_head.conv_seg.bias.data[2] += 0.6
        meta = dict(dataset_meta=CityscapesDataset.METAINFO)
        torch.save(dict(state_dict=network.state_dict(), meta=meta), tmp_path / f'{name}.pth')
        return str(tmp_path / f'{name}.py'), str(tmp_path / f'{name}.pth')

    return make


def predict(config, checkpoint, scenes, split):
    """Return logits (N, C, H, W) and labels (N, H, W), by mmseg's own functions."""
    images = sorted((scenes / 'leftImg8bit' / split).rglob('*.png'))
    network = init_model(config, checkpoint, device='cpu')
    logits = [inference_model(network, str(image)).seg_logits.data for image in images]
    labels = sorted((scenes / 'gtFine' / split).rglob(f'*{LABELS}'))
    labels = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in labels]
    return torch.stack(logits).double(), torch.from_numpy(np.stack(labels)).long()


def nll(logits, target, temperature=1.0):
    return float(F.cross_entropy(logits / temperature, target, ignore_index=255))


def fitted(logits, target):
    found = minimize_scalar(
        lambda log_t: nll(logits, target, 2.0**log_t), bounds=(-3, 3), method='bounded',
        options=dict(xatol=1e-8),
    )  # fmt: skip
    return 2.0**found.x


def check(one, fit_on, scored):
    """Compare an entry of calibration.json with what the logits say."""
    assert 0.2 < one['temperature'] < 7
    assert one['temperature'] == pytest.approx(fitted(*fit_on), rel=1e-4)
    logits, target = scored
    for name, temperature in (('before', 1.0), ('after', one['temperature'])):
        arguments = ((logits / temperature).softmax(1), target, 19, 15, 'l1')
        ece = 100 * float(multiclass_calibration_error(*arguments, ignore_index=255))
        assert one[name]['ECE'] == pytest.approx(ece, rel=1e-3)
        assert one[name]['NLL'] == pytest.approx(nll(logits, target, temperature), rel=1e-5)
    iou = multiclass_jaccard_index(logits, target, 19, average='none', ignore_index=255)
    seen = [
        c for c in range(19) if (target == c).any() or (logits.argmax(1) == c)[target != 255].any()
    ]
    assert one['mIoU'] == pytest.approx(100 * float(iou[seen].mean()), rel=1e-5)


def test_fits_on_the_first_half_and_scores_the_second(tool, make_network, scenes, tmp_path, capsys):
    networks = [make_network('one', 0), make_network('two', 1)]
    assert tool.main([*networks[0], *networks[1]]) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    report = json.loads((tmp_path / 'work' / 'calibration.json').read_text())
    for one, files in zip(report['networks'], networks, strict=True):
        assert (one['config'], one['checkpoint']) == files
        logits, target = predict(*files, scenes, 'val')
        check(one, (logits[:2], target[:2]), (logits[2:], target[2:]))
        # another split would be noticed
        assert one['temperature'] != pytest.approx(fitted(logits, target), rel=1e-3)
        line = next(x for x in out.splitlines() if x.startswith(one['name']) and ':' not in x)
        numbers = [one['mIoU'], one['temperature'], one['before']['ECE'], one['after']['ECE']]
        numbers += [one['before']['NLL'], one['after']['NLL']]
        assert [float(x) for x in line.split()[1:]] == pytest.approx(numbers, abs=0.006)
    assert [one['name'] for one in report['networks']] == ['one', 'two']
    assert 'the first half of the val set (2 images)' in out
    assert 'its second half (3 images), on which nothing was fitted' in out
    assert cv2.imread(str(tmp_path / 'work' / 'calibration.png')).std() > 20


def test_fits_on_the_val_set_and_scores_the_test_set(tool, make_network, scenes, tmp_path, capsys):
    files = make_network('one')
    options = ['--fit-on', 'val', '--work-dir', str(tmp_path / 'other'), '--names', 'mine']
    assert tool.main([*files, *options]) == 0, capsys.readouterr().err
    report = json.loads((tmp_path / 'other' / 'calibration.json').read_text())
    (one,) = report['networks']
    check(one, predict(*files, scenes, 'val'), predict(*files, scenes, 'test'))
    assert one['name'] == 'mine'


def test_takes_the_student_of_a_distillation_config(tool, make_network, tmp_path, capsys):
    config, checkpoint = make_network('one')
    cfg = Config.fromfile(config)
    cfg.model = dict(
        type='OfflineDistiller', student=cfg.model, distill=[],
        teacher=dict(config='absent.py', checkpoint='absent.pth'),
    )  # fmt: skip
    cfg.dump(tmp_path / 'distil.py')
    files = [config, checkpoint, str(tmp_path / 'distil.py'), checkpoint]
    assert tool.main(files) == 0, capsys.readouterr().err
    one, two = json.loads((tmp_path / 'work' / 'calibration.json').read_text())['networks']
    assert two.pop('name') == 'distil'
    assert two.pop('config') == files[2]
    assert two.items() <= one.items()


def test_one_sigmoid_channel_is_two_classes(tool, load, make_segmentor, make_batch, monkeypatch):
    """Also in what `methods_measure.py` adds up."""
    model = ConfigDict(make_segmentor(num_classes=2, auxiliary=False))
    model.decode_head.update(out_channels=1, threshold=0.3)
    model.decode_head.loss_decode.use_sigmoid = True
    torch.manual_seed(0)
    network = MODELS.build(model).eval()
    torch.nn.init.normal_(network.decode_head.conv_seg.weight, std=0.3)
    inputs, samples = make_batch(size=4, num_classes=2)
    with torch.no_grad():
        z = network.encode_decode(inputs, [sample.metainfo for sample in samples])
        predictions = network.postprocess_result(z, samples)
    target = torch.stack([sample.gt_sem_seg.data[0] for sample in samples])
    logits = torch.cat((torch.zeros_like(z), z), 1).double()
    monkeypatch.setattr(tool, 'predict', lambda *_: iter(predictions))
    temperature = tool.fit(network, None, None)
    assert temperature == pytest.approx(fitted(logits, target), rel=1e-3)
    one = tool.score(network, None, None, temperature)
    assert one['before']['NLL'] == pytest.approx(nll(logits, target), rel=1e-4)
    assert one['after']['NLL'] == pytest.approx(nll(logits, target, temperature), rel=1e-4)
    above = (z[:, 0].sigmoid() > 0.3).long()
    iou = multiclass_jaccard_index(above, target, 2, average='none', ignore_index=255)
    assert one['mIoU'] == pytest.approx(100 * float(iou.mean()), rel=1e-4)
    scores = load('methods_measure').Scores(255)
    for sample in predictions:
        scores.add(sample, sample)
    result = scores.result(agreement=True)
    assert (result['mIoU'], result['NLL']) == pytest.approx((one['mIoU'], one['before']['NLL']))
    assert result['agreement'] == 100


def test_takes_a_config_with_its_data_preprocessor_at_the_top(tool, make_network, tmp_path, capsys):
    config, checkpoint = make_network('inside')
    cfg = Config.fromfile(config)
    cfg.data_preprocessor = cfg.model.pop('data_preprocessor')
    cfg.dump(tmp_path / 'top.py')
    assert tool.main([config, checkpoint, str(tmp_path / 'top.py'), checkpoint]) == 0
    report = json.loads((tmp_path / 'work' / 'calibration.json').read_text())
    inside, top = ({k: v for k, v in one.items() if k not in ('name', 'config')}
                   for one in report['networks'])  # fmt: skip
    assert inside == top


class Constant(torch.nn.Module):
    """A network of logits (0, 3) everywhere, whose head leaves out a label."""

    def __init__(self, ignore_index):
        super().__init__()
        self.decode_head = torch.nn.Identity()
        self.decode_head.ignore_index = ignore_index

    def test_step(self, batch):
        for sample in batch['data_samples']:
            logits = torch.tensor([0.0, 3.0])[:, None, None].expand(2, 4, 6)
            sample.seg_logits = PixelData(data=logits)
            sample.pred_sem_seg = PixelData(data=logits.argmax(0, keepdim=True))
        return batch['data_samples']


class Halves(torch.utils.data.Dataset):
    """One image, half of whose labels are 0, half 1."""

    def __len__(self):
        return 1

    def __getitem__(self, index):
        labels = torch.arange(24).reshape(1, 4, 6) % 2
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels))
        return dict(inputs=torch.zeros(3, 4, 6), data_samples=sample)


@pytest.mark.parametrize(
    ('ignore_index', 'ece', 'nll', 'miou'), [(0, 4.74, 0.0486, 100.0), (255, 45.26, 1.5486, 25.0)]
)
def test_counts_the_pixels_that_the_network_counts(tool, load, ignore_index, ece, nll, miou):
    network, cfg = Constant(ignore_index), Config(dict(val_dataloader={}))
    scores = tool.score(network, Halves(), cfg, 1.0)
    measured = load('methods_measure').score(network, network, Halves(), 0)
    for found in (scores['before'], measured):
        assert found['ECE'] == pytest.approx(ece, abs=0.005)
        assert found['NLL'] == pytest.approx(nll, abs=5e-5)
    assert scores['mIoU'] == measured['mIoU'] == pytest.approx(miou)
    # only labels of the class that is predicted are left: the surest is the best
    surest = 1 / tool.INVERSE_TEMPERATURES[-1]
    assert (tool.fit(network, Halves(), cfg) == surest) == (ignore_index == 0)


def test_a_temperature_at_the_end_of_the_range_is_said(tool, make_network, capsys):
    config, checkpoint = make_network('one')
    weights = torch.load(checkpoint, weights_only=True)
    weights['state_dict']['decode_head.conv_seg.weight'] *= 1e3
    torch.save(weights, checkpoint)
    assert tool.main([config, checkpoint]) == 0
    assert 'one: the temperature is at the end of its range' in capsys.readouterr().out


def test_two_checkpoints_of_one_config_are_called_by_their_files(tool):
    args = tool.parse_args(['a/c.py', 'x/1.pth', 'a/c.py', 'x/2.pth'])
    assert [network[0] for network in args.networks] == ['x/1.pth', 'x/2.pth']
    args = tool.parse_args(['a/c.py', 'x/1.pth', 'a/d.py', 'x/1.pth'])
    assert [network[0] for network in args.networks] == ['c', 'd']


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['c.py', 'w.pth', 'd.py'], 'in pairs, but d.py stands alone'),
        (['c.py', 'w.pth', '--launcher', 'pytorch'], 'this tool is one process'),
        (['c.py', 'w.pth', '--names', 'a', 'b'], 'expected 1 --names, but got 2'),
    ],
)
def test_refuses_arguments(tool, capsys, arguments, message):
    with pytest.raises(SystemExit):
        tool.main(arguments)
    assert message in capsys.readouterr().err


def test_refuses_to_score_what_was_fitted_on(tool, make_network, capsys):
    files = make_network('one', test='val')
    assert tool.main([*files, '--fit-on', 'val']) == 1
    assert '5 are in both' in capsys.readouterr().err


def test_refuses_a_single_image(tool, make_network, capsys):
    config = Config.fromfile(make_network('one')[0])
    config.val_dataloader.dataset.indices = 1
    with pytest.raises(ValueError, match='at least two images in the val set, but got 1'):
        tool.split_images(config, 'val-half')


def test_refuses_to_compare_different_images(tool, make_network, capsys):
    one, two = make_network('one'), make_network('two')
    cfg = Config.fromfile(two[0])
    cfg.val_dataloader.dataset.indices = 4
    cfg.dump(two[0])
    assert tool.main([*one, *two]) == 1
    assert 'Compare networks of one data set' in capsys.readouterr().err


def test_a_wrong_checkpoint_shows_before_anything_runs(tool, make_network, capsys, tmp_path):
    files = make_network('one')
    assert tool.main([*files, files[0], str(tmp_path / 'absent.pth')]) == 1
    printed = capsys.readouterr()
    assert 'no such file' in printed.err
    assert 'fitting' not in printed.out


def test_diagram_shows_bins_that_hold_pixels(load):
    bins = dict(pixels=[0.0, 4.0], probability=[0.0, 3.0], hits=[0.0, 1.0])
    one = dict(name='a', mIoU=1.0, temperature=2.0)
    one.update(before=dict(ECE=50.0, bins=bins), after=dict(ECE=50.0, bins=bins))
    axes = Figure().subplots(2)
    report = load('calibrate_report')
    report.draw_reliability(axes[0], one)
    report.draw_histogram(axes[1], one)
    _, before, after = axes[0].lines
    assert before.get_xydata().tolist() == after.get_xydata().tolist() == [[75, 25]]
    (bar,) = axes[0].patches
    assert (bar.get_x(), bar.get_width(), bar.get_height()) == (50, 50, 25)
    assert axes[1].patches[0].get_data().values.tolist() == [0, 100]
    assert 'ECE 50.00 %' in axes[0].get_legend().get_texts()[0].get_text()
