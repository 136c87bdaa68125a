import importlib.util
import json
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from mmseg.apis import init_model
from mmseg.registry import MODELS
from torch import nn

from balkd_seg.compat.checkpoints import LISTS_NAMES

SCRIPT = Path(__file__).parents[2] / 'tools' / 'export_student.py'
CLASSES = ('road', 'car', 'sky', 'tree', 'sign')


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module('export_student')


@pytest.fixture
def onnx_export(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)
    return importlib.import_module('onnx_export')


@pytest.fixture
def write_training(tmp_path):
    """Return a function that writes a config and a checkpoint full of what training keeps."""

    def write(model):
        torch.manual_seed(3)
        network = MODELS.build(model)
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var.uniform_(0.5, 2.0)
        history = HistoryBuffer(np.arange(3.0), np.ones(3))
        checkpoint = {
            'state_dict': network.state_dict(),
            'meta': {
                'dataset_meta': {'classes': CLASSES, 'palette': np.arange(15).reshape(5, 3)},
                'cfg': 'model = ...',
            },
            'message_hub': {'log_scalars': {'train/loss': history}},
            'optimizer': {'state': {0: torch.ones(1000)}},
        }
        torch.save(checkpoint, tmp_path / 'iter_9.pth')
        Config({'model': model}).dump(str(tmp_path / 'student.py'))
        return network.eval()

    return write


def read_untrusting(file):
    """Load a file as a PyTorch that nobody told of mmengine would."""
    if not LISTS_NAMES:  # PyTorch's own list is what there is
        return torch.load(file, weights_only=True)
    allowed = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    try:
        return torch.load(file, weights_only=True)
    finally:
        torch.serialization.add_safe_globals(allowed)


def run(tool, tmp_path, *options):
    return tool.main([str(tmp_path / 'iter_9.pth'), str(tmp_path / 'out.pth'), *options])


def export_onnx(tool, tmp_path, size='160x96', config='student.py', batch=None):
    options = ('--onnx', str(tmp_path / 'out.onnx'), '--config', str(tmp_path / config))
    options += ('--batch', str(batch)) if batch else ()
    return run(tool, tmp_path, '--force', *options, '--size', size)


def test_holds_weights_and_classes_and_nothing_else(
    tool, make_segmentor, write_training, tmp_path, capsys
):
    network = write_training(make_segmentor())
    with pytest.raises(Exception, match='weights_only'):
        read_untrusting(tmp_path / 'iter_9.pth')
    assert run(tool, tmp_path) == 0
    got = read_untrusting(tmp_path / 'out.pth')
    palette = [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11], [12, 13, 14]]
    assert got.keys() == {'state_dict', 'meta'}
    assert got['meta'] == {'dataset_meta': {'classes': CLASSES, 'palette': palette}}
    expected = network.state_dict()
    assert list(got['state_dict']) == list(expected)
    assert all(torch.equal(got['state_dict'][key], value) for key, value in expected.items())
    assert f'{len(expected)} tensors' in capsys.readouterr().out


def test_mmengine_and_mmseg_load_it(tool, make_segmentor, write_training, tmp_path):
    network = write_training(make_segmentor())
    run(tool, tmp_path)
    other = MODELS.build(make_segmentor())
    load_checkpoint(other, str(tmp_path / 'out.pth'), strict=True)
    model = init_model(str(tmp_path / 'student.py'), str(tmp_path / 'out.pth'), device='cpu')
    assert model.dataset_meta['classes'] == CLASSES
    images = torch.randn(1, 3, 32, 48)
    assert torch.equal(model(images), network(images))
    assert torch.equal(other.eval()(images), network(images))


def test_auxiliary_head_goes_only_on_request(
    tool, make_segmentor, write_training, tmp_path, capsys
):
    write_training(make_segmentor())
    assert run(tool, tmp_path, '--drop-auxiliary') == 0
    assert 'model.auxiliary_head=None' in capsys.readouterr().out
    other = MODELS.build(make_segmentor(auxiliary=False))
    load_checkpoint(other, str(tmp_path / 'out.pth'), strict=True)


def test_weights_of_a_wrapped_bare_state_dict_lose_the_prefix_and_their_storage(tool):
    storage = torch.randn(100)
    got = tool.clean({'module.w': storage[:2]})
    assert got['meta'] == {}
    assert torch.equal(got['state_dict']['w'], storage[:2])
    assert got['state_dict']['w'].untyped_storage().nbytes() == 8


