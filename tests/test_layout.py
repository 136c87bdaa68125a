"""The structure that STYLE asks for: who imports what, what mirrors what, what documents what."""

import ast
import re
import sys
import tokenize
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'balkd_seg'
SOURCES = sorted(PACKAGE.rglob('*.py'))
TOOLS = sorted((ROOT / 'tools').glob('*.py'))


def imports_of(path):
    """Return the top-level names of everything that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split('.')[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split('.')[0])
    return names


def code_lines(path):
    """Count the lines that hold code: no comment, no docstring, no blank line."""
    tree = ast.parse(path.read_text(encoding='utf-8'))
    docs = set()
    for node in ast.walk(tree):
        body = getattr(node, 'body', None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            value = body[0].value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                docs.update(range(value.lineno, value.end_lineno + 1))
    lines = set()
    with tokenize.open(path) as file:
        for token in tokenize.generate_tokens(file.readline):
            if token.type not in (
                tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
                tokenize.ENDMARKER,
            ):  # fmt: skip
                lines.update(range(token.start[0], token.end[0] + 1))
    return len(lines - docs)


def test_ops_import_torch_only():
    for path in (PACKAGE / 'ops').glob('*.py'):
        allowed = {'torch', 'balkd_seg', *sys.stdlib_module_names}
        if path.name.startswith('_fused'):
            allowed.add('triton')
        assert imports_of(path) <= allowed, path


def test_nothing_but_the_fused_files_imports_triton():
    for path in SOURCES:
        assert 'triton' not in imports_of(path) or path.name.startswith('_fused'), path


@pytest.mark.parametrize('path', SOURCES + TOOLS, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_file_stays_within_200_code_lines(path):
    assert code_lines(path) <= 200


def test_every_subpackage_has_tests_and_every_test_folder_a_subpackage():
    packages = {p.parent.name for p in PACKAGE.glob('*/__init__.py')}
    folders = {p.name.removeprefix('test_') for p in (ROOT / 'tests').glob('test_*/')}
    assert folders == packages | {'tools'}
    assert not list((ROOT / 'tests').rglob('__init__.py'))


def test_every_tool_is_in_the_readme():
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    commands = [path for path in TOOLS if "__name__ == '__main__'" in path.read_text()]
    assert len(commands) > 5
    assert [path.name for path in commands if f'tools/{path.name}' not in readme] == []


def test_every_link_of_the_documents_leads_somewhere():
    documents = [*ROOT.glob('*.md'), *(ROOT / 'configs').rglob('*.md'), *ROOT.glob('data/*.md')]
    broken = []
    for document in documents:
        text = document.read_text(encoding='utf-8')
        for target in re.findall(r'\]\(([^)#\s]+)', text):
            if '://' not in target and not (document.parent / target).exists():
                broken.append(f'{document.relative_to(ROOT)}: {target}')
    assert broken == []


def test_every_config_that_a_document_names_exists():
    documents = [*ROOT.glob('*.md'), *(ROOT / 'configs').rglob('*.md')]
    names = {
        name
        for document in documents
        for name in re.findall(r'configs/[\w/.-]+\.py', document.read_text(encoding='utf-8'))
    }
    assert names
    assert [name for name in sorted(names) if not (ROOT / name).is_file()] == []


def test_the_version_is_said_once():
    setup = (ROOT / 'setup.py').read_text(encoding='utf-8')
    package = (PACKAGE / '__init__.py').read_text(encoding='utf-8')
    (version,) = re.findall(r"version='([\d.]+)'", setup)
    assert f"__version__ = '{version}'" in package
