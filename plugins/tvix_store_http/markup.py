"""HTML from parts that are escaped unless they are HTML already, and URLs from names that are any bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from itertools import groupby
from typing import LiteralString
from urllib.parse import quote_from_bytes

__all__ = ["Html", "html", "joined", "quoted", "shown", "shown_text"]

# Control characters, and what changes the direction of writing, with which text can look like another one.
_DECEPTIVE = re.compile("([\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]+)")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def html(template: LiteralString, /, **values: object) -> Html:
    """``template`` with ``values`` in place of their names in braces; what is not Html itself is escaped."""
    return Html(template.format_map({key: v if isinstance(v, Html) else escape(str(v)) for key, v in values.items()}))


def joined(parts: Iterable[Html]) -> Html:
    """One after the other."""
    return Html("".join(parts))


def shown(name: bytes) -> Html:
    """A name or target on one line; what is not printable as an escape that stands out from the text around it.

    Among that are line breaks, bytes that are no UTF-8 and what changes the direction of writing.
    """
    runs = (
        (printable, "".join(run))
        for printable, run in groupby(name.decode("utf-8", "surrogateescape"), str.isprintable)
    )
    parts = joined(html("{run}", run=run) if printable else _escape(run) for printable, run in runs)
    return html("<bdi>{parts}</bdi>", parts=parts)


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # what surrogateescape makes of a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}"


def quoted(*components: bytes) -> str:
    """Components of a path as a part of a URL: every byte that is no letter, digit or one of ``_.-~`` is encoded."""
    return "/".join(quote_from_bytes(component, safe="") for component in components)


def shown_text(text: str) -> Html:
    """Text of many lines; control characters and their like as ``shown`` has them."""
    runs = _DECEPTIVE.split(text.replace("\r\n", "\n"))  # every other one is deceptive
    return joined(_escape(run) if n % 2 else html("{run}", run=run) for n, run in enumerate(runs))


def _escape(run: str) -> Html:
    return html('<span class="escape">{text}</span>', text="".join(map(_escaped, run)))
