"""What a plugin can add. Each hook returns classes, is called once at start-up and must not do any work.

A plugin is a module named by an entry point of the group ``tvix_store``::

    [project.entry-points.tvix_store]
    swift = "tvix_store_swift.plugin"

It defines any of the functions below, marked with ``hookimpl``. The ``type`` literal of each class is the tag that
users write in the configuration; two plugins that claim one tag of one interface is a ConfigError naming both.
"""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from tvix_store.config import (
    BlobServiceConfig,
    DirectoryServiceConfig,
    FrontendConfig,
    PathInfoServiceConfig,
)

__all__ = [
    "ENTRY_POINT_GROUP",
    "PROJECT",
    "hookimpl",
    "tvix_store_blob_services",
    "tvix_store_directory_services",
    "tvix_store_frontends",
    "tvix_store_path_info_services",
]

PROJECT = "tvix_store"
ENTRY_POINT_GROUP = "tvix_store"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def tvix_store_blob_services() -> Sequence[type[BlobServiceConfig]]:
    """Config models of the blob services this plugin adds."""
    raise NotImplementedError


@hookspec
def tvix_store_directory_services() -> Sequence[type[DirectoryServiceConfig]]:
    """Config models of the directory services this plugin adds."""
    raise NotImplementedError


@hookspec
def tvix_store_path_info_services() -> Sequence[type[PathInfoServiceConfig]]:
    """Config models of the path info services this plugin adds."""
    raise NotImplementedError


@hookspec
def tvix_store_frontends() -> Sequence[type[FrontendConfig]]:
    """Config models of the frontends this plugin adds."""
    raise NotImplementedError
