"""The ``nix`` tag: path infos of an upstream binary cache."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, Field, model_validator

from tvix_store.capabilities import Capabilities
from tvix_store.config import (
    BlobServiceRef,
    Context,
    DirectoryServiceRef,
    PathInfoServiceConfig,
    ServiceUrl,
    redacted,
)
from tvix_store.errors import ConfigError, InvalidObject
from tvix_store.hookspecs import hookimpl
from tvix_store.path_info import PathInfoService
from tvix_store_nix.upstream import Upstream

__all__ = ["NixPathInfoServiceConfig"]

_SCHEMES = ("http", "https", "file")
_MAX_NAR_BYTES = 64 * 1024**3


def _checked_base_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - it raises if the port is not a number
        host = parts.hostname
    except ValueError:
        raise ValueError(f"{redacted(text)!r} is not a URL") from None  # it may quote a password
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"{redacted(text)!r} begins with none of {', '.join(f'{scheme}:' for scheme in _SCHEMES)}")
    if parts.query or parts.fragment:
        raise ValueError(f"{redacted(text)!r}: a query or a fragment has no meaning here")
    if parts.scheme == "file" and (host or not parts.path.startswith("/")):
        raise ValueError(f"{redacted(text)!r}: expected file:///absolute/path")
    if parts.scheme != "file" and not host:
        raise ValueError(f"{redacted(text)!r}: the host is missing")
    return text


def _checked_public_keys(texts: list[str] | None) -> list[str] | None:
    from tvix_store.signing import PublicKey

    for text in texts or ():
        try:
            PublicKey.parse(text)
        except InvalidObject as exc:
            raise ValueError(str(exc)) from None
    return texts


class NixPathInfoServiceConfig(PathInfoServiceConfig):
    """Paths of a Nix binary cache, whose contents are stored here when they are asked for."""

    type: Literal["nix"]
    base_url: Annotated[str, AfterValidator(_checked_base_url)] = Field(
        description="http, https or file URL of the folder with nix-cache-info; may have user:password@."
    )
    blob_service: BlobServiceRef = Field(default="root", description="Where contents go.")
    directory_service: DirectoryServiceRef = Field(default="root", description="Where directories go.")
    public_keys: Annotated[list[str] | None, AfterValidator(_checked_public_keys)] = Field(
        default=None,
        description="Whose signatures count, as NAME:BASE64. Unset: nothing is verified; empty: nobody's, so that only"
        " content-addressed paths are let through.",
    )
    netrc: str | None = Field(default=None, description="A netrc file to look the host up in.")
    bearer_token: str | None = Field(default=None, description="A file that holds a bearer token.")
    timeout_s: float = Field(default=30.0, gt=0, description="Seconds without progress until a request is given up.")
    retries: int = Field(default=4, ge=0, le=100, description="How often to try again what may pass.")
    max_nar_bytes: int = Field(default=_MAX_NAR_BYTES, gt=0, description="Paths with longer NARs are refused.")
    negative_ttl_s: float = Field(default=30.0, ge=0, description="Seconds that an absent path counts as absent.")
    spool_dir: str = Field(default="/var/tmp", description="Where NARs are that are read while they come in.")
    max_fetches: int = Field(default=6, ge=1, description="NARs that are fetched at once; further ones wait.")
    proxy: str | None = Field(default=None, description="URL of an HTTP proxy.")
    ca_file: str | None = Field(default=None, description="Certificates to trust, in place of the system's.")

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        given = [name for name in ("netrc", "bearer_token") if getattr(self, name) is not None]
        if urlsplit(self.base_url).username is not None:
            given.append("credentials in base_url")
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} exclude each other")
        if self.base_url.startswith("file:") and given:
            raise ValueError(f"{given[0]} has no meaning for a file URL")
        return self

    @classmethod
    def from_url(cls, url: ServiceUrl) -> Self:
        if url.transport not in _SCHEMES:
            raise url.refuse("expected nix+http://host/path, nix+https://host/path or nix+file:///path")
        if url.parts.fragment:
            raise url.refuse("a fragment has no meaning here")
        keys: list[str] | None = None
        references: dict[str, str] = {}
        for parameter, value in parse_qsl(url.parts.query, keep_blank_values=True):
            if parameter == "trusted-public-keys":
                keys = [*(keys or ()), *value.split()]
            elif parameter not in ("blob_service", "directory_service"):
                known = "trusted-public-keys, blob_service and directory_service"
                raise url.refuse(f"unknown parameter {parameter!r}; there are {known}")
            elif parameter in references:
                raise url.refuse(f"{parameter} is given twice")
            else:
                references[parameter] = value
        try:
            _checked_public_keys(keys)
        except ValueError as exc:
            raise url.refuse(f"{exc}; in a URL + means a space, write %2B") from None
        return cls(
            type="nix",
            base_url=url.text.partition("?")[0].removeprefix("nix+"),
            public_keys=keys,
            blob_service=references.get("blob_service", "root"),
            directory_service=references.get("directory_service", "root"),
        )

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities:
        return Capabilities(put=False)

    def misfits(self, inner: Mapping[str, Capabilities | None]) -> Iterator[tuple[str, str]]:
        for key in ("blob_service", "directory_service"):
            stated = inner[key]
            if stated is not None and not stated.put:
                yield key, "it does not take puts, and what is fetched is put there"

    async def build(self, name: str, context: Context) -> PathInfoService:
        import asyncio

        from tvix_store.signing import PublicKey
        from tvix_store_nix.fetch import FetchOptions
        from tvix_store_nix.narinfos import NarInfoPolicy
        from tvix_store_nix.path_info import NixPathInfoService

        keys = None if self.public_keys is None else [PublicKey.parse(text) for text in self.public_keys]
        blobs = await context.blob_service(self.blob_service)
        directories = await context.directory_service(self.directory_service)
        if not await asyncio.to_thread(Path(self.spool_dir).is_dir):
            raise ConfigError(f"spool_dir {self.spool_dir} is no folder")
        return NixPathInfoService(
            name,
            await asyncio.to_thread(self._upstream, name),
            blobs,
            directories,
            NarInfoPolicy(keys, self.max_nar_bytes, self.negative_ttl_s),
            FetchOptions(self.spool_dir, self.max_fetches),
        )

    def _upstream(self, name: str) -> Upstream:
        """Reads the files with the secrets; connects to nothing."""
        from tvix_store_nix.credentials import Credentials
        from tvix_store_nix.file_upstream import FileUpstream
        from tvix_store_nix.http_upstream import HttpOptions, HttpUpstream
        from tvix_store_nix.retrying import Backoff

        if self.base_url.startswith("file:"):
            return FileUpstream(name, self.base_url)
        credentials = Credentials.load(self.base_url, netrc_path=self.netrc, bearer_token_path=self.bearer_token)
        options = HttpOptions(self.timeout_s, Backoff(self.retries), self.proxy, self.ca_file)
        return HttpUpstream(name, self.base_url, credentials, options)


@hookimpl
def tvix_store_path_info_services() -> Sequence[type[PathInfoServiceConfig]]:
    """The upstream."""
    return [NixPathInfoServiceConfig]
