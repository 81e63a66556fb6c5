"""What each combinator can do, from what its members can do; the same for a configuration and for what it builds."""

from __future__ import annotations

from collections.abc import Sequence

from tvix_store.capabilities import Capabilities, Durability

__all__ = [
    "fallback_capabilities",
    "mirror_capabilities",
    "part_capabilities",
    "read_write_capabilities",
    "shard_capabilities",
]

_STRENGTHS = (Durability.NONE, Durability.BATCHED, Durability.COMMIT)


def _from_weakest(members: Sequence[Capabilities]) -> Sequence[Durability]:
    return sorted((member.durability for member in members), key=_STRENGTHS.index)


def fallback_capabilities(members: Sequence[Capabilities]) -> Capabilities:
    """Members in their order; the first that takes puts is written to."""
    targets = [member for member in members if member.put]
    return Capabilities(
        put=bool(targets),
        list=all(member.list for member in members),
        delete=all(member.delete for member in members),
        chunks=any(member.chunks for member in members),
        verifies=all(member.verifies for member in members),
        compact=any(member.compact for member in members),
        durability=targets[0].durability if targets else Durability.NONE,
    )


def mirror_capabilities(members: Sequence[Capabilities], min_writes: int) -> Capabilities:
    """Replicas, so many of which have taken a put that returned.

    Which ones, nobody knows beforehand: if it was the weakest, the put survives what the strongest of these survives.
    """
    return Capabilities(
        put=sum(member.put for member in members) >= min_writes,
        list=all(member.list for member in members),
        delete=all(member.delete for member in members),
        chunks=all(member.chunks for member in members),
        verifies=all(member.verifies for member in members),
        compact=any(member.compact for member in members),
        durability=_from_weakest(members)[min_writes - 1],
    )


def shard_capabilities(members: Sequence[Capabilities]) -> Capabilities:
    """Each object is in one of them. Chunks would be looked for in other shards than their blob."""
    return Capabilities(
        put=all(member.put for member in members),
        list=all(member.list for member in members),
        delete=all(member.delete for member in members),
        verifies=all(member.verifies for member in members),
        compact=any(member.compact for member in members),
        durability=_from_weakest(members)[0],
    )


def part_capabilities(members: Sequence[Capabilities]) -> Capabilities:
    """Objects are in one or the other, and all are asked."""
    return Capabilities(
        put=all(member.put for member in members),
        list=all(member.list for member in members),
        delete=all(member.delete for member in members),
        chunks=any(member.chunks for member in members),
        verifies=all(member.verifies for member in members),
        compact=any(member.compact for member in members),
        durability=_from_weakest(members)[0],
    )


def read_write_capabilities(read: Capabilities, write: Capabilities) -> Capabilities:
    """One is read from, the other one is written to."""
    return Capabilities(
        put=write.put,
        list=read.list,
        delete=write.delete,
        chunks=read.chunks,
        verifies=read.verifies,
        compact=write.compact,
        durability=write.durability,
    )
