"""Every config loads and builds, and its name says what is in it."""

import copy
import functools
import math
import re
import shutil
from pathlib import Path

import mmseg
import pytest
import torch
import yaml
from mmengine.config import Config
from mmseg.registry import MODELS

from balkd_seg.distillers.model_config import resolve_model_config

pytestmark = pytest.mark.usefixtures('read_each_metafile_once')
ROOT = Path(__file__).resolve().parents[1]
METAFILES = sorted((ROOT / 'configs').glob('[!_]*/metafile.yaml'))
CONFIGS = {path.stem: path for path in sorted((ROOT / 'configs').glob('[!_]*/*.py'))}
DISTILLED = [name for name in CONFIGS if not name.startswith('baseline_')]
MUTUAL = [name for name in DISTILLED if '-with-' in name]
OFFLINE = [name for name in DISTILLED if name not in MUTUAL]
HEADS = {
    'PSPHead': 'pspnet',
    'ASPPHead': 'deeplabv3',
    'DepthwiseSeparableASPPHead': 'deeplabv3plus',
    'SegformerHead': 'segformer',
    'FCNHead': 'fcn',
}
MIX_TRANSFORMERS = {(32, (2, 2, 2, 2)): 'b0', (64, (3, 6, 40, 3)): 'b5'}
DATASETS = {
    ('CityscapesDataset', 'data/cityscapes/'): ('cityscapes', 19),
    ('CityscapesDataset', 'data/street_scenes/'): ('street-scenes', 19),
    ('CamVidDataset', 'data/camvid/'): ('camvid', 11),
}
# the baselines that mmseg has too, and how its names of them begin
STOCK = {
    'pspnet-r18_4xb2-80k_cityscapes-512x1024': 'pspnet/pspnet_r18-d8',
    'pspnet-mobilenet-v2_4xb2-80k_cityscapes-512x1024': 'mobilenet_v2/mobilenet-v2-d8_pspnet',
    'segformer-mit-b0_8xb1-160k_cityscapes-1024x1024': 'segformer/segformer_mit-b0',
}


@functools.cache
def recipes():
    """Return what the `distill` of each method holds, by folder, from the metafiles."""
    files = {path.parent.name: yaml.safe_load(path.read_text()) for path in METAFILES}
    collections = {name: file['Collections'][0] for name, file in files.items()}
    return {
        name: one['Metadata']['Distill'] for name, one in collections.items() if 'Metadata' in one
    }


def method_of(distill):
    """Return the folder whose recipe the entries of `distill` follow, the most specific one."""

    def holds(entry, wanted):
        if not isinstance(wanted, dict):
            return entry == wanted
        return all(key in entry and holds(entry[key], value) for key, value in wanted.items())

    def num_settings(recipe):
        if isinstance(recipe, dict):
            recipe = list(recipe.values())
        return sum(map(num_settings, recipe)) if isinstance(recipe, list) else 1

    entries = [{'learner': 'student', **entry} for entry in distill]
    fitting = {
        name: num_settings(recipe)
        for name, recipe in recipes().items()
        if len(recipe) == len(entries) and all(map(holds, entries, recipe))
    }
    assert fitting, f'no metafile has a `Distill` like {entries}'
    return max(fitting, key=fitting.get)


@functools.cache
def load_file(path):
    return Config.fromfile(path)


def load(name):
    return load_file(CONFIGS[name])


def stock_path(name):
    return Path(mmseg.__file__).parent / '.mim' / 'configs' / f'{name}.py'


def network(name, role):
    """Return the resolved model dict of the student (a baseline is its own) or the teacher."""
    model = load(name).model
    if 'distill' not in model:
        return model
    config = model.peers[role] if 'peers' in model and role != 'student' else model[role]
    return resolve_model_config(config, role)


def plain(value, *without):
    """Return nested configs as plain containers, lists as tuples, without some keys."""
    if isinstance(value, dict):
        drop = ('_scope_', *without)
        return {key: plain(item, *without) for key, item in value.items() if key not in drop}
    if isinstance(value, list | tuple):
        return tuple(plain(item, *without) for item in value)
    return value


