"""The compositions that are driven. Their leaves, which keep what they have, fail on purpose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["BLOBS", "CHAINS", "Chain", "Document", "Entries", "disk"]

Entry = Mapping[str, Any]
Entries = dict[str, Entry]
Document = dict[str, Entries]
EntriesOf = Callable[[str, str], Entries]

BLOBS, DIRECTORIES, PATH_INFOS = "blobservices", "directoryservices", "pathinfoservices"
_KINDS = (BLOBS, DIRECTORIES, PATH_INFOS)


@dataclass(frozen=True)
class Chain:
    """One composition.

    Args:
        entries: Those of one kind, for the folder that its files are to be in; ``root`` is one of them.
        lists_everything: Whether ``list`` gives all there is.
        times_out: Whether a call that hangs ends by itself.
        recovers_late: Whether it takes a while to notice that what failed is well again.
    """

    entries: EntriesOf
    lists_everything: bool = True
    times_out: bool = False
    recovers_late: bool = False

    def document(self, folder: str, seed: int) -> Document:
        """The whole configuration; ``seed`` is that of the dice."""
        document = {kind: self.entries(kind, folder) for kind in _KINDS}
        for entries in document.values():
            for name, entry in entries.items():
                if entry["type"] == "fault":
                    entries[name] = {**entry, "seed": seed}
        return document


def disk(name: str, kind: str, folder: str) -> Entries:
    """A leaf in a file, by the name."""
    kept: Entry = {"type": "sqlite", "path": f"{folder}/{name}.sqlite", "max_readers": 2, "durability": "batched"}
    if kind == BLOBS:
        kept = {"type": "fs", "path": f"{folder}/{name}", "durability": "batched"}
    return {name: {"type": "fault", "inner": f"{name}-kept"}, f"{name}-kept": kept}


def _remote(name: str) -> Entries:
    """A leaf in another composition."""
    return {name: {"type": "fault", "inner": f"{name}-kept"}, f"{name}-kept": {"type": "standing", "at": name}}


def _lru(kind: str) -> Entry:
    """Small enough that not all fits."""
    return {"type": "lru", "max_bytes": 500_000} if kind == BLOBS else {"type": "lru", "capacity": 5}


def _plain(kind: str, folder: str) -> Entries:
    return disk("root", kind, folder)


def _layers(write: str, skips: bool = False) -> EntriesOf:
    """Memory over a disk over a remote store."""

    def entries(kind: str, folder: str) -> Entries:
        return {
            "root": {"type": "cache", "near": "memory", "far": "layers", "write": "both", "negative_ttl_s": 60.0},
            "memory": _lru(kind),
            "layers": {"type": "cache", "near": "disk", "far": "remote", "write": write, "skip_near_errors": skips},
            **disk("disk", kind, folder),
            **_remote("remote"),
        }

    return entries


def _mirror(min_writes: int) -> EntriesOf:
    def entries(kind: str, folder: str) -> Entries:
        return {
            "root": {"type": "mirror", "replicas": ["one", "two"], "min_writes": min_writes},
            **disk("one", kind, folder),
            **disk("two", kind, folder),
        }

    return entries


def _shard(kind: str, folder: str, *names: str) -> Entry:
    shard: Entry = {"type": "shard", "shards": {name: name for name in names}}
    return {**shard, "spool_dir": folder} if kind == BLOBS else shard


def _shards(kind: str, folder: str) -> Entries:
    """Four of them, below a cache in memory."""
    return {
        "root": {"type": "cache", "near": "memory", "far": "shards", "write": "both"},
        "memory": _lru(kind),
        "shards": _shard(kind, folder, "a", "b", "c", "d"),
        **disk("a", kind, folder),
        **disk("b", kind, folder),
        **_remote("c"),
        **_remote("d"),
    }


def _guarded(kind: str, folder: str) -> Entries:
    """All that helps against a store that cannot be relied on."""
    return {
        "root": {"type": "singleflight", "inner": "retry"},
        "retry": {"type": "retry", "inner": "breaker", "attempts": 3, "backoff_s": 0.0001, "max_backoff_s": 0.001},
        "breaker": {"type": "breaker", "inner": "timeout", "failures": 5, "open_s": 0.001, "max_open_s": 0.004},
        "timeout": {"type": "timeout", "inner": "limit", "seconds": 2.0},
        "limit": {"type": "limit", "inner": "disk", "concurrency": 3},
        **disk("disk", kind, folder),
    }


def _fallback(kind: str, folder: str) -> Entries:
    return {
        "root": {"type": "fallback", "services": ["one", "two"]},
        **disk("one", kind, folder),
        **_remote("two"),
    }


def _deep(kind: str, folder: str) -> Entries:
    """Mirrored shards behind what guards them, and two caches."""
    return {
        "root": {"type": "cache", "near": "memory", "far": "exists", "write": "both"},
        "memory": _lru(kind),
        "exists": {"type": "exists", "inner": "verify", "negative_ttl_s": 60.0},
        "verify": {"type": "verify", "inner": "observe"},
        "observe": {"type": "observe", "inner": "retry"},
        "retry": {"type": "retry", "inner": "mirror", "attempts": 2, "backoff_s": 0.0001, "max_backoff_s": 0.001},
        "mirror": {"type": "mirror", "replicas": ["shards", "far"], "min_writes": 1},
        "shards": _shard(kind, folder, "a", "b"),
        **disk("a", kind, folder),
        **_remote("b"),
        **_remote("far"),
    }


CHAINS: dict[str, Chain] = {
    "one leaf": Chain(_plain),
    "layers, written far": Chain(_layers("far")),
    "layers, written near": Chain(_layers("near")),
    "layers, written to both, near errors skipped": Chain(_layers("both", skips=True)),
    "mirror, one write is enough": Chain(_mirror(1)),
    "mirror, both writes wanted": Chain(_mirror(2)),
    "shards": Chain(_shards),
    "guarded": Chain(_guarded, times_out=True, recovers_late=True),
    "fallback": Chain(_fallback),
    "deep": Chain(_deep),
}
