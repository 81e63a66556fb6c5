"""The ``cache`` tag: what is far, kept near."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from tvix_store.config import Context, PathInfoServiceConfig, PathInfoServiceRef
from tvix_store.hookspecs import hookimpl
from tvix_store.path_info import PathInfoService

__all__ = ["CachePathInfoServiceConfig"]


class CachePathInfoServiceConfig(PathInfoServiceConfig):
    """Reads path infos through ``near``; what it lacks is taken from ``far`` and kept."""

    type: Literal["cache"]
    near: PathInfoServiceRef = Field(description="Asked first, and filled.")
    far: PathInfoServiceRef = Field(description="Asked for what is not near.")
    write: Literal["near", "far", "both"] = Field(default="near", description="Where puts go.")

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store_cache.path_info import CachePathInfoService, WriteTo

        near = await context.path_info_service(self.near)
        far = await context.path_info_service(self.far)
        return CachePathInfoService(name, near, far, WriteTo(self.write))


@hookimpl
def tvix_store_path_info_services() -> Sequence[type[PathInfoServiceConfig]]:
    """The cache of path infos."""
    return [CachePathInfoServiceConfig]
