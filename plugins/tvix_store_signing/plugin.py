"""The ``keyfile-signing`` tag: a path info service that signs what is stored through it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from tvix_store.capabilities import Capabilities
from tvix_store.config import Context, PathInfoServiceConfig, PathInfoServiceRef
from tvix_store.hookspecs import hookimpl
from tvix_store.path_info import PathInfoService

__all__ = ["KeyfileSigningPathInfoServiceConfig"]


class KeyfileSigningPathInfoServiceConfig(PathInfoServiceConfig):
    """Sign path infos as they are stored in ``inner``, with keys from files."""

    type: Literal["keyfile-signing"]
    inner: Annotated[PathInfoServiceRef, Field(description="Where path infos are kept.")]
    keyfile: Annotated[
        str | list[str],
        Field(description="The file of a secret key, as `tvix-store key generate` makes it, or several."),
    ]

    @field_validator("keyfile")
    @classmethod
    def _check_keyfile(cls, value: str | list[str]) -> str | list[str]:
        if not value or (isinstance(value, list) and "" in value):
            raise ValueError("the name of a key file is missing")
        return value

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        return inner["inner"]

    def misfits(self, inner: Mapping[str, Capabilities | None]) -> Iterator[tuple[str, str]]:
        stated = inner["inner"]
        if stated is not None and not stated.put:
            yield "inner", "it does not take puts, so nothing would ever be signed"

    async def build(self, name: str, context: Context) -> PathInfoService:
        from tvix_store.signing import SecretKey
        from tvix_store_signing.path_info import SigningPathInfoService

        files = [self.keyfile] if isinstance(self.keyfile, str) else self.keyfile
        keys = [await asyncio.to_thread(SecretKey.read, Path(file)) for file in files]
        return SigningPathInfoService(await context.path_info_service(self.inner), keys)


@hookimpl
def tvix_store_path_info_services() -> Sequence[type[PathInfoServiceConfig]]:
    """Path infos."""
    return [KeyfileSigningPathInfoServiceConfig]
