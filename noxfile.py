"""Other environments than the pinned one: `nox` makes each and tests it.

pip install nox && nox                 all whose Python is on this machine, 3 to 8 GB each
nox -s torch-2.1 -- -k checkpoints     one, and of the tests only these (not kept for the table)
nox -s table                           tests/ENVIRONMENTS.md from what the last runs left in .nox
"""

import datetime
import json
import platform
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import NamedTuple

import nox

ROOT = Path(__file__).parent
RESULTS = ROOT / '.nox' / 'results'
TABLE = ROOT / 'tests' / 'ENVIRONMENTS.md'
# what meets PyTorch, OpenMMLab, numpy and Python; the rest is the same arithmetic everywhere
QUICK = (
    'tests/test_compat', 'tests/test_distillers', 'tests/test_hooks', 'tests/test_losses',
    'tests/test_metrics', 'tests/test_ops/test_operator.py', 'tests/test_ops/test_registration.py',
    'tests/test_ops/test_versions.py', 'tests/test_ops/test_traps.py', 'tests/test_install.py',
    'tests/test_tools/test_doctor.py', 'tests/test_tools/test_export_student.py',
    'tests/test_kinds.py', 'tests/test_networks',
)  # fmt: skip
TRAINING = 'training_log or stock_mim_test or checkpoint_holds or stopped_run_resumes'
PLUGIN = ('-e', '.')
OPENMMLAB = (
    'mmengine==0.10.7',
    'mmsegmentation==1.2.2',
    'ftfy',
    'regex',
    'openmim',
    'openxlab<0.1',
)
TESTS = ('pytest>=9', 'pytest-cov', 'onnx', 'onnxruntime', 'torchmetrics')
SETUPTOOLS = 'setuptools>=77.0.3,<81'
ONEDL = ('onedl-mmcv==2.3.6', 'onedl-mmengine==0.10.12', 'onedl-mmsegmentation==1.4.2')


class Environment(NamedTuple):
    """What is installed, step by step; `{}` of a full mmcv is compiled by its own step.

    Attributes:
        python: Version of CPython.
        steps: Arguments of one `pip install` each.
        full_mmcv: Whether mmcv 2.1.0 is built from source (10 to 60 minutes).
    """

    python: str
    steps: tuple[tuple[str, ...], ...]
    full_mmcv: bool = False


def stock(torch: str, *more: str) -> tuple[tuple[str, ...], ...]:
    """Return the steps for a PyTorch with stock OpenMMLab and mmcv-lite."""
    return (torch, SETUPTOOLS, *more), ('-e', '.[lite,test]', torch, *more)


OLD = ('numpy<2', 'opencv-python<4.12')  # PyTorch 2.1 was compiled for numpy 1
ENVIRONMENTS = {
    'torch-2.1': Environment('3.10', stock('torch==2.1.2', *OLD)),
    'torch-2.1-full-mmcv': Environment(
        '3.10',
        (('torch==2.1.2', 'setuptools>=77.0.3,<80', 'wheel', *OLD), (*OPENMMLAB, *TESTS, *OLD)),
        full_mmcv=True,
    ),
    # the interpreter of Triton 3.0 takes arrays of one element for numbers, as numpy once did
    'torch-2.4': Environment('3.12', stock('torch==2.4.1', 'numpy<2.3')),
    'torch-2.6': Environment('3.11', stock('torch==2.6.0')),
    'python-3.10': Environment('3.10', (('-c', 'constraints.txt', '-e', '.[lite,test]'),)),
    'newest': Environment('3.13', stock('torch')),
    'python-3.14': Environment('3.14', stock('torch')),
    'onedl': Environment(
        '3.11',
        (
            ('torch==2.13.0', SETUPTOOLS, *ONEDL, *TESTS, 'ftfy', 'regex', 'triton'),
            ('--no-deps', '--no-build-isolation', *PLUGIN),  # ours asks for the stock names
        ),
    ),
}


