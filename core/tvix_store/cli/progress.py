"""Progress on a terminal, nothing in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    FileSizeColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

__all__ = ["CheckProgress", "FilesProgress", "ItemsProgress"]


class _OnTerminal:
    """A rich display on stderr, if that is a terminal."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The display is not there meanwhile, so that lines can be written."""
        if self._progress is not None:
            self._progress.stop()
        try:
            yield
        finally:
            sys.stdout.flush()
            if self._progress is not None:
                self._progress.start()


class FilesProgress(_OnTerminal):
    """How many files and bytes have been stored, for a tree whose size is not known before."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TextColumn("{task.fields[files]} files"),
            FileSizeColumn(),
            TransferSpeedColumn(),
            TimeElapsedColumn(),
        )
        super().__init__(Progress(*columns, console=console, transient=True) if console.is_terminal else None)
        self._task: TaskID | None = None
        self._files = 0

    def start(self, description: str) -> None:
        """Begin with another tree."""
        self._files = 0
        if self._progress is not None:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(description, total=None, files=0)

    def advance(self, *, files: int, n_bytes: int) -> None:
        """See ``ingest.Advance``."""
        self._files += files
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, advance=n_bytes, files=self._files)


class ItemsProgress(_OnTerminal):
    """How many of a known number of items are done."""

    def __init__(self, description: str, total: int) -> None:
        console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        super().__init__(Progress(*columns, console=console, transient=True) if console.is_terminal else None)
        self._task = self._progress.add_task(description, total=total) if self._progress is not None else None

    def advance(self) -> None:
        """One more is done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task)


class CheckProgress(_OnTerminal):
    """How far one check after the other is, each counting bytes or items, of a total that may be unknown."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[done]}"),
            TimeElapsedColumn(),
        )
        super().__init__(Progress(*columns, console=console, transient=True) if console.is_terminal else None)
        self._task: TaskID | None = None
        self._in_bytes = False

    def start(self, description: str, *, in_bytes: bool) -> None:
        """Begin with another check."""
        self._in_bytes = in_bytes
        if self._progress is not None:
            if self._task is not None:
                self._progress.remove_task(self._task)
            self._task = self._progress.add_task(description, total=None, done="")

    def update(self, done: int, total: int | None) -> None:
        """See ``verification.VerifyProgress``."""
        if self._progress is not None and self._task is not None:
            text = decimal(done) if self._in_bytes else str(done)
            self._progress.update(self._task, completed=done, total=total, done=text)