def test_refuses_to_replace_a_file(tool, make_segmentor, write_training, tmp_path, capsys):
    write_training(make_segmentor())
    (tmp_path / 'out.pth').write_text('precious')
    assert run(tool, tmp_path) == 1
    assert '--force' in capsys.readouterr().err
    assert (tmp_path / 'out.pth').read_text() == 'precious'
    assert run(tool, tmp_path, '--force') == 0


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (None, 'there is none'),
        (b'PK\x03\x04 cut off', 'truncated'),
        ({'state_dict': {'w': 1}}, 'other things: w'),
        ({'state_dict': {}}, 'no tensor'),
        ([1, 2], 'to be a dict'),
    ],
)
def test_bad_checkpoint_is_one_clear_line(tool, tmp_path, capsys, content, message):
    file = tmp_path / 'iter_9.pth'
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    assert run(tool, tmp_path) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'out.pth').exists()


@pytest.mark.parametrize(('size', 'bins'), [((3, 5), (6, 6)), ((16, 32), (3, 6)), ((7, 4), (1, 2))])
def test_fixed_pool_is_the_adaptive_pool(onnx_export, size, bins):
    x = torch.randn(2, 3, *size, dtype=torch.float64)
    pool = onnx_export.FixedAveragePool(size, bins).double()
    weights = pool.rows.sum(1)  # built in float32
    torch.testing.assert_close(pool(x), nn.AdaptiveAvgPool2d(bins)(x), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(weights, torch.ones_like(weights))


@pytest.mark.parametrize('kind', ['psp', 'psp-1236', 'cascade'])
def test_onnx_equals_pytorch_for_any_number_of_images(
    tool, make_segmentor, make_cascade, write_training, tmp_path, kind
):
    import onnx
    import onnxruntime

    model = make_cascade() if kind == 'cascade' else make_segmentor()
    if kind == 'psp-1236':  # 6x10 features: 3 and 6 divide neither 10 nor the reverse
        model['decode_head']['pool_scales'] = (1, 2, 3, 6)
    network = write_training(model)
    assert export_onnx(tool, tmp_path) == 0
    session = onnxruntime.InferenceSession(
        str(tmp_path / 'out.onnx'), providers=['CPUExecutionProvider']
    )
    images = torch.randn(3, 3, 96, 160)
    with torch.no_grad():
        expected = nn.functional.interpolate(network(images), (96, 160), mode='bilinear')
    got = torch.from_numpy(session.run(['logits'], {'images': images.numpy()})[0])
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)
    facts = {p.key: json.loads(p.value) for p in onnx.load(tmp_path / 'out.onnx').metadata_props}
    assert facts['classes'] == list(CLASSES)
    assert facts['channels'] == 'RGB'
    assert facts['mean'] == pytest.approx([123.675, 116.28, 103.53])
    assert not list(tmp_path.glob('*.part'))


def test_onnx_of_one_sigmoid_channel_says_the_threshold(
    tool, make_segmentor, write_training, tmp_path
):
    import onnx

    model = make_segmentor(num_classes=2)
    model['decode_head'].update(out_channels=1, threshold=0.4)
    model['decode_head']['loss_decode'].update(use_sigmoid=True)
    write_training(model)
    assert export_onnx(tool, tmp_path, '96x64') == 0
    facts = {p.key: json.loads(p.value) for p in onnx.load(tmp_path / 'out.onnx').metadata_props}
    assert facts['threshold'] == 0.4


def test_onnx_takes_the_distillation_config(tool, make_segmentor, write_training, tmp_path):
    write_training(make_segmentor())
    distillation = {
        'type': 'OfflineDistiller',
        'student': {'config': str(tmp_path / 'student.py')},
        'teacher': {'config': 'absent.py', 'checkpoint': 'absent.pth'},
        'distill': [],
    }
    Config({'model': distillation}).dump(str(tmp_path / 'distil.py'))
    assert export_onnx(tool, tmp_path, config='distil.py', size='96x64') == 0


@pytest.mark.parametrize('distilled', [True, False])
def test_onnx_of_a_config_with_its_data_preprocessor_at_the_top(
    tool, make_segmentor, write_training, tmp_path, distilled
):
    import onnx

    model = make_segmentor()
    write_training(model)
    top = model.pop('data_preprocessor')
    if distilled:
        model = dict(type='OfflineDistiller', student=model, teacher={}, distill=[])
    Config({'data_preprocessor': top, 'model': model}).dump(str(tmp_path / 'top.py'))
    assert export_onnx(tool, tmp_path, config='top.py', size='96x64') == 0
    facts = {p.key: json.loads(p.value) for p in onnx.load(tmp_path / 'out.onnx').metadata_props}
    assert facts['mean'] == pytest.approx([123.675, 116.28, 103.53])
    assert facts['std'] == pytest.approx([58.395, 57.12, 57.375])


