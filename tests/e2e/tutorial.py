"""A page of documentation as steps that can be done: commands with what they print, and files that are written.

A block of commands is marked ``console``. Any other block has a comment before it that says what to do with it::

    <!-- write: FILE -->     this is all of the file
    <!-- append: FILE -->    this goes to its end
    <!-- replace: FILE -->   this is in the file once, and becomes the next block
    <!-- shows: FILE -->     this is in the file
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Command", "Edit", "Shell", "do", "output_matches", "steps"]

_BLOCK = re.compile(
    r"(?:^<!-- (?P<action>\w+): (?P<file>\S+) -->\n)?^```(?P<language>\w+)[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_END = "the command has ended with"


@dataclass(frozen=True)
class Command:
    """A command, and what the page says that it prints."""

    line: str
    output: str


@dataclass(frozen=True)
class Edit:
    """Something to do with a file, or to see in it."""

    action: str
    file: str
    text: str
    becomes: str | None = None


def steps(page: str) -> Iterator[Command | Edit]:
    """What a page says to do, in its order."""
    blocks = list(_BLOCK.finditer(page))
    assert len(blocks) * 2 == len(re.findall("^```", page, re.MULTILINE)), "a block of code without a language"
    pending = iter(blocks)
    for block in pending:
        if block["language"] == "console":
            yield from _commands(block["text"])
            continue
        assert block["action"] in ("write", "append", "replace", "shows"), f"what to do with {block[0]}"
        becomes = next(pending)["text"] if block["action"] == "replace" else None
        yield Edit(block["action"], block["file"], block["text"], becomes)


def _commands(text: str) -> Iterator[Command]:
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        line, _, output = part.partition("\n")
        yield Command(line, output)


def output_matches(expected: str, actual: str) -> bool:
    """Whether that is what was expected: ``...`` is any text within a line, alone any lines; spaces may be more."""
    pattern = ""
    for line in expected.splitlines():
        words = [re.escape(word).replace(re.escape("..."), "[^\n]*") for word in line.split()]
        pattern += "(?:[^\n]*\n)*" if line == "..." else " *".join(words).replace(" *", " +") + " *\n"
    return re.fullmatch(pattern, actual.rstrip("\n") + "\n" if actual.strip() else "") is not None


def do(edit: Edit, folder: Path) -> None:
    """Do what is to be done with a file below ``folder``."""
    path = folder / edit.file
    match edit.action:
        case "write":
            path.write_text(edit.text)
        case "append":
            path.write_text(path.read_text() + ("" if edit.text.startswith("\n") else "\n") + edit.text)
        case "replace":
            assert edit.becomes is not None
            assert path.read_text().count(edit.text) == 1, f"not in {edit.file} just once:\n{edit.text}"
            path.write_text(path.read_text().replace(edit.text, edit.becomes))
        case "shows":
            assert edit.text in path.read_text(), f"not in {edit.file}:\n{edit.text}"


class Shell:
    """A shell that commands are typed into, one after the other.

    Args:
        folder: Where it starts.
        variables: Its environment.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            ["bash", "--norc"],
            cwd=folder,
            env=dict(variables),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, line: str) -> tuple[int, str]:
        """Exit status and output of a command."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\nprintf '\\n{_END} %s\\n' $?\n")
        self._process.stdin.flush()
        output = ""
        for printed in self._process.stdout:
            if printed.startswith(_END):
                return int(printed.split()[-1]), output.removesuffix("\n")
            output += printed
        raise AssertionError(f"the shell has ended: {output}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._process:
            self._process.kill()
