"""What CONTRIBUTING asks of a method: one loss file, one config, one card. Nothing is listed here.

A method is a folder of `configs/` whose metafile says what `distill` holds.
"""

import ast
import re
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmseg.registry import MODELS

pytestmark = pytest.mark.usefixtures('read_each_metafile_once')
ROOT = Path(__file__).resolve().parents[1]
FOLDERS = sorted(path.parent for path in (ROOT / 'configs').glob('[!_]*/README.md'))
SECTIONS = (
    'What', 'Formula', 'How to use', 'Hyper-parameters', 'Findings and caveats',
    'Published, not measured here', 'Results', 'What is ours', 'Attribution',
)  # fmt: skip
# schedules and crops that a CPU can train
CPU_SIZE = re.compile(r'_1xb\d-\d{3}_.*-128x\d{3}$')
LOSSES = sorted((ROOT / 'balkd_seg' / 'losses').glob('[!_]*.py'))


def recipe(folder):
    """Return what the entries of `distill` hold, or None of a network alone."""
    collection = yaml.safe_load((folder / 'metafile.yaml').read_text())['Collections'][0]
    return collection.get('Metadata', {}).get('Distill')


METHODS = [folder for folder in FOLDERS if recipe(folder) is not None]


def types_in(value):
    """Return the `type` of every dict within."""
    if isinstance(value, list):
        return {name for item in value for name in types_in(item)}
    if not isinstance(value, dict):
        return set()
    return {value['type']} | {name for item in value.values() for name in types_in(item)}


def losses_in(path):
    """Return the names of the registered classes of a file."""
    classes = [x for x in ast.parse(path.read_text()).body if isinstance(x, ast.ClassDef)]
    return {x.name for x in classes if any('MODELS' in ast.unparse(d) for d in x.decorator_list)}


def cpu_configs(folder):
    return [path for path in sorted(folder.glob('*.py')) if CPU_SIZE.search(path.stem)]


def test_there_are_methods_and_one_baseline():
    assert len(METHODS) >= 5
    assert [folder.name for folder in FOLDERS if folder not in METHODS] == ['baseline']


@pytest.mark.parametrize('folder', METHODS, ids=lambda folder: folder.name)
class TestMethod:
    def test_its_card_has_every_section(self, folder):
        card = (folder / 'README.md').read_text()
        found = re.findall(r'^(?:\*\*|## )([A-Z][^.*\n]*)', card, re.MULTILINE)
        assert [section for section in SECTIONS if section not in found] == []
        assert 'https://arxiv.org/abs/' in card
        assert all(name in card for name in types_in(recipe(folder)))

    def test_its_defaults_name_their_source(self, folder):
        card = (folder / 'README.md').read_text()
        table = card.split('**Hyper-parameters.**')[1].split('**Findings')[0]
        rows = [line for line in table.splitlines() if line.startswith('|')]
        assert rows[0] == '| name | value | where it comes from |'
        cells = [[cell.strip() for cell in row.strip('|').split('|')] for row in rows[2:]]
        assert cells
        assert [row for row in cells if len(row) != 3 or not all(row)] == []

    def test_it_is_known_to_the_indices(self, folder):
        name = folder.name  # as a path or as code: "at" is a word as well
        forms = {
            'configs/README.md': f'[{name}]({name}/README.md)',
            'model-index.yml': f'- configs/{name}/metafile.yaml\n',
            'CHANGELOG.md': f'`{name}`',
        }
        missing = [file for file, form in forms.items() if form not in (ROOT / file).read_text()]
        assert missing == []

    def test_it_comes_at_cpu_size_for_both_data_sets(self, folder):
        data = {path.stem.split('_')[-1] for path in cpu_configs(folder)}
        assert data == {'camvid-128x160', 'street-scenes-128x256'}

    def test_its_config_gives_finite_losses_and_gradients(
        self, folder, teacher_checkpoint, make_batch, progress
    ):
        (path,) = (path for path in cpu_configs(folder) if 'camvid' in path.stem)
        config = Config.fromfile(path).model
        if 'teacher' in config:
            config.teacher.checkpoint = teacher_checkpoint(config.teacher)
        torch.manual_seed(0)
        model = MODELS.build(config)
        losses = model.loss(*make_batch(height=64, width=64, num_classes=model.num_classes))
        assert all(torch.as_tensor(value).isfinite().all() for value in losses.values())
        terms = [name for name in losses if 'distill.loss_' in name]
        assert len(terms) == len(recipe(folder))
        weights = list(model.student.parameters())
        for name in (name for name in terms if name.startswith('distill.')):
            value = losses[name]
            assert value > 0
            gradients = torch.autograd.grad(value, weights, retain_graph=True, allow_unused=True)
            reached = [gradient for gradient in gradients if gradient is not None]
            assert all(gradient.isfinite().all() for gradient in reached)
            assert any(gradient.any() for gradient in reached)


@pytest.fixture
def progress():
    """Publish what a runner would, and take it back."""
    hub = MessageHub.get_current_instance()
    before = dict(hub.runtime_info)
    hub.update_info_dict(dict(iter=1, max_iters=4))
    yield
    hub.runtime_info.clear()
    hub.runtime_info.update(before)


@pytest.fixture(scope='module')
def teacher_checkpoint(tmp_path_factory):
    """Return a function that saves random weights of a teacher, once for all methods."""
    from balkd_seg.distillers.model_config import resolve_model_config

    path = tmp_path_factory.mktemp('teacher') / 'teacher.pth'

    def save(teacher):
        if not path.exists():
            config = resolve_model_config(teacher, 'teacher')
            config.pop('checkpoint')
            config.update(pretrained=None, auxiliary_head=None)
            torch.manual_seed(7)
            torch.save(dict(state_dict=MODELS.build(config).state_dict(), meta={}), path)
        return str(path)

    return save


@pytest.mark.parametrize('path', LOSSES, ids=lambda path: path.stem)
class TestLoss:
    def test_it_is_used_by_a_method(self, path):
        used = {name for folder in METHODS for name in types_in(recipe(folder))}
        assert losses_in(path)
        assert losses_in(path) <= used

    def test_it_is_exported_and_has_tests(self, path):
        import balkd_seg.losses

        assert losses_in(path) <= set(balkd_seg.losses.__all__)
        assert (ROOT / 'tests' / 'test_losses' / f'test_{path.stem}.py').is_file()

    def test_it_stands_in_the_table_of_the_readme(self, path):
        readme = (ROOT / 'README.md').read_text()
        table = readme.split('## Losses and where they look')[1].split('\n\n')[1]
        assert [name for name in losses_in(path) if f'| `{name}` |' not in table] == []


def test_every_operation_has_tests():
    operations = (ROOT / 'balkd_seg' / 'ops').glob('[!_]*.py')
    tests = {path.stem for path in (ROOT / 'tests' / 'test_ops').glob('*.py')}
    missing = [path.stem for path in operations if f'test_{path.stem}' not in tests]
    assert set(missing) <= {'reference'}  # what the others are tested with