@pytest.mark.parametrize('normalised', [True, False])
def test_onnx_takes_as_many_channels_as_the_network(
    tool, make_segmentor, write_training, tmp_path, normalised
):
    import onnx

    if normalised and not any(x.name == 'mmsegmentation' for x in metadata.distributions()):
        pytest.skip("a fork's preprocessor normalises 1 or 3 channels alone")
    model = make_segmentor()
    model['backbone']['in_channels'] = 4
    for key in ('mean', 'std', 'bgr_to_rgb'):
        model['data_preprocessor'].pop(key)
    if normalised:
        model['data_preprocessor'].update(mean=[1.0, 2.0, 3.0, 4.0], std=[5.0] * 4)
    write_training(model)
    assert export_onnx(tool, tmp_path, size='96x64') == 0
    written = onnx.load(tmp_path / 'out.onnx')
    shape = written.graph.input[0].type.tensor_type.shape
    assert shape.dim[1].dim_value == 4
    facts = {p.key: json.loads(p.value) for p in written.metadata_props}
    assert facts['mean'] == ([1.0, 2.0, 3.0, 4.0] if normalised else [0.0] * 4)
    assert facts['std'] == ([5.0] * 4 if normalised else [1.0] * 4)
    assert facts['channels'] == '4, in the order of the files'


def test_onnx_that_computes_something_else_is_not_kept(
    tool, onnx_export, make_segmentor, write_training, tmp_path, capsys, monkeypatch
):
    write_training(make_segmentor())
    monkeypatch.setattr(
        onnx_export.FixedAveragePool,
        'averages',
        staticmethod(lambda length, bins: torch.ones(bins, length)),
    )
    assert export_onnx(tool, tmp_path) == 1
    assert 'differ by' in capsys.readouterr().err
    assert not (tmp_path / 'out.onnx').exists()
    assert not list(tmp_path.glob('*.part'))
    assert (tmp_path / 'out.pth').exists()


def test_network_that_onnx_does_not_know_is_named(
    tool, onnx_export, make_segmentor, write_training, tmp_path, capsys, monkeypatch
):
    model = make_segmentor()
    model['decode_head']['pool_scales'] = (3,)
    write_training(model)
    monkeypatch.setattr(onnx_export, 'fix_pools', lambda network, inputs: None)
    assert export_onnx(tool, tmp_path) == 1
    assert 'PSPHead on ResNetV1c' in capsys.readouterr().err


def on_another_backbone(make_segmentor, backbone, head):
    """Return a config whose windows are counted into a trace, or whose head draws at random."""
    model = make_segmentor(auxiliary=False)
    shared = {key: model['decode_head'][key] for key in ('num_classes', 'norm_cfg', 'loss_decode')}
    return dict(model, backbone=backbone, decode_head=dict(shared, **head))


def swin(make_segmentor):
    backbone = dict(
        type='SwinTransformer', embed_dims=8, depths=(2, 2), num_heads=(1, 2), strides=(4, 2),
        out_indices=(0, 1), patch_norm=True,
    )  # fmt: skip
    head = dict(type='FCNHead', in_channels=16, channels=8, in_index=1, concat_input=False)
    return on_another_backbone(make_segmentor, backbone, dict(head, num_convs=1))


def segnext(make_segmentor, rand_init):
    widths = dict(embed_dims=[8, 8, 8, 16], mlp_ratios=[2, 2, 2, 2], depths=[1, 1, 1, 1])
    backbone = dict(type='MSCAN', norm_cfg=dict(type='BN'), **widths)
    head = dict(type='LightHamHead', in_channels=[8, 8, 16], in_index=[1, 2, 3], channels=16)
    ham = dict(MD_S=1, MD_R=4, train_steps=2, eval_steps=3, inv_t=100, rand_init=rand_init)
    head.update(ham_channels=16, ham_kwargs=ham, norm_cfg=dict(type='GN', num_groups=4))
    model = on_another_backbone(make_segmentor, backbone, {})
    model['decode_head'].update(head)
    return model


