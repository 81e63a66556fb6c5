"""A plugin in a distribution of its own, whose frontend does what signals tell it: end, or fail."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from tvix_store.config import Context, FrontendConfig
from tvix_store.errors import Unavailable
from tvix_store.frontend import Frontend
from tvix_store.hookspecs import hookimpl

__all__ = ["END", "FAIL", "ToldFrontend", "ToldFrontendConfig", "install_told"]

END = signal.SIGUSR1
FAIL = signal.SIGUSR2

logger = logging.getLogger("told")


def install_told(folder: Path) -> str:
    """Write the distribution's metadata; what ``PYTHONPATH`` has to be for a process that is to have the plugin."""
    metadata = folder / "told-1.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: told\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(f"[tvix_store]\ntold = {__name__}\n")
    return f"{folder}:{Path(__file__).parents[1]}"


class ToldFrontend(Frontend):
    def __init__(self, name: str, keeps: bool) -> None:
        self._name = name
        self._keeps = keeps

    async def serve(self, ready: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        told: asyncio.Queue[signal.Signals] = asyncio.Queue()
        for number in (END, FAIL):
            loop.add_signal_handler(number, told.put_nowait, number)
        ready("signals")
        if await told.get() == FAIL:
            raise Unavailable(f"{self._name} was told to fail")

    def abandon(self) -> None:
        if self._keeps:
            raise OSError("it does not let go")
        logger.info("%s is abandoned", self._name)


class ToldFrontendConfig(FrontendConfig):
    """A frontend that nobody can connect to."""

    type: Literal["told"]
    keeps: bool = False

    async def build(self, name: str, context: Context) -> Frontend:
        return ToldFrontend(name, self.keeps)


@hookimpl
def tvix_store_frontends() -> Sequence[type[FrontendConfig]]:
    return [ToldFrontendConfig]
