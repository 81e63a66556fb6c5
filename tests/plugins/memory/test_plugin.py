"""The ``memory`` tag in a configuration."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from tvix_store.config import EntryConfig, ServiceUrl
from tvix_store.errors import ConfigError
from tvix_store_memory.plugin import (
    MemoryBlobServiceConfig,
    MemoryDirectoryServiceConfig,
    MemoryPathInfoServiceConfig,
)

MODELS: list[type[EntryConfig]] = [
    MemoryBlobServiceConfig,
    MemoryDirectoryServiceConfig,
    MemoryPathInfoServiceConfig,
]

every_model = pytest.mark.parametrize("model", MODELS)


@every_model
@pytest.mark.parametrize("url", ["memory://", "memory:", "memory://?x=y"])
def test_urls_without_place_are_taken(model: type[EntryConfig], url: str) -> None:
    assert model.from_url(ServiceUrl(url)) == model(type="memory")


@every_model
@pytest.mark.parametrize("url", ["memory://foo", "memory:///", "memory:///foo", "memory:foo", "memory+x://"])
def test_urls_with_a_place_are_refused(model: type[EntryConfig], url: str) -> None:
    with pytest.raises(ConfigError, match="memory"):
        model.from_url(ServiceUrl(url))


@every_model
def test_there_are_no_options(model: type[EntryConfig]) -> None:
    assert model.tag() == "memory"
    with pytest.raises(ValidationError):
        model.model_validate({"type": "memory", "path": "/tmp/x"})
