"""No number of the README's results table is typed: it is what the tool makes of the report."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tool(load):
    return load('readme_results')


@pytest.fixture
def readme(tool, tmp_path, monkeypatch):
    copy = tmp_path / 'README.md'
    copy.write_text(tool.README.read_text())
    monkeypatch.setattr(tool, 'README', copy)
    return copy


def test_the_readme_is_up_to_date(tool, capsys):
    assert tool.main(['--check']) == 0, 'run python tools/readme_results.py'
    assert capsys.readouterr().out == 'up to date\n'


def test_a_number_that_was_typed_is_found_and_mended(tool, readme):
    text = readme.read_text()
    before, table, after = re.split(r'(<!-- results: .*<!-- end of results -->)', text, flags=re.S)
    number = re.search(r'\d+\.\d+ ±', table)[0]
    wrong = before + table.replace(number, '99.99 ±', 1) + after
    readme.write_text(wrong)
    assert tool.main(['--check']) == 1
    assert readme.read_text() == wrong
    assert tool.main([]) == 0
    assert readme.read_text() == text


def test_a_missing_report_or_place_is_told(tool, readme, capsys):
    readme.write_text('<!-- results: tools/results/none.json -->\n<!-- end of results -->\n')
    assert tool.main([]) == 1
    assert 'Expected a report at tools/results/none.json' in capsys.readouterr().err
    readme.write_text('nothing')
    assert tool.main([]) == 1
    assert 'Expected <!-- results: PATH -->' in capsys.readouterr().err
    assert readme.read_text() == 'nothing'


def test_links_of_the_table_lead_somewhere(tool):
    table = tool.BLOCK.search(tool.README.read_text())[0]
    links = re.findall(r'\]\(([^)]+)\)', table)
    assert len(links) > 3
    assert [link for link in links if not (ROOT / link).exists()] == []
