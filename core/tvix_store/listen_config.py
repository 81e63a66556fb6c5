"""The keys that every frontend has which listens on an address."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from tvix_store.config import FrontendConfig
from tvix_store.errors import ConfigError
from tvix_store.listen import ListenAddress, UnixSocketOptions, parse_listen

__all__ = ["ListeningFrontendConfig"]

_MODES = {"owner": 0o600, "group": 0o660, "everybody": 0o666}


class ListeningFrontendConfig(FrontendConfig):
    """An entry of ``[frontends]`` that listens. Subclasses give ``listen`` its default."""

    listen: str = Field(
        description="IP:PORT, localhost:PORT, /path or ./path of a Unix socket, or @name of an abstract one."
    )
    unix_listen_unlink: bool = Field(default=False, description="Remove a stale socket file first.")
    unix_listen_chmod: Literal["owner", "group", "everybody"] | None = Field(
        default=None, description="Who may use the socket file; unset: as the umask has it."
    )
    unix_listen_uid: int | None = Field(default=None, ge=0, description="Owner of the socket file.")
    unix_listen_gid: int | None = Field(default=None, ge=0, description="Group of the socket file.")
    tcp_reuse_port: bool = Field(default=False, description="Share the port with other processes.")
    workers: int = Field(
        default=1, ge=1, le=256, description="Processes that serve, on one TCP port; each keeps about a core busy."
    )

    @classmethod
    def parse_address(cls, text: str) -> ListenAddress:
        """What ``listen`` says; a frontend that does not take all forms overrides this.

        Raises:
            ConfigError: It is no address.
        """
        return parse_listen(text)

    @field_validator("listen")
    @classmethod
    def _check_listen(cls, text: str) -> str:
        try:
            cls.parse_address(text)
        except ConfigError as exc:
            raise ValueError(str(exc)) from exc
        return text

    @field_validator("workers")
    @classmethod
    def _check_workers(cls, workers: int, info: ValidationInfo) -> int:
        if workers > 1 and "listen" in info.data:  # else there is something wrong with that
            address = cls.parse_address(info.data["listen"])
            if address.kind != "tcp" or not address.port:
                raise ValueError(f"more than one needs a TCP port that is not 0 to share, unlike {address.text!r}")
        return workers

    @property
    def shares_port(self) -> bool:
        """Whether others may listen on the port, too."""
        return self.tcp_reuse_port or self.workers > 1

    @property
    def address(self) -> ListenAddress:
        """Where to listen."""
        return self.parse_address(self.listen)

    @property
    def unix_options(self) -> UnixSocketOptions:
        """What becomes of a socket file."""
        mode = None if self.unix_listen_chmod is None else _MODES[self.unix_listen_chmod]
        return UnixSocketOptions(self.unix_listen_unlink, mode, self.unix_listen_uid, self.unix_listen_gid)
