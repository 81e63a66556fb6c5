"""What is asked of the place where an upstream cache is, and where the URLs in its narinfos lead."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import AsyncGenerator
from urllib.parse import urldefrag, urljoin, urlsplit

from tvix_store.errors import InvalidObject
from tvix_store.nixbase32 import shown
from tvix_store.resource import AsyncResource

__all__ = ["Upstream", "joined", "shown_url"]

_FOREIGN_CHARACTER = re.compile(r"[^!-~]")
_SCHEMES = {"http": ("http", "https"), "https": ("http", "https"), "file": ("file",)}


class Upstream(AsyncResource):
    """The files of a binary cache, by name or URL."""

    @abstractmethod
    async def read(self, name: str, max_bytes: int) -> bytes | None:
        """A file beside ``nix-cache-info``; ``None`` if there is none.

        Raises:
            Unavailable: It cannot be had, or not now; names host and reason.
            InvalidObject: It is longer than ``max_bytes``, or encoded in a way that cannot be read.
        """

    @abstractmethod
    def stream(self, url: str, *, is_compressed: bool) -> AsyncGenerator[bytes]:
        """A file by what a narinfo says of it. Whoever may stop before the end closes it.

        Args:
            url: The URL, as it stands in the narinfo.
            is_compressed: Whether the file is; then there is no point in compressing it for the transfer.

        Raises:
            DanglingReference: There is none; names the URL.
            Unavailable: It cannot be had, or has broken off and cannot be resumed.
            InvalidObject: The URL leads where it must not lead.
        """


def joined(base_url: str, url: str) -> str:
    """Where ``url`` leads from a narinfo in ``base_url``, which is taken as a directory; queries are kept.

    Raises:
        InvalidObject: It is not a URL, or leads out of the reach of the base: from HTTP to a file or
            another protocol, from a file out of its directory.

    Source: RFC 3986, section 5; the base is the directory even without a trailing slash.
    """
    base_url = base_url.rstrip("/") + "/"
    if not url or _FOREIGN_CHARACTER.search(url):
        raise InvalidObject(f"URL {shown(url)} is empty, or has characters that a URL cannot have")
    try:
        target = urldefrag(urljoin(base_url, url)).url
        parts = urlsplit(target)
        host = parts.hostname
        parts.port  # noqa: B018 - it raises if the port is not a number
    except ValueError as exc:
        raise InvalidObject(f"URL {shown(url)}: {exc}") from exc
    base_scheme = urlsplit(base_url).scheme
    if parts.scheme not in _SCHEMES[base_scheme]:
        raise InvalidObject(f"URL {shown(url)}: an upstream at {base_scheme}: may not refer to {parts.scheme}:")
    if parts.scheme == "file":
        if not target.startswith(base_url):
            raise InvalidObject(f"URL {shown(url)} leads out of {base_url}")
    elif not host:
        raise InvalidObject(f"URL {shown(url)} has no host")
    return target


def shown_url(url: str) -> str:
    """A URL for messages: without credentials and query, which may be one."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
