"""The tags that make one service of several: ``fallback``, ``mirror``, ``shard`` and ``route``."""

from __future__ import annotations

from collections.abc import Sequence

from tvix_store.config import BlobServiceConfig, DirectoryServiceConfig, PathInfoServiceConfig
from tvix_store.hookspecs import hookimpl
from tvix_store_spread.fallback_config import (
    FallbackBlobServiceConfig,
    FallbackDirectoryServiceConfig,
    FallbackPathInfoServiceConfig,
)
from tvix_store_spread.mirror_config import (
    MirrorBlobServiceConfig,
    MirrorDirectoryServiceConfig,
    MirrorPathInfoServiceConfig,
)
from tvix_store_spread.route_config import (
    RouteBlobServiceConfig,
    RouteDirectoryServiceConfig,
    RoutePathInfoServiceConfig,
)
from tvix_store_spread.shard_config import (
    ShardBlobServiceConfig,
    ShardDirectoryServiceConfig,
    ShardPathInfoServiceConfig,
)

__all__ = ["tvix_store_blob_services", "tvix_store_directory_services", "tvix_store_path_info_services"]


@hookimpl
def tvix_store_blob_services() -> Sequence[type[BlobServiceConfig]]:
    """Blobs."""
    return [FallbackBlobServiceConfig, MirrorBlobServiceConfig, ShardBlobServiceConfig, RouteBlobServiceConfig]


@hookimpl
def tvix_store_directory_services() -> Sequence[type[DirectoryServiceConfig]]:
    """Directories."""
    return [
        FallbackDirectoryServiceConfig,
        MirrorDirectoryServiceConfig,
        ShardDirectoryServiceConfig,
        RouteDirectoryServiceConfig,
    ]


@hookimpl
def tvix_store_path_info_services() -> Sequence[type[PathInfoServiceConfig]]:
    """Path infos."""
    return [
        FallbackPathInfoServiceConfig,
        MirrorPathInfoServiceConfig,
        ShardPathInfoServiceConfig,
        RoutePathInfoServiceConfig,
    ]
