"""Whether two frontends want to listen on one address."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from itertools import combinations

from tvix_store.config import EntryConfig
from tvix_store.listen import ListenAddress
from tvix_store.listen_config import ListeningFrontendConfig

__all__ = ["same_address"]


def same_address(frontends: Mapping[str, EntryConfig]) -> tuple[str, str] | None:
    """The names of two that do, the later one last; ``None`` if there are none.

    Args:
        frontends: By name. Those that say that they share a port are left to it.
    """
    listening = [(name, entry) for name, entry in frontends.items() if isinstance(entry, ListeningFrontendConfig)]
    for (name, entry), (other_name, other) in combinations(listening, 2):
        if not (entry.tcp_reuse_port and other.tcp_reuse_port) and _overlap(entry.address, other.address):
            return name, other_name
    return None


def _overlap(a: ListenAddress, b: ListenAddress) -> bool:
    if a.kind != b.kind:
        return False
    if a.kind != "tcp":
        return a.path == b.path
    return a.port == b.port != 0 and any(_same_host(host, other) for host in a.hosts for other in b.hosts)


def _same_host(a: str, b: str) -> bool:
    ip, other = ipaddress.ip_address(a), ipaddress.ip_address(b)
    return ip.version == other.version and (ip == other or ip.is_unspecified or other.is_unspecified)