def test_a_batch_that_the_trace_counts_is_offered(
    tool, make_segmentor, write_training, tmp_path, capsys
):
    import onnxruntime

    network = write_training(swin(make_segmentor))
    assert export_onnx(tool, tmp_path, '96x64') == 1
    message = capsys.readouterr().err
    assert 'FCNHead on SwinTransformer to hold for any number of images' in message
    assert 'Add --batch 1' in message
    assert not (tmp_path / 'out.onnx').exists()
    assert export_onnx(tool, tmp_path, '96x64', batch=2) == 0
    assert 'for 2 image(s) a run' in capsys.readouterr().out
    session = onnxruntime.InferenceSession(
        str(tmp_path / 'out.onnx'), providers=['CPUExecutionProvider']
    )
    assert session.get_inputs()[0].shape == [2, 3, 64, 96]
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = nn.functional.interpolate(network(images), (64, 96), mode='bilinear')
    got = torch.from_numpy(session.run(['logits'], {'images': images.numpy()})[0])
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_a_network_that_is_random_is_called_so(
    tool, make_segmentor, write_training, tmp_path, capsys
):
    write_training(segnext(make_segmentor, rand_init=True))
    assert export_onnx(tool, tmp_path, '96x64') == 1
    message = capsys.readouterr().err
    assert 'LightHamHead on MSCAN' in message
    assert 'it is random: two runs of PyTorch differ by 0.' in message
    assert 'NMF2D draws new bases for every run; ham_kwargs=dict(rand_init=False)' in message
    assert not (tmp_path / 'out.onnx').exists()
    Config({'model': segnext(make_segmentor, rand_init=False)}).dump(str(tmp_path / 'once.py'))
    assert export_onnx(tool, tmp_path, '96x64', 'once.py') == 0


def test_a_file_that_cannot_run_two_images_differs(onnx_export, tmp_path):
    class OneImage(nn.Module):
        def forward(self, images):
            return images.reshape(1, 3, 4, 4)

    images, file = torch.randn(2, 3, 4, 4), tmp_path / 'one.onnx'
    onnx_export.write_onnx(OneImage(), images[:1], file, {})
    assert onnx_export.compare(file, images[:1], images[:1]) == 0
    assert onnx_export.compare(file, images, images) == float('inf')


def test_a_batch_is_a_number(tool, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tool, tmp_path, '--batch', '0')
    assert "expected a number of images above 0, but got '0'" in capsys.readouterr().err


def test_onnx_with_another_config_is_refused(
    tool, make_segmentor, write_training, tmp_path, capsys
):
    write_training(make_segmentor())
    Config({'model': make_segmentor(depth=34)}).dump(str(tmp_path / 'other.py'))
    assert export_onnx(tool, tmp_path, config='other.py') == 1
    assert 'another architecture' in capsys.readouterr().err


def test_onnx_needs_config_and_size(tool, tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tool, tmp_path, '--onnx', 'out.onnx')
    assert '--config CONFIG and --size' in capsys.readouterr().err


def test_a_peer_is_exported_like_the_student(tool, make_segmentor, tmp_path, capsys):
    model = dict(
        type='MutualDistiller',
        student=make_segmentor(),
        peers=dict(teacher=make_segmentor(depth=34)),
        distill=[dict(type='PixelwiseKLLoss')],
    )
    network = MODELS.build(model)
    checkpoint = {
        'state_dict': network.state_dict(),
        'peers': network.peers.beside_state_dict(),
        'meta': {'dataset_meta': {'classes': CLASSES}},
    }
    torch.save(checkpoint, tmp_path / 'iter_9.pth')
    model['peers']['teacher']['checkpoint'] = 'not read'
    Config({'model': model}).dump(str(tmp_path / 'mutual.py'))
    assert run(tool, tmp_path, '--network', 'teacher') == 0
    got = read_untrusting(tmp_path / 'out.pth')
    expected = network.peers['teacher'].state_dict()
    assert list(got['state_dict']) == list(expected)
    assert all(torch.equal(got['state_dict'][key], value) for key, value in expected.items())
    assert got['meta'] == {'dataset_meta': {'classes': CLASSES}}
    for name in ('student', 'teacher'):
        cfg = Config.fromfile(tmp_path / 'mutual.py')
        built = tool.build_network(cfg, *weights_of(network, name), name)
        own = network.networks()[name].state_dict()
        assert all(torch.equal(value, own[key]) for key, value in built.state_dict().items())
    (tmp_path / 'out.pth').unlink()
    capsys.readouterr()
    assert run(tool, tmp_path, '--network', 'tutor') == 1
    assert "one of ['student', 'teacher'], but got --network tutor" in capsys.readouterr().err


def weights_of(network, name):
    return {'state_dict': network.networks()[name].state_dict()}, 'iter_9.pth'
