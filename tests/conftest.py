"""Fixtures for all tests."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The store runs on asyncio alone (grpc.aio does)."""
    return "asyncio"
