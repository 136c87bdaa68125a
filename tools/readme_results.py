r"""Write the results table of README.md from the committed report of a comparison.

    python tools/readme_results.py [--check]

The README says where: between `<!-- results: PATH -->` and `<!-- end of results -->` stands what
this makes of the report.json at PATH, so that no number is typed. --check writes nothing and ends
with 1 if it would.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from methods_plan import ALONE, ROOT, TEACHER
from methods_table import commands, difference, machines, markdown_table, settings, spread

README = ROOT / 'README.md'
BLOCK = re.compile(r'(<!-- results: (\S+) -->\n).*?(<!-- end of results -->)', re.DOTALL)


def results_table(results: dict[str, Any]) -> str:
    """Return one row a method: val, test, paired differences on test, and what it costs."""
    names = [method['name'] for method in results['methods']]
    references = [name for name in (ALONE, 'kd') if name in names]
    rows = []
    for method in results['methods']:
        against = [
            difference(method['against'][other]['test']) if other in method['against'] else ''
            for other in references
        ]
        scores = [spread(method[key]) for key in ('val', 'test')]
        name = method['name'] if method['name'] == TEACHER else linked(method)
        seconds = '' if method['name'] == TEACHER else spread(method['seconds'])
        rows.append([name, *scores, *against, spread(method['ECE']), seconds])
    heads = [f'test, against {name}' for name in references]
    return markdown_table(['', 'val', 'test', *heads, 'ECE %', 's/iter'], rows)


def linked(method: dict[str, Any]) -> str:
    """Return a method's name with a link to its card."""
    return f'[{method["name"]}]({Path(method["config"]).parent.as_posix()}/README.md)'


def block(path: str) -> str:
    """Return what stands in the README for a report.json, given from the root."""
    file = ROOT / path
    if not file.is_file():
        raise FileNotFoundError(f'Expected a report at {path}, but there is no such file.')
    results = json.loads(file.read_text())
    done = {method['finished'] for method in results['methods'] if method['name'] != TEACHER}
    about = [
        f'Mean ± standard deviation over {" or ".join(map(str, sorted(done)))} seeds',
        'mIoU of the last iterate, differences paired by seed with 95 % intervals',
        '"better" and "worse" after Holm\'s correction for all comparisons of a score, "perhaps" '
        'without it',
        *settings(results),
        f'runs at a time: {results["jobs"]}, on {" and ".join(machines(results))}',
    ]
    return '\n\n'.join([
        results_table(results),
        f'{"; ".join(about)}. All of it: [report]({Path(path).with_suffix(".md").as_posix()}), '
        f'[page with pictures]({Path(path).with_suffix(".html").as_posix()}), made by',
        f'```\n{commands(results)}\n```\n',
    ])  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Write the README; return the exit status: 1 if it differs with --check, or has no place."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--check', action='store_true', help='only tell whether it is up to date')
    args = parser.parse_args(argv)
    text = README.read_text()
    try:
        written = BLOCK.sub(lambda found: f'{found[1]}{block(found[2])}{found[3]}', text)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 1
    if not BLOCK.search(text):
        print(
            f'Expected <!-- results: PATH --> and <!-- end of results --> in {README.name}, but '
            'found none. Put them where the table belongs.',
            file=sys.stderr,
        )
        return 1
    if args.check:
        print('up to date' if written == text else 'README.md differs: run this without --check')
        return int(written != text)
    README.write_text(written)
    return 0


if __name__ == '__main__':
    sys.exit(main())
