"""Which part of a NAR a request is about.

Source: RFC 9110, sections 13 and 14.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Part", "Unsatisfiable", "matches", "parse_range"]

_RANGE = re.compile(r"bytes=[ \t,]*([0-9]*)-([0-9]*)[ \t]*(?:,.*)?", re.IGNORECASE)
_MAX_DIGITS = 20


class Unsatisfiable(Exception):
    """The range lies past the end."""


@dataclass(frozen=True, slots=True)
class Part:
    """The bytes from ``start`` up to ``end``, not included, of ``size``."""

    start: int
    end: int
    size: int

    @property
    def content_range(self) -> str:
        """The value of the header."""
        return f"bytes {self.start}-{self.end - 1}/{self.size}"


def parse_range(text: str | None, size: int) -> Part | None:
    """The part that a Range header asks for; of several ranges the first.

    Args:
        text: Value of the header; ``None`` if there is none.
        size: Of the whole.

    Returns:
        ``None`` if the whole is asked for: there is no header, or it is one that has to be ignored.

    Raises:
        Unsatisfiable: Nothing of the whole is in it.
    """
    found = None if text is None else _RANGE.fullmatch(text)
    if found is None or max(len(found[1]), len(found[2])) > _MAX_DIGITS:
        return None
    first, last = found[1], found[2]
    if not first:
        if not last:
            return None
        if not int(last) or not size:
            raise Unsatisfiable
        return Part(max(0, size - int(last)), size, size)
    if last and int(last) < int(first):
        return None
    if int(first) >= size:
        raise Unsatisfiable
    return Part(int(first), min(int(last) + 1, size) if last else size, size)


def matches(header: str, etag: str, *, weakly: bool) -> bool:
    """Whether an If-None-Match or If-Range header names ``etag``.

    Args:
        header: Its value: entity tags, or ``*``.
        etag: A strong one, in its quotes.
        weakly: A weak tag of the same name will do, as it does for If-None-Match.
    """
    tags = [tag.strip() for tag in header.split(",")]
    return "*" in tags or etag in tags or (weakly and f"W/{etag}" in tags)
