"""Fail if a module under ``core/``, ``plugins/`` or ``tests/`` is over 600 lines; generated code aside."""

import sys
from pathlib import Path

LIMIT = 600
ROOT = Path(__file__).resolve().parents[1]
GENERATED = ROOT / "core" / "tvix_store" / "proto"


def too_long() -> list[str]:
    """One line for each module over the limit."""
    found = []
    for folder in ("core", "plugins", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if path.is_relative_to(GENERATED):
                continue
            lines = len(path.read_text(encoding="utf-8").splitlines())
            if lines > LIMIT:
                found.append(f"{path.relative_to(ROOT)}: {lines} lines, over {LIMIT}")
    return found


if __name__ == "__main__":
    problems = too_long()
    print("\n".join(problems), file=sys.stderr, end="\n" if problems else "")
    sys.exit(1 if problems else 0)
