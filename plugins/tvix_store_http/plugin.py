"""The ``http`` type: the frontend that serves a store as a Nix binary cache."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from tvix_store.config import Context, FrontendConfig
from tvix_store.errors import ConfigError, InvalidObject
from tvix_store.frontend import Frontend
from tvix_store.hookspecs import hookimpl
from tvix_store.limits import MIB
from tvix_store.listen_config import ListeningFrontendConfig
from tvix_store.signing import PublicKey
from tvix_store.store_path import STORE_DIR

__all__ = ["HttpFrontendConfig"]


def _checked_key(text: str) -> str:
    try:
        PublicKey.parse(text)
    except InvalidObject as exc:
        raise ValueError(str(exc)) from exc
    return text


def _checked_store_dir(text: str) -> str:
    if not text.startswith("/") or text.endswith("/") or not text.isascii() or not text.isprintable():
        raise ValueError("an absolute path without a slash at its end")
    return text


class HttpFrontendConfig(ListeningFrontendConfig):
    """Serves the store as a Nix binary cache over HTTP, and takes uploads."""

    type: Literal["http"]
    listen: str = Field(
        default="localhost:9000",
        description="IP:PORT, localhost:PORT, /path or ./path of a Unix socket, or @name of an abstract one.",
    )
    keepalive_s: float = Field(default=600.0, gt=0, description="Connections idle for so long are ended.")
    drain_s: float = Field(default=10.0, ge=0, description="How long running requests may take to end at shutdown.")
    buffer_bytes: int = Field(
        default=32 * MIB, ge=MIB, description="What all responses together may hold that is not sent yet."
    )

    store_dir: Annotated[str, AfterValidator(_checked_store_dir)] = Field(
        default=STORE_DIR, description="The store directory of all paths."
    )
    priority: int = Field(default=39, ge=0, le=999_999_999, description="Clients ask the cache with the lowest first.")
    want_mass_query: bool = Field(default=True, description="Clients may ask for many paths, to see which there are.")
    nar_url: Literal["nar-hash", "snix-castore", "tvix-castore"] = Field(
        default="nar-hash", description="What narinfos name NARs by: their hash, or their root node."
    )
    castore_nars: bool = Field(
        default=True, description="Serve the NAR of any node whose name a client knows, published as a path or not."
    )
    encodings: Annotated[tuple[Literal["zstd", "br", "gzip"], ...], Field(strict=False)] = Field(
        default=(), description="Content codings to send whole NARs in, the preferred one first; [] sends them plain."
    )
    metrics: bool | None = Field(
        default=None, description="Serve /metrics for Prometheus; unset: where other machines cannot reach the address."
    )
    narinfo_cache_s: float = Field(
        default=1.0, ge=0, le=3600, description="How long a narinfo is served from memory after it was looked up."
    )

    nar_copies_bytes: int = Field(
        default=4096 * MIB, ge=0, description="How much disk copies of rendered NARs may take; 0: none are kept."
    )
    nar_copies_dir: str = Field(default="/var/tmp", description="Where they are, as files without names.")
    nar_copies_after: int = Field(default=1, ge=0, description="How often a NAR is rendered before a copy is made.")

    state: str | None = Field(
        default=None, description="SQLite file for what uploads need to be remembered; unset: nothing can be uploaded."
    )
    allow_writes: bool = Field(default=True, description="Take uploads.")
    allow_remote_writes: bool = Field(
        default=False, description="Take them without credentials on an address that other machines can reach."
    )
    credentials_file: str | None = Field(
        default=None, description="File of USER:PASSWORD lines; given: every upload needs one of them."
    )
    require_signatures: bool = Field(
        default=False, description="Uploaded paths need a signature by one of public_keys, or a content address."
    )
    public_keys: Annotated[tuple[Annotated[str, AfterValidator(_checked_key)], ...], Field(strict=False)] = Field(
        default=(), description="NAME:BASE64 of those who may sign uploads."
    )
    max_nar_bytes: int = Field(default=64 * 1024 * MIB, ge=1, description="Longest NAR that is taken.")
    max_document_bytes: int = Field(
        default=32 * MIB, ge=1, description="Longest log, listing, realisation or debug information that is taken."
    )
    max_uploads: int = Field(default=64, ge=1, description="NARs that are taken at once; further ones wait.")
    upload_idle_s: float = Field(
        default=60.0, gt=0, description="An upload from which nothing comes for so long is given up."
    )
    keep_uploads_s: float = Field(
        default=30 * 86400.0, gt=0, description="How long an uploaded NAR is remembered that no narinfo has named."
    )

    @property
    def shows_metrics(self) -> bool:
        return self.address.is_local if self.metrics is None else self.metrics

    async def build(self, name: str, context: Context) -> Frontend:
        from tvix_store_http.frontend import HttpFrontend, ServerOptions
        from tvix_store_http.site import SiteOptions
        from tvix_store_http.state import State

        if self.require_signatures and not self.public_keys:
            raise ConfigError("require_signatures without public_keys would refuse every upload with a signature")
        server = ServerOptions(
            unix=self.unix_options,
            tcp_reuse_port=self.shares_port,
            keepalive_s=self.keepalive_s,
            drain_s=self.drain_s,
            buffer_bytes=self.buffer_bytes,
        )
        site = SiteOptions(
            store_dir=self.store_dir,
            priority=self.priority,
            want_mass_query=self.want_mass_query,
            nar_url=self.nar_url,
            castore_nars=self.castore_nars,
            metrics=self.shows_metrics,
            encodings=self.encodings,
            narinfo_cache_s=self.narinfo_cache_s,
            nar_copies_bytes=self.nar_copies_bytes,
            nar_copies_dir=self.nar_copies_dir,
            nar_copies_after=self.nar_copies_after,
            allow_writes=self.allow_writes,
            allow_remote_writes=self.allow_remote_writes,
            credentials_file=None if self.credentials_file is None else Path(self.credentials_file),
            require_signatures=self.require_signatures,
            public_keys=tuple(map(PublicKey.parse, self.public_keys)),
            max_nar_bytes=self.max_nar_bytes,
            max_document_bytes=self.max_document_bytes,
            max_uploads=self.max_uploads,
            upload_idle_s=self.upload_idle_s,
            keep_uploads_s=self.keep_uploads_s,
        )
        services = await context.services()
        state = None
        if (path := self.state) is not None:
            state = await context.shared(_key(path), lambda: State.open(path, self.keep_uploads_s))
        return HttpFrontend(name, services, self.address, site, server, state)


def _key(state: str) -> tuple[str, str]:
    """Frontends that name the same file share what is in it."""
    return "tvix_store_http", os.path.abspath(state)


@hookimpl
def tvix_store_frontends() -> Sequence[type[FrontendConfig]]:
    """The binary cache."""
    return [HttpFrontendConfig]
