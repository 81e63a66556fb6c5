"""What a request carries to show who it comes from; only to the host that it is meant for."""

from __future__ import annotations

import base64
import netrc
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from tvix_store.errors import ConfigError

__all__ = ["Credentials", "without_credentials"]

_TOKEN = re.compile(r"[!-~]+")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Credentials:
    """The Authorization header for one origin: scheme, host and port.

    Args:
        origin: Where it may be sent.
        header: Its value; ``None`` if there is nothing to show.
    """

    origin: tuple[str, str, int]
    header: str | None = field(repr=False)

    @classmethod
    def load(cls, base_url: str, *, netrc_path: str | None = None, bearer_token_path: str | None = None) -> Credentials:
        """For the cache at ``base_url``: those in the URL, else the token, else those of the netrc file.

        Raises:
            ConfigError: A file cannot be read, or does not hold what it should.
        """
        parts = urlsplit(base_url)
        header = None
        if parts.username is not None:
            header = _basic(unquote(parts.username), unquote(parts.password or ""))
        elif bearer_token_path is not None:
            header = f"Bearer {_read_token(bearer_token_path)}"
        elif netrc_path is not None:
            header = _from_netrc(netrc_path, parts.hostname or "")
        return cls(_origin(parts), header)

    def headers(self, url: str) -> dict[str, str]:
        """What to send with a request to ``url``: nothing if that is another origin."""
        if self.header is None or _origin(urlsplit(url)) != self.origin:
            return {}
        return {"Authorization": self.header}


def without_credentials(url: str) -> str:
    """The URL without user and password."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def _basic(user: str, password: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _read_token(path: str) -> str:
    try:
        token = Path(path).read_text(encoding="utf-8").strip()
    except OSError as exc:
        raise ConfigError(f"bearer_token {path}: {exc.strerror}") from exc
    except UnicodeDecodeError:
        raise ConfigError(f"bearer_token {path}: not a text file") from None  # it may quote the secret
    if not _TOKEN.fullmatch(token):
        raise ConfigError(f"bearer_token {path}: expected one word")
    return token


def _from_netrc(path: str, host: str) -> str | None:
    try:
        found = netrc.netrc(path).authenticators(host)
    except OSError as exc:
        raise ConfigError(f"netrc {path}: {exc.strerror}") from exc
    except (netrc.NetrcParseError, UnicodeDecodeError):
        raise ConfigError(f"netrc {path}: not a netrc file") from None  # it may quote a password
    if found is None:
        return None
    login, account, password = found
    return _basic(login or account or "", password or "")
