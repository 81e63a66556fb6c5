"""Which shard an object belongs to: stable, by weight, and only what has to move moves."""

from __future__ import annotations

from collections import Counter

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from tvix_store_spread.rendezvous import Rendezvous

DIGESTS = [blake3(b"%d" % number).digest() for number in range(4000)]
WEIGHTS = st.dictionaries(st.text(max_size=5), st.floats(0.001, 1000), min_size=2, max_size=6)
SOME = st.lists(st.binary(min_size=20, max_size=32), max_size=40)


def test_owners_are_the_same_in_every_version() -> None:
    rendezvous = Rendezvous({"a": 1.0, "b": 2.0, "c": 0.5, "d": 1.0})
    assert "".join(rendezvous.owner(digest) for digest in DIGESTS[:40]) == OWNERS


OWNERS = "cbbdcdabcabbbbacdabbbabbdbaadbababddacad"


@given(WEIGHTS, SOME)
def test_the_order_of_the_shards_makes_no_difference(weights: dict[str, float], digests: list[bytes]) -> None:
    turned = Rendezvous(dict(reversed(weights.items())))
    assert [Rendezvous(weights).owner(digest) for digest in digests] == [turned.owner(digest) for digest in digests]


@given(WEIGHTS, SOME, st.data())
def test_exactly_what_a_removed_shard_had_moves(
    weights: dict[str, float], digests: list[bytes], data: st.DataObject
) -> None:
    removed = data.draw(st.sampled_from(sorted(weights)))
    before = Rendezvous(weights)
    after = Rendezvous({name: weight for name, weight in weights.items() if name != removed})
    for digest in digests:
        owner = before.owner(digest)
        assert (after.owner(digest) == owner) is (owner != removed)


@given(WEIGHTS, SOME, st.data())
def test_a_heavier_shard_only_gains(weights: dict[str, float], digests: list[bytes], data: st.DataObject) -> None:
    heavier = data.draw(st.sampled_from(sorted(weights)))
    before, after = Rendezvous(weights), Rendezvous({**weights, heavier: weights[heavier] * 2})
    for digest in digests:
        assert after.owner(digest) in (before.owner(digest), heavier)


@pytest.mark.parametrize(
    "weights", [{"a": 1.0}, {"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 3.0}, {"a": 5.0, "b": 2.0, "c": 2.0, "d": 1.0}]
)
def test_shares_follow_the_weights(weights: dict[str, float]) -> None:
    rendezvous = Rendezvous(weights)
    shares = Counter(rendezvous.owner(digest) for digest in DIGESTS)
    for name, weight in weights.items():
        share = weight / sum(weights.values())
        deviation = (len(DIGESTS) * share * (1 - share)) ** 0.5
        assert abs(shares[name] - len(DIGESTS) * share) <= 4 * deviation


def test_parts_keep_their_order() -> None:
    parts = Rendezvous({"a": 1.0, "b": 1.0}).parts((digest, number) for number, digest in enumerate(DIGESTS[:100]))
    assert all(part == sorted(part) for part in parts.values())
    assert sorted(number for part in parts.values() for number in part) == [*range(100)]
