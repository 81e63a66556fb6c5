"""The ``fs`` tag: a blob service in a folder of packs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator

from tvix_store.blob import BlobService
from tvix_store.capabilities import Capabilities, Durability
from tvix_store.config import BlobServiceConfig, Context, ServiceUrl
from tvix_store.hookspecs import hookimpl
from tvix_store.limits import KIB

__all__ = ["FsBlobServiceConfig"]

DurabilityName = Literal["commit", "batched", "none"]
_DURABILITIES: dict[str, DurabilityName] = {"commit": "commit", "batched": "batched", "none": "none"}


class FsBlobServiceConfig(BlobServiceConfig):
    """Blobs in a folder: compressed, cut into chunks that they share, open to several processes at once."""

    type: Literal["fs"]
    path: Annotated[str, Field(description="The folder; made, with those above it, if there is none.")]
    durability: Annotated[
        DurabilityName,
        Field(description="What a put that returned survives: power loss, the end of the process, or nothing."),
    ] = "commit"
    avg_chunk_size: Annotated[
        int | None,
        Field(
            ge=4 * KIB,
            le=2 * 1024 * KIB,
            description="What large blobs are cut into on average, in bytes; fixed when the store is made.",
        ),
    ] = None

    @field_validator("path")
    @classmethod
    def _check_path(cls, path: str) -> str:
        if not path or "\0" in path or os.path.normpath(path) in ("/", "//"):
            raise ValueError(f"path {path!r} is no place for a store")
        return path

    @classmethod
    def from_url(cls, url: ServiceUrl) -> Self:
        form = "expected fs:///absolute/path?durability=commit"
        if url.transport or url.host or url.parts.fragment:
            raise url.refuse(form)
        if not url.path.startswith("/") or "\0" in url.path:
            raise url.refuse(f"the path is not absolute: {form}")
        if os.path.normpath(url.path) in ("/", "//"):
            raise url.refuse("/ is no place for a store")
        query = url.query()
        durability = _DURABILITIES.get(query.pop("durability", "commit"))
        if durability is None:
            raise url.refuse("durability is commit, batched or none")
        if query:
            raise url.refuse(f"unknown parameter {next(iter(query))!r}: {form}")
        return cls(type="fs", path=url.path, durability=durability)

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities:
        durability = Durability(self.durability)
        return Capabilities(list=True, delete=True, chunks=True, verifies=True, compact=True, durability=durability)

    def _real_path(self) -> str:
        return os.path.realpath(self.path)

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_fs.blob import FsBlobService
        from tvix_store_fs.store import PackStore

        store = await PackStore.open(
            name,
            self._real_path(),
            durability=Durability(self.durability),
            avg_chunk_size=self.avg_chunk_size,
        )
        return FsBlobService(name, store)


@hookimpl
def tvix_store_blob_services() -> Sequence[type[BlobServiceConfig]]:
    """Blobs."""
    return [FsBlobServiceConfig]
