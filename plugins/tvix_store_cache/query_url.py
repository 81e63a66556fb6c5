"""Entries whose URL is their keys as parameters."""

from __future__ import annotations

from typing import Self

from tvix_store.config import EntryConfig, ServiceUrl

__all__ = ["QueryUrlConfig"]


class QueryUrlConfig(EntryConfig):
    """An entry whose URL has nothing but parameters: its keys, percent-encoded where they are URLs themselves."""

    @classmethod
    def from_url(cls, url: ServiceUrl) -> Self:
        if url.transport or url.host or url.path or url.parts.fragment:
            raise url.refuse(
                f"expected {cls.tag()}://?KEY=VALUE&KEY=VALUE, with % codes for what a URL gives meaning to"
            )
        return cls.model_validate_strings({"type": cls.tag(), **url.query()})
