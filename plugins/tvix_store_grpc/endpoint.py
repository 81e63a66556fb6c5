"""The URLs of remote services, which are also what the configuration holds: ``grpc+http://[::1]:8000``."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from tvix_store.config import ServiceUrl

__all__ = ["Endpoint", "parse_endpoint"]

_WAIT_CONNECT = "wait-connect"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A daemon to connect to.

    Args:
        text: What to call it in messages: its URL without the query.
        target: In gRPC's syntax.
        tls: Whether to use TLS, with the roots of the system.
        wait_connect: Whether to connect when the service is built, and fail if that fails.
    """

    text: str
    target: str
    tls: bool
    wait_connect: bool


def parse_endpoint(text: str) -> Endpoint:
    """Read ``grpc+http://host[:port]``, ``grpc+https://host[:port]``, ``grpc+unix:/path`` or ``grpc+unix:@name``.

    Raises:
        ConfigError: It is none of these, or has parts that they do not have.
    """
    url = ServiceUrl(text)
    parts = url.parts
    if url.tag != "grpc" or url.transport not in ("http", "https", "unix"):
        raise url.refuse("expected grpc+http://host:port, grpc+https://host:port or grpc+unix:/path")
    if parts.fragment:
        raise url.refuse("a fragment has no meaning here")
    query = url.query()
    wait_connect = query.pop(_WAIT_CONNECT, "0")
    if query:
        raise url.refuse(f"unknown parameter {next(iter(query))!r}; there is only {_WAIT_CONNECT}")
    if wait_connect not in ("0", "1"):
        raise url.refuse(f"{_WAIT_CONNECT} must be 0 or 1")
    name = text.partition("?")[0]
    if url.transport == "unix":
        return Endpoint(name, _unix_target(url), False, wait_connect == "1")
    if parts.path:
        raise url.refuse("a path has no meaning here")
    if "@" in parts.netloc:
        raise url.refuse("credentials have no meaning here")
    if not parts.hostname:
        raise url.refuse("the host is missing")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = _DEFAULT_PORTS[url.transport] if url.port is None else url.port
    return Endpoint(name, f"dns:///{host}:{port}", url.transport == "https", wait_connect == "1")


def _unix_target(url: ServiceUrl) -> str:
    """The path is taken as it stands, without percent-decoding, as the reference does."""
    path = url.parts.path
    if url.host:
        raise url.refuse("a Unix socket has no host; three slashes begin a path")
    if path.startswith("@") and len(path) > 1:
        return f"unix-abstract:{quote(path[1:])}"
    if not path.startswith("/"):
        raise url.refuse("the path of the Unix socket must be absolute")
    return f"unix:{quote(path)}"
