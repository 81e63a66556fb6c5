"""What authors of services test them with: conformance suites, a state machine for each interface, known objects.

The suites are loaded when they are asked for, so that pytest can be told about them before (``pytest_plugin``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tvix_store.testing.blob_suite import BlobDamageTests, BlobPersistenceTests, BlobServiceSuite
    from tvix_store.testing.directory_suite import (
        DirectoryDamageTests,
        DirectoryPersistenceTests,
        DirectoryServiceSuite,
    )
    from tvix_store.testing.path_info_suite import (
        PathInfoDamageTests,
        PathInfoPersistenceTests,
        PathInfoServiceSuite,
    )
    from tvix_store.testing.stateful import (
        run_blob_state_machine,
        run_directory_state_machine,
        run_path_info_state_machine,
    )

__all__ = [
    "BlobDamageTests",
    "BlobPersistenceTests",
    "BlobServiceSuite",
    "DirectoryDamageTests",
    "DirectoryPersistenceTests",
    "DirectoryServiceSuite",
    "PathInfoDamageTests",
    "PathInfoPersistenceTests",
    "PathInfoServiceSuite",
    "run_blob_state_machine",
    "run_directory_state_machine",
    "run_path_info_state_machine",
]

_MODULES = {
    "Blob": "blob_suite",
    "Directory": "directory_suite",
    "PathInfo": "path_info_suite",
    "run_": "stateful",
}


def __getattr__(name: str) -> Any:
    if name in __all__:
        from importlib import import_module

        module = next(module for prefix, module in _MODULES.items() if name.startswith(prefix))
        return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