def describe_network(model):
    """Name a network by its head, backbone and, where it is not 8, output stride."""
    backbone, head = model.backbone, HEADS[model.decode_head.type]
    if backbone.type == 'MixVisionTransformer':
        size = MIX_TRANSFORMERS[backbone.embed_dims, tuple(backbone.num_layers)]
        return f'{head}-mit-{size}'
    if backbone.type == 'MobileNetV2':
        name, stride = f'{head}-mobilenet-v2', 2 * math.prod(backbone.strides)
    else:
        assert backbone.type == 'ResNetV1c'
        name, stride = f'{head}-r{backbone.depth}', 4 * math.prod(backbone.strides)
    return name + ('' if stride == 8 else f'-d{stride}')


def started(model):
    """Return whether a network starts from weights of another training."""
    return bool(model.get('pretrained') or model.backbone.get('init_cfg'))


def describe_config(path):
    """Return what the name of a config has to be, from its contents and its launch command."""
    cfg = load_file(path)
    distilled = cfg.model.type in ('OfflineDistiller', 'MutualDistiller')
    student = resolve_model_config(cfg.model.student, 'student') if distilled else cfg.model
    method, models = 'baseline', describe_network(student)
    if distilled:
        method = method_of(cfg.model.distill)
        online = cfg.model.type == 'MutualDistiller'
        (teacher,) = cfg.model.peers.values() if online else [cfg.model.teacher]
        teacher = describe_network(resolve_model_config(teacher, 'teacher'))
        models = f'{teacher}-{"with" if online else "to"}-{models}'
    command = re.search(r'--gpus (\d+)', path.read_text())
    gpus = int(command[1]) if command else 1
    iters = cfg.train_cfg.max_iters
    schedule = f'{iters // 1000}k' if iters >= 1000 else f'{iters}'
    # networks of CPU size are always trained from scratch; others say so
    schedule += '-scratch' if iters >= 1000 and not started(student) else ''
    train = cfg.train_dataloader
    dataset = DATASETS[train.dataset.type, train.dataset.data_root][0]
    (crop,) = (step for step in train.dataset.pipeline if step.type == 'RandomCrop')
    size = 'x'.join(str(side) for side in crop.crop_size)
    return f'{method}_{models}_{gpus}xb{train.batch_size}-{schedule}_{dataset}-{size}'


@pytest.mark.parametrize('name', CONFIGS)
def test_the_name_says_what_is_in_it(name):
    path = CONFIGS[name]
    assert describe_config(path) == name
    assert path.parent.name == name.split('_')[0]
    # the file names itself in its launch command
    assert f'configs/{path.parent.name}/{path.name}' in path.read_text()


@pytest.mark.parametrize(
    ('field', 'wrong'),
    [
        (0, 'kd'),
        (1, 'pspnet-r101-to-pspnet-r18'),
        (1, 'pspnet-r34-d16-with-pspnet-r18-d32'),
        (1, 'pspnet-r34-d16-to-pspnet-r18'),
        (2, '4xb8-400'),
        (2, '1xb4-400'),
        (2, '1xb8-40k'),
        (3, 'street-scenes-128x160'),
        (3, 'camvid-160x128'),
    ],
)
def test_a_wrong_name_is_noticed(tmp_path, field, wrong):
    right = 'balkd_pspnet-r34-d16-to-pspnet-r18-d32_1xb8-400_camvid-128x160'
    fields = right.split('_')
    fields[field] = wrong
    shutil.copytree(ROOT / 'configs' / '_base_', tmp_path / '_base_')
    copy = tmp_path / fields[0] / f'{"_".join(fields)}.py'
    copy.parent.mkdir()
    shutil.copy(CONFIGS[right], copy)
    assert describe_config(copy) == right != copy.stem


