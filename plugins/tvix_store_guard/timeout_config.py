"""The ``timeout`` tag: calls that take too long are given up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from tvix_store_guard.around_config import AroundBlobConfig, AroundConfig, AroundDirectoryConfig, AroundPathInfoConfig

if TYPE_CHECKING:
    from tvix_store.around import Around

__all__ = ["TimeoutBlobServiceConfig", "TimeoutDirectoryServiceConfig", "TimeoutPathInfoServiceConfig"]


class _TimeoutConfig(AroundConfig):
    seconds: float = Field(gt=0, description="How long a call that reads may take.")
    write_s: float | None = Field(
        default=None, gt=0, description="How long a call that writes may take; if left out, as long as one that reads."
    )
    upkeep_s: float | None = Field(
        default=None,
        gt=0,
        description="How long list, delete, verify, compact and the like may take; any time if left out.",
    )

    def around(self, name: str) -> Around:
        from tvix_store_guard.timeout import Timeout

        return Timeout(name, read_s=self.seconds, write_s=self.write_s or self.seconds, upkeep_s=self.upkeep_s)


class TimeoutBlobServiceConfig(_TimeoutConfig, AroundBlobConfig):
    """Gives calls to a blob service up when they take too long."""

    type: Literal["timeout"]


class TimeoutDirectoryServiceConfig(_TimeoutConfig, AroundDirectoryConfig):
    """Gives calls to a directory service up when they take too long."""

    type: Literal["timeout"]


class TimeoutPathInfoServiceConfig(_TimeoutConfig, AroundPathInfoConfig):
    """Gives calls to a path info service up when they take too long."""

    type: Literal["timeout"]
