"""The ``tar`` tag: what the entry point names. Imports what it needs to be listed, and no more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import Field, field_validator
from tvix_store.config import Context, FrontendConfig
from tvix_store.errors import ConfigError
from tvix_store.frontend import Frontend
from tvix_store.hookspecs import hookimpl
from tvix_store.listen import parse_listen

__all__ = ["TarFrontendConfig"]


class TarFrontendConfig(FrontendConfig):
    """Store paths as tar archives over HTTP; read-only."""

    type: Literal["tar"]
    listen: str = Field(default="localhost:9001", description="IP:PORT, [IPV6]:PORT or localhost:PORT.")
    drain_s: float = Field(
        default=10.0, ge=0, description="How long running downloads may take when the frontend is to end, in seconds."
    )
    max_entries: int = Field(
        default=1_000_000, ge=1, description="What has more files, directories and symlinks than this is refused."
    )

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, text: str) -> str:
        try:
            address = parse_listen(text)
        except ConfigError as exc:
            raise ValueError(str(exc)) from exc
        if address.kind != "tcp":
            raise ValueError(f"{text!r} is the address of a socket file; a TCP address is expected")
        return text

    async def build(self, name: str, context: Context) -> Frontend:
        from tvix_store_tar.frontend import TarFrontend  # loaded when it is used

        services = await context.services()
        return TarFrontend(
            name, services, parse_listen(self.listen), drain_s=self.drain_s, max_entries=self.max_entries
        )


@hookimpl
def tvix_store_frontends() -> Sequence[type[FrontendConfig]]:
    """The frontend."""
    return [TarFrontendConfig]
