"""A binary cache behind HTTP: requests with retries, redirects, and downloads that go on where they broke off."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from tvix_store.compression import decompressed
from tvix_store.errors import ConfigError, DanglingReference, InvalidObject, LimitExceeded, Unavailable
from tvix_store.limits import MIB, PIECE_BYTES
from tvix_store.nixbase32 import shown
from tvix_store.telemetry import outgoing_headers
from tvix_store_nix.credentials import Credentials, without_credentials
from tvix_store_nix.download import Changed, Download, content_encoding
from tvix_store_nix.retrying import Backoff, Trouble, may_pass, parse_retry_after
from tvix_store_nix.upstream import Upstream, joined, shown_url

__all__ = ["HttpOptions", "HttpUpstream"]

T = TypeVar("T")

ABSENT = (404, 403, 410)
"""Statuses that mean "not there"; plain S3 buckets answer 403."""

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 10
_CONNECTIONS = 32
_PROGRESS_BYTES = 1 * MIB
"""A download that got this far since it last broke off counts as going on, not as failing again."""

_ENCODINGS = {"gzip": "gzip", "x-gzip": "gzip", "br": "br", "zstd": "zstd", "xz": "xz", "bzip2": "bzip2"}


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """How to talk to an upstream.

    Args:
        timeout_s: How long nothing may come, and how long connecting may take.
        backoff: How often to try again, and when.
        proxy: URL of a proxy; ``None`` for none.
        ca_file: Certificates to trust, in place of those of the system.
    """

    timeout_s: float = 30.0
    backoff: Backoff = field(default_factory=Backoff)
    proxy: str | None = None
    ca_file: str | None = None


class HttpUpstream(Upstream):
    """A binary cache at an http or https URL. Connects when it is first asked for something.

    Args:
        name: Of the entry, for messages.
        base_url: Where ``nix-cache-info`` is.
        credentials: What to show there.
        options: How to talk to it.

    Raises:
        ConfigError: ``ca_file`` cannot be used.
    """

    def __init__(self, name: str, base_url: str, credentials: Credentials, options: HttpOptions | None = None) -> None:
        self.name = name
        self._base_url = without_credentials(base_url)
        self._credentials = credentials
        self._options = options or HttpOptions()
        self._ssl = True if self._options.ca_file is None else _ssl_context(self._options.ca_file)
        self._session: aiohttp.ClientSession | None = None

    async def read(self, name: str, max_bytes: int) -> bytes | None:
        url = joined(self._base_url, name)

        async def attempt() -> bytes | None:
            async with self._requested(url, {"Accept-Encoding": "zstd, br, gzip"}) as response:
                if response.status in ABSENT:
                    return None
                self._check_ok(response)
                return await self._whole(response, max_bytes)

        return await self._retried(url, attempt)

    async def _retried(self, url: str, attempt: Callable[[], Awaitable[T]]) -> T:
        failures = 0
        while True:
            try:
                return await attempt()
            except Trouble as trouble:
                failures += 1
                await self._pause(url, failures, trouble)

    async def _pause(self, url: str, failures: int, trouble: Trouble) -> None:
        """Wait for the next attempt.

        Raises:
            Unavailable: There is none.
        """
        backoff = self._options.backoff
        delay_s = backoff.delay_s(failures, trouble)
        if delay_s is None:
            end = f"gave up after {failures} attempts"
            if (asked_s := trouble.retry_after_s) is not None and asked_s > backoff.patience_s:
                end = f"wants not to be asked for {asked_s:.0f} s"
            raise Unavailable(f"{self.name}: {shown_url(url)}: {trouble}; {end}") from trouble
        await backoff.sleep(delay_s)

    async def _whole(self, response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
        where = shown_url(str(response.url))
        data = bytearray()
        try:
            async with aclosing(self._body(response, max_bytes)) as pieces:
                async for piece in pieces:
                    data += piece
                    if len(data) > max_bytes:
                        raise LimitExceeded(f"longer than {max_bytes} bytes")
        except InvalidObject as exc:
            raise type(exc)(f"{self.name}: {where}: {exc}") from exc
        return bytes(data)

    async def stream(self, url: str, *, is_compressed: bool) -> AsyncGenerator[bytes]:
        target = without_credentials(joined(self._base_url, url))
        download = Download(is_compressed)
        failures = 0
        while True:
            start = download.position
            try:
                async with self._requested(target, download.headers()) as response:
                    if response.status in ABSENT:
                        raise DanglingReference(f"{shown_url(target)} does not exist ({response.status})")
                    self._check_ok(response, download.can_resume)
                    download.take(response)
                    async with aclosing(self._body(response)) as pieces:
                        async for piece in pieces:
                            if rest := download.advance(piece):
                                yield rest
                return
            except Changed as exc:
                raise Unavailable(f"{self.name}: {shown_url(target)}: {exc}") from exc
            except Trouble as trouble:
                failures = 1 if download.position - start >= _PROGRESS_BYTES else failures + 1
                await self._pause(target, failures, trouble)

    def _check_ok(self, response: aiohttp.ClientResponse, may_be_partial: bool = False) -> None:
        """Check that the body is what was asked for.

        Raises:
            Trouble: The status is one that may pass.
            Unavailable: It is not.
        """
        status = response.status
        if status == 200 or (status == 206 and may_be_partial):
            return
        reason = f"{status} {shown(response.reason or '')[1:-1]}".rstrip()
        if may_pass(status):
            raise Trouble(reason, parse_retry_after(response.headers.get("Retry-After")))
        if status in (401, 407):
            reason += " (credentials are given in the URL, or by the keys netrc and bearer_token)"
        raise Unavailable(f"{self.name}: {shown_url(str(response.url))}: {reason}")

    @asynccontextmanager
    async def _requested(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to a GET, after redirects. Credentials go to the base's own origin only.

        Raises:
            Trouble: The transport failed.
            Unavailable: The redirects have no end, or lead where they must not lead.
        """
        for _ in range(_MAX_REDIRECTS + 1):
            response = await self._sent(url, headers)
            try:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    yield response
                    return
            finally:
                response.release()
            url = self._redirected(url, location)
        raise Unavailable(f"{self.name}: {shown_url(url)}: more than {_MAX_REDIRECTS} redirects")

    async def _sent(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        options = self._options
        try:
            return await self._opened().get(
                URL(url, encoded=True),
                headers={**headers, **dict(outgoing_headers()), **self._credentials.headers(url)},
                allow_redirects=False,
                proxy=options.proxy,
                ssl=self._ssl,
            )
        except (aiohttp.ClientSSLError, ValueError) as exc:  # a certificate or a URL; trying again changes neither
            raise Unavailable(f"{self.name}: {shown_url(url)}: {exc}") from exc
        except (aiohttp.ClientError, OSError) as exc:
            raise Trouble(self._reason(exc)) from exc

    def _redirected(self, url: str, location: str) -> str:
        try:
            target = joined("http://nowhere.invalid", urljoin(url, location))  # which is absolute already
        except (InvalidObject, ValueError) as exc:
            raise Unavailable(f"{self.name}: {shown_url(url)}: bad redirect: {exc}") from exc
        if urlsplit(url).scheme == "https" and urlsplit(target).scheme != "https":
            raise Unavailable(f"{self.name}: {shown_url(url)}: redirect from https to {shown_url(target)}")
        return without_credentials(target)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout_s = self._options.timeout_s
            self._session = aiohttp.ClientSession(
                headers={"User-Agent": f"tvix-store/{version('tvix-store')}"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeout_s, sock_read=timeout_s),
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,  # it has no limits, and does not know all methods
                read_bufsize=PIECE_BYTES,
            )
        return self._session

    def _reason(self, exc: Exception) -> str:
        if isinstance(exc, TimeoutError):
            return f"nothing came for {self._options.timeout_s:g} s"
        return " ".join(str(exc).split()) or type(exc).__name__

    async def _body(self, response: aiohttp.ClientResponse, max_bytes: int | None = None) -> AsyncGenerator[bytes]:
        """The body without its transfer encoding, in pieces of some size.

        Raises:
            Trouble: It broke off.
            InvalidObject: The encoding is not known, or is not what it says.
        """
        async with aclosing(self._received(response)) as received:
            encoding = content_encoding(response)
            if not encoding:
                async for piece in received:
                    yield piece
                return
            if encoding not in _ENCODINGS:
                raise InvalidObject(f"Content-Encoding {shown(encoding)} is none of {', '.join(_ENCODINGS)}")
            async with aclosing(decompressed(received, _ENCODINGS[encoding], max_bytes=max_bytes)) as decoded:
                async for piece in decoded:
                    yield piece

    async def _received(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes]:
        """The body as it was sent, in pieces that are worth a hop to another thread each."""
        gathered: list[bytes] = []
        n_bytes = 0
        trouble: Trouble | None = None
        try:
            while piece := await response.content.readany():
                gathered.append(piece)
                n_bytes += len(piece)
                if n_bytes >= PIECE_BYTES:
                    yield b"".join(gathered)
                    gathered, n_bytes = [], 0
        except (aiohttp.ClientError, OSError) as exc:
            trouble = Trouble(f"broke off: {self._reason(exc)}")
        if gathered:
            yield b"".join(gathered)
        if trouble is not None:
            raise trouble

    async def aclose(self) -> None:
        if self._session is not None:
            await self._session.close()


def _ssl_context(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as exc:
        raise ConfigError(f"ca_file {ca_file}: {exc}") from exc
