"""The ``limit`` tag: how many calls at once, and how many a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from tvix_store_guard.around_config import AroundBlobConfig, AroundConfig, AroundDirectoryConfig, AroundPathInfoConfig

if TYPE_CHECKING:
    from tvix_store.around import Around

__all__ = ["LimitBlobServiceConfig", "LimitDirectoryServiceConfig", "LimitPathInfoServiceConfig"]


class _LimitConfig(AroundConfig):
    concurrency: int | None = Field(default=None, ge=1, description="How many calls at once; if left out, any number.")
    rate: float | None = Field(default=None, gt=0, description="How many calls a second; if left out, any number.")
    burst: int = Field(default=1, ge=1, description="How many of them may come at once after a quiet time.")
    queue: int = Field(default=1024, ge=0, description="How many calls may wait; further ones are refused as busy.")

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.concurrency is None and self.rate is None:
            raise ValueError("nothing is limited: give concurrency or rate")
        if self.rate is None and self.burst != 1:  # said or not: `config show` says the default
            raise ValueError("burst says nothing without rate")
        return self

    def around(self, name: str) -> Around:
        from tvix_store_guard.limit import Limit

        return Limit(name, concurrency=self.concurrency, rate=self.rate, burst=self.burst, queue=self.queue)


class LimitBlobServiceConfig(_LimitConfig, AroundBlobConfig):
    """Asks a blob service only so much at once, or so often."""

    type: Literal["limit"]


class LimitDirectoryServiceConfig(_LimitConfig, AroundDirectoryConfig):
    """Asks a directory service only so much at once, or so often."""

    type: Literal["limit"]


class LimitPathInfoServiceConfig(_LimitConfig, AroundPathInfoConfig):
    """Asks a path info service only so much at once, or so often."""

    type: Literal["limit"]
