"""Which stores a command works with: the options that say so, and what they open."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from tvix_store.cli.logs import keep_out
from tvix_store.composition import Composition
from tvix_store.errors import Unavailable
from tvix_store.frontend import Services
from tvix_store.presets import LocalPreset
from tvix_store.registry import Registry
from tvix_store.store_config import ROOT_NAMES, SERVICE_KINDS, StoreConfig

__all__ = ["DEFAULT_ADDRESS", "StoreOptions", "default_state_dir", "embedded_default", "store_options"]

DEFAULT_ADDRESS = "localhost:8000"
"""Where ``run`` listens when nothing else is said, and where clients look for it."""

_DEFAULT_HTTP_ADDRESS = "localhost:9000"
"""Where the binary cache is, as that of the Rust programs."""

_DEFAULT_URL = f"grpc+http://{DEFAULT_ADDRESS}?wait-connect=1"

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """The stores as chosen on the command line.

    Args:
        config: A composition file, which wins over the URLs.
        blob: URL of the blob service; ``None`` for the embedded default.
        directory: URL of the directory service.
        path_info: URL of the path info service.
        state_dir: Where the embedded default keeps its store; ``None`` for the usual place.
    """

    config: Path | None
    blob: str | None
    directory: str | None
    path_info: str | None
    state_dir: Path | None = None

    def store_config(self, registry: Registry, fallback: StoreConfig | None = None) -> StoreConfig:
        """The configuration that the options describe; of URLs that are not given, ``fallback`` has the entries."""
        if self.config is not None:
            loaded = StoreConfig.load(self.config, registry)
            keep_out(loaded.references.hide)
            return loaded
        if fallback is None:
            blob, directory, path_info = (url or _DEFAULT_URL for url in (self.blob, self.directory, self.path_info))
            return StoreConfig.from_urls(blob, directory, path_info, registry, "command line")
        entries = {kind: dict(by_name) for kind, by_name in fallback.entries.items()}
        for kind, url in zip(SERVICE_KINDS, (self.blob, self.directory, self.path_info), strict=True):
            if url is not None:
                entries[kind] = {ROOT_NAMES[0]: registry.from_url(kind, url)}
        given = self.blob or self.directory or self.path_info
        return StoreConfig("command line" if given else fallback.source, entries)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Services]:
        """The services; a running daemon's unless the options say otherwise.

        Raises:
            Unavailable: There is none at the default address.
        """
        registry = Registry.load()
        async with Composition(self.store_config(registry), registry) as composition:
            yield await self.services(composition)

    async def services(self, composition: Composition) -> Services:
        """The services of a composition of these stores; the same errors as ``open``."""
        try:
            return await composition.services()
        except Unavailable as exc:
            if self.config is not None or None not in (self.blob, self.directory, self.path_info):
                raise
            hint = "`tvix-store run` starts one, --store names another"
            raise Unavailable(f"no store answers at {DEFAULT_ADDRESS}; {hint}") from exc

    @asynccontextmanager
    async def open_composition(self) -> AsyncIterator[Composition]:
        """The composition itself, for what is done to single entries; the embedded default's unless told otherwise.

        A daemon that has the same stores open does not mind.
        """
        registry = Registry.load()
        fallback = None if self.config else embedded_default(registry, self.state_dir or default_state_dir())
        async with Composition(self.store_config(registry, fallback), registry) as composition:
            yield composition


def store_options(
    default: str = f"a running store, grpc+http://{DEFAULT_ADDRESS}", *, has_state_dir: bool = False
) -> Callable[[F], F]:
    """Options that choose the stores, handed to the command as ``stores``.

    Args:
        default: For the help: what is used if none is given.
        has_state_dir: Whether there is an option for where the embedded default is, too.
    """

    def decorate(command: F) -> F:
        @click.option(
            "--config",
            "--experimental-store-composition",
            "config",
            type=click.Path(path_type=Path, dir_okay=False),
            envvar="EXPERIMENTAL_STORE_COMPOSITION",
            show_envvar=True,
            help="Use the stores of this composition file; the other options are ignored then.",
        )
        @click.option("--store", metavar="URL", help="Use this URL for all three services.")
        @_url_option("--blob-service-addr", "BLOB_SERVICE_ADDR", default)
        @_url_option("--directory-service-addr", "DIRECTORY_SERVICE_ADDR", default)
        @_url_option("--path-info-service-addr", "PATH_INFO_SERVICE_ADDR", default)
        def wrapped(
            config: Path | None,
            store: str | None,
            blob_service_addr: str | None,
            directory_service_addr: str | None,
            path_info_service_addr: str | None,
            state_dir: Path | None = None,
            **arguments: Any,
        ) -> Any:
            stores = StoreOptions(
                config,
                store or blob_service_addr,
                store or directory_service_addr,
                store or path_info_service_addr,
                state_dir,
            )
            return command(stores=stores, **arguments)

        wrapped.__name__ = command.__name__
        wrapped.__doc__ = command.__doc__
        if has_state_dir:
            wrapped = _state_dir_option(wrapped)
        return wrapped  # type: ignore[return-value]  # takes the options in place of ``stores``

    return decorate


_state_dir_option = click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="TVIX_STORE_STATE_DIR",
    show_envvar=True,
    help="Where the embedded default keeps its store.  [default: $XDG_STATE_HOME/tvix-store]",
)


def _url_option(flag: str, envvar: str, default: str) -> Callable[[F], F]:
    kind = flag.removeprefix("--").removesuffix("-service-addr").replace("-", " ")
    help_ = f"URL of the {kind} service.  [default: {default}]"
    return click.option(flag, metavar="URL", envvar=envvar, show_envvar=True, help=help_)


def default_state_dir() -> Path:
    """Where the embedded default keeps its store: a folder of the user's, as the XDG specification has it."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "tvix-store"


def embedded_default(registry: Registry, state_dir: Path) -> StoreConfig:
    """Everything in one directory, served on the default addresses: blobs in packs, the rest in databases."""
    preset = LocalPreset(dir=str(state_dir), grpc_listen=DEFAULT_ADDRESS, listen=_DEFAULT_HTTP_ADDRESS)
    return StoreConfig.parse(preset.expand(), registry, "embedded default")
