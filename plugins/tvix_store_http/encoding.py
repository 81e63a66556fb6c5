"""Which content coding a client gets.

Source: RFC 9110, sections 8.4 and 12.5.3.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

__all__ = ["CODINGS", "choose"]

CODINGS = {"zstd": "zstd", "br": "br", "gzip": "gzip"}
"""Names of codings, and of what `tvix_store.compression` calls them."""

_QUALITY = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def choose(accept: str | None, offered: Sequence[str]) -> str | None:
    """The coding to answer with; ``None`` for none.

    A client that does not name a coding, nor ``*``, does not get it: Nix before 2.14 sends no header, and does not
    understand everything.

    Args:
        accept: Value of the Accept-Encoding header; ``None`` if there is none.
        offered: What can be had, the preferred one first. The client's preference counts more.
    """
    if not accept or not offered:
        return None
    qualities: dict[str, float] = {}
    for item in accept.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                quality = float(value) if _QUALITY.fullmatch(value.strip()) else 0.0
        qualities[name] = quality
    rest = qualities.get("*", 0.0)
    plain = qualities.get("identity", 0.0)  # not named: all right, but anything that is named is better
    best = max(offered, key=lambda name: qualities.get(name, rest))
    quality = qualities.get(best, rest)
    return best if quality > 0 and quality >= plain else None