@pytest.mark.parametrize('name', CONFIGS)
def test_its_parts_agree(name):
    cfg, student = load(name), network(name, 'student')
    data = cfg.train_dataloader.dataset
    _, num_classes = DATASETS[data.type, data.data_root]
    (crop,) = (step.crop_size for step in data.pipeline if step.type == 'RandomCrop')
    assert tuple(student.data_preprocessor.size) == tuple(crop)
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_iters
    assert cfg.custom_imports.imports == ['balkd_seg']
    pretrained = student.get('pretrained')
    if pretrained and student.backbone.type == 'ResNetV1c':
        assert pretrained == f'open-mmlab://resnet{student.backbone.depth}_v1c'
    for part in ('train', 'val', 'test'):
        dataset = cfg[f'{part}_dataloader'].dataset
        assert (dataset.type, dataset.data_root) == (data.type, data.data_root)
        image, labels = (step for step in dataset.pipeline if step.type.startswith('Load'))
        # mmseg's inferencer looks for its own loader by name in the test pipeline
        assert image.type == ('LoadCheckedImage' if part == 'train' else 'LoadImageFromFile')
        assert labels == dict(type='LoadCheckedAnnotations', num_classes=num_classes)


@pytest.mark.parametrize('name', CONFIGS)
def test_it_is_short_and_opens_with_its_needs(name):
    lines = CONFIGS[name].read_text().splitlines()
    assert len(lines) <= 25
    assert lines[0].startswith('# ')
    assert 'Needs data/' in lines[0]


def build(model):
    """Build a network without memory for its weights, where mmseg can."""
    student = model.get('student', model)
    needs_values = student.backbone.type == 'MixVisionTransformer' or 'peers' in model
    with torch.device('cpu' if needs_values else 'meta'):
        return MODELS.build(copy.deepcopy(model))


@pytest.mark.parametrize('name', CONFIGS)
def test_it_builds_with_the_classes_of_its_data(name):
    cfg = load(name)
    data = cfg.train_dataloader.dataset
    _, num_classes = DATASETS[data.type, data.data_root]
    model = build(cfg.model)
    assert model.out_channels == num_classes
    assert name not in DISTILLED or len(model.distill_terms) == len(cfg.model.distill)


# one distillation of each pair stands for the others, which share its base file
@pytest.mark.parametrize('name', [name for name in DISTILLED if name.startswith('balkd_')])
def test_its_teacher_builds_and_has_the_same_classes(name):
    model = network(name, 'teacher')
    model.pop('checkpoint')
    model.update(pretrained=None, auxiliary_head=None)
    assert build(model).out_channels == network(name, 'student').decode_head.num_classes


def alone(name):
    """Return the name of the baseline of a config's student."""
    _, models, schedule, data = name.split('_')
    return f'baseline_{re.split("-to-|-with-", models)[1]}_{schedule}_{data}'


@pytest.mark.parametrize('name', OFFLINE)
def test_it_changes_nothing_but_the_distillation(name):
    baseline = load(alone(name))
    assert plain(network(name, 'student')) == plain(baseline.model)
    assert plain(load(name).to_dict(), 'model') == plain(baseline.to_dict(), 'model')


@pytest.mark.parametrize('name', MUTUAL)
def test_mutual_training_changes_nothing_but_the_model_and_what_is_scored(name):
    cfg, baseline = load(name), load(alone(name))
    assert plain(network(name, 'student')) == plain(baseline.model)
    scored = ('model', 'val_evaluator', 'test_evaluator', 'calibration', 'scores', 'save_best')
    assert plain(cfg.to_dict(), *scored) == plain(baseline.to_dict(), *scored)
    expected = dict(type='NetworksMetric', metric=[baseline.val_evaluator, cfg.calibration])
    assert plain(cfg.val_evaluator) == plain(cfg.test_evaluator) == plain(expected)
    best = [c.default_hooks.checkpoint.get('save_best') for c in (cfg, baseline)]
    assert best in ([None, None], ['student/mIoU', 'mIoU'])


