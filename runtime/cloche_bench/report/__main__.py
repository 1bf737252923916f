"""``python -m cloche_bench.report RESULTS.json --html PAGE.html --figures FOLDER``: a report on the file of an earlier run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cloche.errors import ClocheError
from cloche_bench import results
from cloche_bench.report import write_figures, write_html


def main() -> int:
    """Write what the arguments ask for; returns the exit code, 1 after an error, which is printed on stderr."""
    parser = argparse.ArgumentParser(prog="python -m cloche_bench.report", description=__doc__)
    parser.add_argument("results", type=Path, help="from cloche bench --json")
    parser.add_argument("--html", type=Path, help="the page to write")
    parser.add_argument("--figures", type=Path, help="folder for the main figures as SVG, light and dark")
    parser.add_argument("--compare", type=Path, metavar="OLD.json", help="an earlier run to compare with")
    given = parser.parse_args()
    if given.html is None and given.figures is None:
        parser.error("give --html or --figures")
    try:
        found = results.load(given.results)
        old = results.load(given.compare) if given.compare else None
        if given.html:
            write_html(found, given.html, old=old, old_name=given.compare.name if given.compare else "")
        if given.figures:
            write_figures(found, given.figures)
    except (ClocheError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  # a command of its own
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
