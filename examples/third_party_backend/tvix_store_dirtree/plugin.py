"""The ``dirtree`` tag: what the entry point names. Imports what it needs to be listed, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field

from tvix_store.blob import BlobService
from tvix_store.config import BlobServiceConfig, Context, ServiceUrl
from tvix_store.hookspecs import hookimpl

__all__ = ["DirtreeBlobServiceConfig"]


class DirtreeBlobServiceConfig(BlobServiceConfig):
    """One file for each blob, in a directory."""

    type: Literal["dirtree"]
    path: Annotated[str, Field(min_length=1, description="The directory; made if there is none.")]

    @classmethod
    def from_url(cls, url: ServiceUrl) -> Self:
        if url.transport or url.host or url.query() or not url.path.startswith("/"):
            raise url.refuse("expected dirtree:///absolute/path")
        return cls(type="dirtree", path=url.path)

    async def build(self, name: str, context: Context) -> BlobService:
        from tvix_store_dirtree.blob import DirtreeBlobService  # loaded when it is used

        return DirtreeBlobService(Path(self.path))


@hookimpl
def tvix_store_blob_services() -> Sequence[type[BlobServiceConfig]]:
    """Blobs."""
    return [DirtreeBlobServiceConfig]
