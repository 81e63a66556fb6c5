"""Who may write: nobody, everybody who can reach the address, or those who know a password."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from pathlib import Path
from typing import Self

from aiohttp import web

from tvix_store.errors import ConfigError
from tvix_store_http.errors import answer
from tvix_store_http.site import Site, SiteOptions

__all__ = ["Credentials", "Writes", "refused", "writes_for"]

_MAX_FILE_BYTES = 1024 * 1024
_MAX_HEADER_CHARACTERS = 4096


class Credentials:
    """The users of a file of ``USER:PASSWORD`` lines. Only the hashes of the lines are held.

    Args:
        digests: SHA-256 of each line; at least one.
    """

    def __init__(self, digests: frozenset[bytes]) -> None:
        self._digests = digests

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the file. Empty lines and those that begin with ``#`` are passed over.

        Raises:
            ConfigError: It cannot be read, or there is something else in it; never shows what.
        """
        try:
            with path.open("rb") as file:
                content = file.read(_MAX_FILE_BYTES + 1)
        except OSError as exc:
            raise ConfigError(f"credentials {path}: {(exc.strerror or str(exc)).lower()}") from exc
        if len(content) > _MAX_FILE_BYTES:
            raise ConfigError(f"credentials {path}: longer than {_MAX_FILE_BYTES} bytes")
        digests = set()
        for number, line in enumerate(content.splitlines(), 1):
            if not line.strip() or line.startswith(b"#"):
                continue
            user, colon, password = line.partition(b":")
            if not user or not colon or not password:
                raise ConfigError(f"credentials {path}: line {number} is not USER:PASSWORD")
            digests.add(hashlib.sha256(line).digest())
        if not digests:
            raise ConfigError(f"credentials {path}: there is no USER:PASSWORD line in it")
        return cls(frozenset(digests))

    def accept(self, authorization: str) -> bool:
        """Whether the value of an ``Authorization`` header names a user with the right password.

        Takes as long whichever of them it is, and however much of it is right.
        """
        scheme, _, encoded = authorization.strip().partition(" ")
        if scheme.lower() != "basic" or len(encoded) > _MAX_HEADER_CHARACTERS:
            return False
        try:
            given = hashlib.sha256(base64.b64decode(encoded.strip(), validate=True)).digest()
        except (binascii.Error, ValueError):
            return False
        found = False
        for digest in self._digests:
            found |= hmac.compare_digest(digest, given)
        return found


class Writes:
    """Decides for each PUT whether it may go on.

    Args:
        refusal: Why nobody may write; ``None`` if somebody may.
        credentials: Who may; ``None``: everybody.
    """

    def __init__(self, refusal: str | None, credentials: Credentials | None) -> None:
        self._refusal = refusal
        self._credentials = credentials

    def check(self, request: web.Request) -> web.Response | None:
        """How a PUT is refused; ``None`` if it may go on."""
        if self._refusal is not None:
            return answer(403, self._refusal)
        if self._credentials is None or self._credentials.accept(request.headers.get("Authorization", "")):
            return None
        challenge = 'Basic realm="tvix-store", charset="UTF-8"'
        return answer(401, "uploads need a user and a password", {"WWW-Authenticate": challenge})


def writes_for(name: str, address: str, is_local: bool, options: SiteOptions) -> Writes | None:
    """Who may write to a frontend; ``None`` if it is read-only.

    Where there are credentials, they are needed on every address: behind a proxy all clients look local.

    Args:
        name: Of the frontend, for messages.
        address: Where it listens, for messages.
        is_local: Whether only this machine can reach it.
        options: Its settings.

    Raises:
        ConfigError: The credentials cannot be read.
    """
    credentials = None if options.credentials_file is None else Credentials.load(options.credentials_file)
    if not options.allow_writes:
        return None
    if is_local or options.allow_remote_writes or credentials is not None:
        return Writes(None, credentials)
    return Writes(
        f"frontend {name!r} takes no uploads, because other machines can reach {address}; credentials_file, or "
        "allow_remote_writes = true, changes that",
        None,
    )


def refused(site: Site, request: web.Request) -> web.Response | None:
    """How a PUT is refused; ``None`` if it may go on."""
    if site.writes is None or site.state is None:
        why = "is read-only" if site.writes is None else "is read-only: no place for the state of uploads is configured"
        return answer(405, f"this binary cache {why}", {"Allow": "GET, HEAD"})
    return site.writes.check(request)
