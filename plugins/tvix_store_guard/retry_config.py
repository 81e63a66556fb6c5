"""The ``retry`` tag: calls that failed for now are made again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tvix_store_guard.around_config import AroundBlobConfig, AroundConfig, AroundDirectoryConfig, AroundPathInfoConfig

if TYPE_CHECKING:
    from tvix_store.around import Around

__all__ = ["RetryBlobServiceConfig", "RetryDirectoryServiceConfig", "RetryPathInfoServiceConfig"]


class _RetryConfig(AroundConfig):
    attempts: int = Field(default=4, ge=1, le=100, description="How often a call is made at most, the first included.")
    backoff_s: float = Field(
        default=0.1, ge=0, description="The longest pause before the second attempt; twice as long before each further."
    )
    max_backoff_s: float = Field(default=5.0, ge=0, description="The longest of all pauses.")
    max_elapsed_s: float = Field(
        default=30.0, gt=0, description="No attempt is begun later than this after the beginning of the first."
    )

    def around(self, name: str) -> Around:
        from tvix_store_guard.retry import Retry

        return Retry(
            name,
            attempts=self.attempts,
            backoff_s=self.backoff_s,
            max_backoff_s=self.max_backoff_s,
            max_elapsed_s=self.max_elapsed_s,
        )


class RetryBlobServiceConfig(_RetryConfig, AroundBlobConfig):
    """Asks a blob service again when it is not available."""

    type: Literal["retry"]


class RetryDirectoryServiceConfig(_RetryConfig, AroundDirectoryConfig):
    """Asks a directory service again when it is not available."""

    type: Literal["retry"]


class RetryPathInfoServiceConfig(_RetryConfig, AroundPathInfoConfig):
    """Asks a path info service again when it is not available."""

    type: Literal["retry"]
