"""Fixtures for all tests."""

from __future__ import annotations

import os
import shutil

# Before a test runs a command in this process, which hides what there is from the garbage collector (`cli/memory.py`):
# hypothesis looks there for what its plugins register, and warns if it finds nothing.
import hypothesis  # noqa: F401
import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The store runs on asyncio alone (grpc.aio does)."""
    return "asyncio"


@pytest.fixture(scope="session")
def nix_store() -> str:
    """Path of ``nix-store``. Where CI installed it, its absence is a failure rather than a skip."""
    path = shutil.which("nix-store")
    if path is None:
        message = "nix-store missing: apt-get install nix-bin"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path