@pytest.mark.parametrize('name', MUTUAL)
def test_its_peer_is_the_teacher_of_the_offline_methods(name):
    """But trained here, from the same kind of weights as the student."""
    _, models, schedule, data = name.split('_')
    offline = f'balkd_{models.replace("-with-", "-to-")}_{schedule}_{data}'
    training = ('checkpoint', 'pretrained', 'init_cfg', 'auxiliary_head', 'data_preprocessor')
    assert plain(network(name, 'teacher'), *training) == plain(
        network(offline, 'teacher'), *training
    )
    teacher, student = network(name, 'teacher'), network(name, 'student')
    assert started(teacher) == started(student)
    assert 'checkpoint' not in load(name).model.peers.teacher
    heads = [model.get('auxiliary_head') or {} for model in (teacher, student)]
    assert heads[0].get('num_classes') == heads[1].get('num_classes')


@pytest.mark.parametrize('name', OFFLINE)
def test_its_teacher_is_the_one_that_the_checkpoint_belongs_to(name):
    teacher = load(name).model.teacher
    if teacher.checkpoint.startswith('https://'):
        stock = teacher.config.removeprefix('mmseg::').removesuffix('.py')
        metafile = yaml.safe_load((stock_path(stock).parent / 'metafile.yaml').read_text())
        (published,) = (m for m in metafile['Models'] if m['Config'] == f'configs/{stock}.py')
        assert teacher.checkpoint == published['Weights']
        return
    folder, run, file = teacher.checkpoint.split('/')
    assert (folder, file) == ('work_dirs', f'iter_{load(run).train_cfg.max_iters}.pth')
    # what only training needs, and SyncBN or BN, may differ
    training = ('checkpoint', 'pretrained', 'init_cfg', 'auxiliary_head', 'norm_cfg', 'size')
    ours, theirs = network(name, 'teacher'), load(run).model
    assert plain(ours, *training) == plain(theirs, *training)


@pytest.mark.parametrize('name', STOCK)
def test_a_baseline_equals_the_stock_config(name):
    ours = load(f'baseline_{name}')
    stock = Config.fromfile(stock_path(f'{STOCK[name]}_{name.partition("_")[2]}'))
    for key in ('model', 'optim_wrapper', 'param_scheduler', 'train_cfg', 'val_evaluator'):
        assert plain(ours[key]) == plain(stock[key]), key
    steps = plain(stock.train_dataloader.dataset.pipeline)
    assert plain(ours.train_dataloader.dataset.pipeline)[2:] == steps[2:]


def test_the_index_lists_the_configs_that_exist():
    index = (ROOT / 'configs' / 'README.md').read_text()
    listed = re.findall(r'\]\(([\w-]+/[^)]+\.py)\)', index)
    existing = [f'{path.parent.name}/{path.name}' for path in CONFIGS.values()]
    assert sorted(listed) == sorted(existing)


def test_the_model_index_lists_the_configs_that_exist():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    files = [yaml.safe_load((ROOT / path).read_text()) for path in index['Import']]
    models = [model for file in files for model in file['Models']]
    assert sorted(model['Name'] for model in models) == sorted(CONFIGS)
    assert all(ROOT / model['Config'] == CONFIGS[model['Name']] for model in models)
    collections = {one['Name']: one for file in files for one in file['Collections']}
    assert all((ROOT / one['README']).is_file() for one in collections.values())
    assert {model['In Collection'] for model in models} == set(collections)


def test_a_recipe_says_what_sets_a_method_apart():
    loss = dict(type='ChannelwiseKLLoss', temperature=4.0)
    assert method_of([loss]) == 'cwd'
    assert method_of([dict(type='BalancedLoss', loss=loss, reverse_weight=2.0)]) == 'balanced-cwd'
    online = [dict(type='BalancedDivergenceLoss'), dict(type='PixelwiseKLLoss', learner='teacher')]
    assert method_of(online[:1]) == 'balkd'
    online[0]['entropy_weighting'] = 'image'
    assert method_of(online) == 'bdkd'
    with pytest.raises(AssertionError, match='no metafile'):
        method_of([dict(type='BalancedLoss', loss=dict(type='JSD'))])


def test_the_package_is_imported_in_one_place():
    files = (ROOT / 'configs').rglob('*.py')
    naming = [path.name for path in files if 'custom_imports' in path.read_text()]
    assert naming == ['runtime.py']
