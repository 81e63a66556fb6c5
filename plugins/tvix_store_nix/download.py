"""The state of a download between requests, of which each goes on where the last one broke off."""

from __future__ import annotations

import aiohttp

from tvix_store.nixbase32 import shown

__all__ = ["Changed", "Download", "content_encoding"]

_SIZE_DIGITS = 20  # int() refuses many with an error of its own


class Changed(Exception):
    """What is sent is no longer the file that it was when the download began."""


class Download:
    """How far a download has come, and how to go on with it.

    ``position`` is how much has come, without encoding.

    Args:
        is_compressed: Whether the file is, so that nothing would be gained by an encoding.
    """

    def __init__(self, is_compressed: bool) -> None:
        self.position = 0
        self._headers = {"Accept-Encoding": "identity" if is_compressed else "zstd, br, gzip, identity"}
        self._has_begun = False
        self._has_ranges = False
        self._validator: str | None = None
        self._size: int | None = None
        self._to_skip = 0

    @property
    def can_resume(self) -> bool:
        """Whether the next request asks for the rest only."""
        return self._has_ranges and self.position > 0

    def headers(self) -> dict[str, str]:
        """Of the next request."""
        if not self.can_resume:
            return self._headers
        # With an encoding, a range would be one of the encoded bytes.
        headers = {"Accept-Encoding": "identity", "Range": f"bytes={self.position}-"}
        if self._validator is not None:
            headers["If-Range"] = self._validator
        return headers

    def take(self, response: aiohttp.ClientResponse) -> None:
        """Begin, or go on, with this response.

        Raises:
            Changed: It is of another file, or of another part of it.
        """
        is_encoded = bool(content_encoding(response))
        etag = response.headers.get("ETag")
        if response.status == 206:
            size = self._size_of_range(response.headers.get("Content-Range", ""))
            if is_encoded or self._has_another(size, etag):
                raise Changed("the rest is of another file than the beginning")
            self._to_skip = 0
            return
        size = None if is_encoded else response.content_length
        if self._has_begun and self._has_another(size, etag):
            raise Changed("it has changed while it was fetched")
        self._to_skip = self.position  # a server without ranges sends it all again
        self._has_begun = True
        self._has_ranges = not is_encoded and response.headers.get("Accept-Ranges", "").strip() == "bytes"
        self._size = size
        self._validator = etag if etag is not None and not etag.startswith("W/") else None

    def _has_another(self, size: int | None, etag: str | None) -> bool:
        return (self._size is not None and size is not None and size != self._size) or (
            self._validator is not None and etag is not None and etag != self._validator
        )

    def _size_of_range(self, content_range: str) -> int | None:
        unit, _, rest = content_range.partition(" ")
        span, _, size = rest.partition("/")
        if unit != "bytes" or span.partition("-")[0] != str(self.position):
            raise Changed(f"asked for the bytes from {self.position}, got {shown(content_range)}")
        return int(size) if size.isdecimal() and len(size) < _SIZE_DIGITS else None

    def advance(self, piece: bytes) -> bytes:
        """What of a piece is new."""
        if self._to_skip >= len(piece):
            self._to_skip -= len(piece)
            return b""
        new = piece[self._to_skip :]
        self._to_skip = 0
        self.position += len(new)
        return new


def content_encoding(response: aiohttp.ClientResponse) -> str:
    """The encoding of a body; empty for none."""
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    return "" if encoding == "identity" else encoding
