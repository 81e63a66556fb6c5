"""Fail if a JUnit report of pytest has a skipped test, or no test at all: ``no_skips.py REPORT``.

An expected failure (xfail) is not a skip.
"""

import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path


def check(report: Path) -> list[str]:
    """One line for each thing that is wrong."""
    cases = list(ElementTree.parse(report).iter("testcase"))
    if not cases:
        return [f"{report}: no test was run"]
    return [
        f"skipped: {case.get('classname')}::{case.get('name')}: {skip.get('message')}"
        for case in cases
        for skip in case.iter("skipped")
        if skip.get("type") != "pytest.xfail"
    ]


if __name__ == "__main__":
    problems = check(Path(sys.argv[1]))
    for problem in problems:
        print(problem, file=sys.stderr)
    sys.exit(1 if problems else 0)
