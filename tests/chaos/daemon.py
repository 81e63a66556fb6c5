"""Stores in processes of their own, which can be stopped and killed, and clients of theirs."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from e2e.http_chain import Server
from tvix_store.composition import Composition
from tvix_store.frontend import Services
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig

__all__ = ["Daemon", "opened", "over", "sqlite"]


class Daemon(Server):
    """``tvix-store run`` of a configuration."""

    def __enter__(self) -> Self:
        return self

    def pause(self) -> None:
        """It does nothing from now on, and keeps its connections."""
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """The end of a pause."""
        self._process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def opened(config: StoreConfig) -> AsyncIterator[Services]:
    """The services of a configuration in this process."""
    async with Composition(config, Registry.load()) as composition:
        yield await composition.services()


def over(url: str) -> StoreConfig:
    """A store all of whose services are at one URL."""
    return StoreConfig.from_urls(url, url, url, Registry.load(), "test")


def sqlite(path: Path) -> StoreConfig:
    """A store in a database."""
    return over(f"sqlite://{path}")
