"""Write the report of a comparison from its work dir: report.json, report.md and report.html."""

from pathlib import Path
from typing import Any

from methods_page import write_page
from methods_results import collect
from methods_state import write_json
from methods_table import write_markdown


def write_report(work: Path) -> dict[str, Any]:
    """Write the files and return what report.json holds."""
    results = collect(work)
    write_json(work / 'report.json', results)
    write_markdown(work / 'report.md', results)
    write_page(work / 'report.html', work, results)
    return results