def check(session: nox.Session, environment: Environment) -> None:
    """Install, hold pip's plan to what it may change, test, train, and keep what came."""
    for step in environment.steps:
        session.install(*step)
    if environment.full_mmcv:
        session.install('--no-build-isolation', 'mmcv==2.1.0', env={'MMCV_WITH_OPS': '1'})
        plan = ('pip', 'install', '--dry-run', '--quiet', '--report', '-', *PLUGIN)
        report = json.loads(session.run(*plan, silent=True, stderr=None))
        changed = {item['metadata']['name'] for item in report['install']} & {'torch', 'mmcv'}
        if changed:
            session.error(f'pip would replace {changed}')
        session.install(*PLUGIN)
    xml = {part: Path(session.create_tmp()) / f'{part}.xml' for part in ('quick', 'training')}
    command = ('python', '-m', 'pytest', '-q', '-p', 'no:cacheprovider')
    codes = (0, 1)  # a failed test is a result, and fails the session once it is kept
    quick = (*QUICK, '-m', 'not slow', f'--junitxml={xml["quick"].resolve()}')
    session.run(*command, *quick, *session.posargs, success_codes=codes)
    if session.posargs:
        return
    training = (
        'tests/test_end_to_end.py',
        '-k',
        TRAINING,
        f'--junitxml={xml["training"].resolve()}',
    )
    session.run(*command, *training, success_codes=codes)
    counts = {part: counts_of(file) for part, file in xml.items()}
    versions = json.loads(session.run('python', '-c', VERSIONS, silent=True, stderr=None))
    RESULTS.mkdir(parents=True, exist_ok=True)
    kept = {
        **versions,
        **counts,
        'date': str(datetime.date.today()),
        'machine': platform.platform(),
    }
    (RESULTS / f'{session.name}.json').write_text(json.dumps(kept, indent=1) + '\n')
    if counts['quick']['failed'] + counts['training']['failed']:
        session.error('some tests failed')


VERSIONS = """
import json, platform
from importlib import metadata, util
have = {x.name.lower(): x.version for x in metadata.distributions()}
found = {'python': platform.python_version()}
for name in ('torch', 'numpy', 'triton', 'mmengine', 'mmcv', 'mmsegmentation'):
    fork, lite = have.get('onedl-' + name), have.get(name + '-lite')
    found[name] = have.get(name) or (lite and lite + ' lite') or (fork and fork + ' (onedl)') or '-'
found['mmcv'] = found['mmcv'].replace(' lite', '')
found['mmcv'] += ' lite' if util.find_spec('mmcv._ext') is None else ' full'
print(json.dumps(found))
"""


def counts_of(file: Path) -> dict[str, int]:
    """Return how many tests passed, failed and were skipped, from pytest's XML."""
    suite = ET.parse(file).getroot().find('testsuite')
    total, failures, errors, skipped = (
        int(suite.get(key)) for key in ('tests', 'failures', 'errors', 'skipped')
    )
    failed = failures + errors
    return {'passed': total - failed - skipped, 'failed': failed, 'skipped': skipped}


for _name, _environment in ENVIRONMENTS.items():

    @nox.session(name=_name, python=_environment.python)
    def _session(session: nox.Session, environment: Environment = _environment) -> None:
        """Test one environment."""
        check(session, environment)


@nox.session(python=False, default=False)
def table(session: nox.Session) -> None:
    """Write what was found into the manual's table."""
    columns = ('python', 'torch', 'numpy', 'triton', 'mmcv', 'mmengine', 'mmsegmentation')
    lines = [
        f'| environment | {" | ".join(columns)} | quick tests | distillation | date |',
        '|---' * (len(columns) + 4) + '|',
    ]
    for name in ENVIRONMENTS:
        file = RESULTS / f'{name}.json'
        if not file.exists():
            continue
        found = json.loads(file.read_text())
        cells = [name, *(found[column] for column in columns)]
        for part in ('quick', 'training'):
            cells.append(', '.join(f'{n} {what}' for what, n in found[part].items() if n))
        lines.append(f'| {" | ".join([*cells, found["date"]])} |')
    start, end = '<!-- table -->\n', '<!-- end of table -->'
    before, _, rest = TABLE.read_text().partition(start)
    TABLE.write_text(before + start + '\n'.join(lines) + '\n' + end + rest.partition(end)[2])
    session.log(f'wrote {TABLE.relative_to(ROOT)}')
