"""Combinators that take care with one service: what it may be asked, how often, for how long, and what it gives."""

from __future__ import annotations

from collections.abc import Sequence

from tvix_store.config import BlobServiceConfig, DirectoryServiceConfig, PathInfoServiceConfig
from tvix_store.hookspecs import hookimpl
from tvix_store_guard.breaker_config import (
    BreakerBlobServiceConfig,
    BreakerDirectoryServiceConfig,
    BreakerPathInfoServiceConfig,
)
from tvix_store_guard.limit_config import (
    LimitBlobServiceConfig,
    LimitDirectoryServiceConfig,
    LimitPathInfoServiceConfig,
)
from tvix_store_guard.readonly_config import (
    ReadonlyBlobServiceConfig,
    ReadonlyDirectoryServiceConfig,
    ReadonlyPathInfoServiceConfig,
)
from tvix_store_guard.retry_config import (
    RetryBlobServiceConfig,
    RetryDirectoryServiceConfig,
    RetryPathInfoServiceConfig,
)
from tvix_store_guard.singleflight_config import (
    SingleflightBlobServiceConfig,
    SingleflightDirectoryServiceConfig,
    SingleflightPathInfoServiceConfig,
)
from tvix_store_guard.timeout_config import (
    TimeoutBlobServiceConfig,
    TimeoutDirectoryServiceConfig,
    TimeoutPathInfoServiceConfig,
)
from tvix_store_guard.verify_config import (
    VerifyBlobServiceConfig,
    VerifyDirectoryServiceConfig,
    VerifyPathInfoServiceConfig,
)

__all__ = ["tvix_store_blob_services", "tvix_store_directory_services", "tvix_store_path_info_services"]


@hookimpl
def tvix_store_blob_services() -> Sequence[type[BlobServiceConfig]]:
    """Blobs."""
    return [
        ReadonlyBlobServiceConfig,
        VerifyBlobServiceConfig,
        SingleflightBlobServiceConfig,
        LimitBlobServiceConfig,
        RetryBlobServiceConfig,
        TimeoutBlobServiceConfig,
        BreakerBlobServiceConfig,
    ]


@hookimpl
def tvix_store_directory_services() -> Sequence[type[DirectoryServiceConfig]]:
    """Directories."""
    return [
        ReadonlyDirectoryServiceConfig,
        VerifyDirectoryServiceConfig,
        SingleflightDirectoryServiceConfig,
        LimitDirectoryServiceConfig,
        RetryDirectoryServiceConfig,
        TimeoutDirectoryServiceConfig,
        BreakerDirectoryServiceConfig,
    ]


@hookimpl
def tvix_store_path_info_services() -> Sequence[type[PathInfoServiceConfig]]:
    """Path infos."""
    return [
        ReadonlyPathInfoServiceConfig,
        VerifyPathInfoServiceConfig,
        SingleflightPathInfoServiceConfig,
        LimitPathInfoServiceConfig,
        RetryPathInfoServiceConfig,
        TimeoutPathInfoServiceConfig,
        BreakerPathInfoServiceConfig,
    ]
