"""The ``cache``, ``combined``, ``lru`` and ``exists`` tags: what is far or slow, kept near."""

from __future__ import annotations

from collections.abc import Sequence

from tvix_store.config import BlobServiceConfig, DirectoryServiceConfig, PathInfoServiceConfig
from tvix_store.hookspecs import hookimpl
from tvix_store_cache.cache_config import (
    CacheBlobServiceConfig,
    CacheDirectoryServiceConfig,
    CachePathInfoServiceConfig,
    CombinedBlobServiceConfig,
    CombinedDirectoryServiceConfig,
    CombinedPathInfoServiceConfig,
)
from tvix_store_cache.exists_config import (
    ExistsBlobServiceConfig,
    ExistsDirectoryServiceConfig,
    ExistsPathInfoServiceConfig,
)
from tvix_store_cache.lru_config import LruBlobServiceConfig, LruDirectoryServiceConfig, LruPathInfoServiceConfig

__all__ = [
    "CacheBlobServiceConfig",
    "CacheDirectoryServiceConfig",
    "CachePathInfoServiceConfig",
    "CombinedBlobServiceConfig",
    "CombinedDirectoryServiceConfig",
    "CombinedPathInfoServiceConfig",
    "ExistsBlobServiceConfig",
    "ExistsDirectoryServiceConfig",
    "ExistsPathInfoServiceConfig",
    "LruBlobServiceConfig",
    "LruDirectoryServiceConfig",
    "LruPathInfoServiceConfig",
]


@hookimpl
def tvix_store_blob_services() -> Sequence[type[BlobServiceConfig]]:
    """Blobs."""
    return [CacheBlobServiceConfig, CombinedBlobServiceConfig, ExistsBlobServiceConfig, LruBlobServiceConfig]


@hookimpl
def tvix_store_directory_services() -> Sequence[type[DirectoryServiceConfig]]:
    """Directories."""
    return [
        CacheDirectoryServiceConfig,
        CombinedDirectoryServiceConfig,
        ExistsDirectoryServiceConfig,
        LruDirectoryServiceConfig,
    ]


@hookimpl
def tvix_store_path_info_services() -> Sequence[type[PathInfoServiceConfig]]:
    """Path infos."""
    return [
        CachePathInfoServiceConfig,
        CombinedPathInfoServiceConfig,
        ExistsPathInfoServiceConfig,
        LruPathInfoServiceConfig,
    ]
