"""The ``breaker`` tag: what keeps failing is left alone for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from tvix_store_guard.around_config import AroundBlobConfig, AroundConfig, AroundDirectoryConfig, AroundPathInfoConfig

if TYPE_CHECKING:
    from tvix_store.around import Around

__all__ = ["BreakerBlobServiceConfig", "BreakerDirectoryServiceConfig", "BreakerPathInfoServiceConfig"]


class _BreakerConfig(AroundConfig):
    failures: int = Field(default=5, ge=1, description="After how many failures in a row it is no longer asked.")
    open_s: float = Field(
        default=10.0, gt=0, description="For how long then; each time the next try fails, for twice as long."
    )
    max_open_s: float = Field(default=300.0, gt=0, description="The longest of these times.")

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.max_open_s < self.open_s:
            raise ValueError(f"max_open_s, {self.max_open_s:g} s, is less than open_s, {self.open_s:g} s")
        return self

    def around(self, name: str) -> Around:
        from tvix_store_guard.breaker import Breaker

        return Breaker(name, failures=self.failures, open_s=self.open_s, max_open_s=self.max_open_s)


class BreakerBlobServiceConfig(_BreakerConfig, AroundBlobConfig):
    """Leaves a blob service that keeps failing alone for a while."""

    type: Literal["breaker"]


class BreakerDirectoryServiceConfig(_BreakerConfig, AroundDirectoryConfig):
    """Leaves a directory service that keeps failing alone for a while."""

    type: Literal["breaker"]


class BreakerPathInfoServiceConfig(_BreakerConfig, AroundPathInfoConfig):
    """Leaves a path info service that keeps failing alone for a while."""

    type: Literal["breaker"]
