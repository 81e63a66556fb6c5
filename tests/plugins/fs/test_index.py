"""The index: what is seen, what keeps pieces, and what goes when."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing

import pytest
from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from tvix_store_fs import index, upkeep
from tvix_store_fs.frame import Kind, Record, chunk_bytes
from tvix_store_fs.index import Entry, Vanished


def digest_of(name: object) -> bytes:
    return blake3(str(name).encode()).digest()


A, B, C, D, BLOB, OTHER = map(digest_of, ["a", "b", "c", "d", "blob", "other"])


def opened() -> sqlite3.Connection:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    connection.executescript(index.SCHEMA.tables)
    return connection


@pytest.fixture
def connection() -> Iterator[sqlite3.Connection]:
    with closing(opened()) as connection:
        yield connection


def pieces(position: int, *digests: bytes, is_blob: bool = False) -> Entry:
    return Entry(position, 100, Kind.PIECES, 10 * len(digests), [Record(digest, 10, is_blob) for digest in digests])


def lists(position: int, **blobs: Sequence[bytes]) -> Entry:
    payloads = [b"".join(chunk_bytes(chunk, 10) for chunk in chunks) for chunks in blobs.values()]
    records = [Record(digest_of(name), len(payload), True) for name, payload in zip(blobs, payloads, strict=True)]
    raw = b"".join(payloads)
    return Entry(position, 100, Kind.LISTS, len(raw), records, raw)


def listed(connection: sqlite3.Connection) -> set[bytes]:
    return set(index.list_after(connection, b"", 1000))


def test_what_is_put_is_seen(connection: sqlite3.Connection) -> None:
    index.add(connection, 1, [pieces(0, A, B, is_blob=True), pieces(100, C, D), lists(200, blob=[C, D, C])])
    assert index.has_many(connection, [A, B, C, D, BLOB, OTHER]) == [True, True, True, True, True, False]
    assert index.blobs_among(connection, [A, C, BLOB, OTHER]) == [True, False, True, False]
    assert listed(connection) == {A, B, BLOB}
    assert index.lists_after(connection, b"", 10) == [(BLOB, 3)]
    totals = upkeep.totals(connection)
    assert (totals.blobs, totals.blob_bytes, totals.pieces, totals.piece_bytes) == (3, 50, 4, 40)


def test_chunks_without_a_list_are_not_seen(connection: sqlite3.Connection) -> None:
    index.add(connection, 1, [pieces(0, A)])
    assert index.has_many(connection, [A]) == [False]
    assert index.frames_of(connection, [A]) == [None]
    assert index.frames_with(connection, [A]) == [1]
    assert upkeep.totals(connection).pieces == 0


def test_a_list_of_what_is_not_there_is_refused(connection: sqlite3.Connection) -> None:
    index.add(connection, 1, [pieces(0, A)])
    with pytest.raises(Vanished, match="write it again"):
        index.add(connection, 1, [lists(100, blob=[A, B])])
    index.add(connection, 1, [lists(200, blob=[A, B])], strictly=False)
    assert index.has_many(connection, [A, BLOB]) == [False, False]


def test_a_frame_is_taken_in_once(connection: sqlite3.Connection) -> None:
    for _ in range(2):
        index.add(connection, 1, [pieces(0, A), lists(100, blob=[A])])
    index.delete(connection, [BLOB], {BLOB: [A]})
    assert index.has_many(connection, [A, BLOB]) == [False, False]


def test_the_first_copy_counts_unless_nobody_sees_it(connection: sqlite3.Connection) -> None:
    index.add(connection, 1, [pieces(0, A, is_blob=True), pieces(100, A, is_blob=True), pieces(200, B)])
    assert index.frames_of(connection, [A]) == [1]
    index.delete(connection, [A], {})
    index.add(connection, 1, [pieces(300, A, B, is_blob=True)])
    assert index.frames_of(connection, [A, B]) == [4, 4]


def test_a_piece_that_was_a_chunk_becomes_a_blob(connection: sqlite3.Connection) -> None:
    index.add(connection, 1, [pieces(0, A, B), lists(100, blob=[A, B]), pieces(200, A, is_blob=True)])
    index.delete(connection, [BLOB], {BLOB: [A, B]})
    assert index.has_many(connection, [A, B]) == [True, False]
    assert index.frames_of(connection, [A]) == [1]


names = st.sampled_from("abcdef")
puts = st.tuples(st.just("put"), names, st.just(()))
joins = st.tuples(st.just("list"), st.sampled_from("uvwa"), st.lists(names, min_size=1, max_size=4).map(tuple))
deletes = st.tuples(st.just("delete"), st.sampled_from("uvwabcdef"), st.just(()))


@settings(max_examples=60)
@given(st.lists(st.one_of(puts, joins, deletes), max_size=25))
def test_uses_are_what_the_blobs_need(steps: list[tuple[str, str, tuple[str, ...]]]) -> None:
    """Whatever is put and deleted, each piece counts the lists that it is in, and whether it is a blob."""
    wholes: set[bytes] = set()
    chunked: dict[bytes, list[bytes]] = {}
    with closing(opened()) as connection:
        for number, (what, name, chunk_names) in enumerate(steps):
            digest, chunks = digest_of(name), [digest_of(chunk) for chunk in chunk_names]
            if what == "put":
                index.add(connection, 1, [pieces(1000 * number, digest, is_blob=True)])
                wholes.add(digest)
            elif what == "list":
                index.add(
                    connection, 1, [pieces(1000 * number, *set(chunks)), lists(1000 * number + 500, **{name: chunks})]
                )
                chunked.setdefault(digest, chunks)
            else:
                index.delete(connection, [digest], {digest: chunked[digest]} if digest in chunked else {})
                wholes.discard(digest)
                chunked.pop(digest, None)
        expected = {
            digest: (digest in wholes) + 2 * sum(digest in chunks for chunks in chunked.values())
            for digest in map(digest_of, "abcdef")
        }
        found = dict(connection.execute("SELECT digest, uses FROM piece").fetchall())
        assert {digest: found.get(digest, 0) for digest in expected} == expected
        assert listed(connection) == wholes | chunked.keys()


def test_pages_of_the_list(connection: sqlite3.Connection) -> None:
    digests = sorted(digest_of(number) for number in range(50))
    index.add(connection, 1, [pieces(0, *digests, is_blob=True)])
    found: list[bytes] = []
    while page := index.list_after(connection, found[-1] if found else b"", 7):
        found += page
    assert found == digests


@pytest.mark.parametrize("count", [0, 1, 7, 8, 127, 128, 129, 1000])
def test_many_are_looked_up_in_their_order(connection: sqlite3.Connection, count: int) -> None:
    digests = [digest_of(number) for number in range(1000)]
    for number in range(0, 1000, 2):
        index.add(connection, 1, [pieces(number, digests[number], is_blob=True)])
    assert index.has_many(connection, digests[:count]) == [number % 2 == 0 for number in range(count)]


def test_places(connection: sqlite3.Connection) -> None:
    index.add(connection, 7, [pieces(16, A), pieces(116, B)])
    assert index.places(connection, [2, 3]) == {2: index.Place(2, 7, 116, 100, 10)}
    assert [place.position for place in index.frames_in(connection, 7)] == [16, 116]


def test_uploads_protect_what_came_after_them(connection: sqlite3.Connection) -> None:
    index.add(connection, 1, [pieces(0, A)])
    assert index.first_protected_frame(connection) == 2
    index.add_upload(connection, "one")
    index.add(connection, 1, [pieces(100, B)])
    assert index.uploads(connection) == ["one"]
    assert index.first_protected_frame(connection) == 2
    index.drop_upload(connection, "one")
    assert index.first_protected_frame(connection) == 3


def test_uploads_protect_what_those_beside_them_have_stored(connection: sqlite3.Connection) -> None:
    index.add_upload(connection, "one")
    index.add(connection, 1, [pieces(100, B)])
    index.add_upload(connection, "two")
    index.drop_upload(connection, "one")
    assert index.first_protected_frame(connection) == 1
    index.drop_upload(connection, "two")
    assert index.first_protected_frame(connection) == 2


def test_a_pack_is_removed_when_nothing_in_it_is_needed(connection: sqlite3.Connection) -> None:
    index.add(connection, 1, [pieces(0, A, B, is_blob=True), pieces(100, C)])
    index.set_pack(connection, 1, 200, 200)
    contents = {1: [A, B], 2: [C]}
    assert upkeep.remove_pack(connection, 1, contents) is False
    index.delete(connection, [A, B], {})
    assert upkeep.remove_pack(connection, 1, contents) is True
    assert index.packs(connection) == {}
    assert index.frames_in(connection, 1) == []
    assert index.frames_with(connection, [A, B, C]) == [None] * 3


def test_a_pack_that_an_upload_needs_stays(connection: sqlite3.Connection) -> None:
    index.add_upload(connection, "one")
    index.add(connection, 1, [pieces(0, A)])
    assert upkeep.remove_pack(connection, 1, {1: [A]}) is False
    index.drop_upload(connection, "one")
    assert upkeep.remove_pack(connection, 1, {1: [A]}) is True


def test_moving_takes_only_what_is_still_there(connection: sqlite3.Connection) -> None:
    index.add(connection, 1, [pieces(0, A, B, is_blob=True)])
    index.delete(connection, [B], {})
    index.add(connection, 2, [pieces(0, B, is_blob=True)])
    upkeep.move(connection, 3, [pieces(0, A, B, is_blob=True)], [{1: [A, B]}])
    assert index.frames_of(connection, [A, B]) == [3, 2]


def test_numbers_of_packs_are_not_given_twice(connection: sqlite3.Connection) -> None:
    assert index.next_pack(connection) == 1
    index.set_pack(connection, 4, 16, 16)
    assert index.next_pack(connection) == 5
    index.forget_pack(connection, 4)
    assert index.next_pack(connection) == 5
    index.set_pack(connection, 2, 16, 16)
    assert index.next_pack(connection) == 5


def test_dropped_frames_take_their_pieces_with_them(connection: sqlite3.Connection) -> None:
    index.add(connection, 1, [pieces(0, A, is_blob=True), pieces(100, B, is_blob=True)])
    index.drop_frames(connection, [2])
    assert index.has_many(connection, [A, B]) == [True, False]


def test_dropped_pieces_tell_whether_blobs_need_them(connection: sqlite3.Connection) -> None:
    index.add(connection, 1, [pieces(0, A, B), lists(100, blob=[A]), pieces(200, C, is_blob=True)])
    assert index.drop_pieces(connection, 3, [C]) is False
    assert index.drop_pieces(connection, 2, [A]) is False  # it is in another frame
    assert index.drop_pieces(connection, 1, [A, B]) is True
    assert index.frames_with(connection, [A, B, C]) == [None] * 3


def test_strays_are_dropped(connection: sqlite3.Connection) -> None:
    index.add(connection, 1, [pieces(0, A, is_blob=True), pieces(100, B, is_blob=True), lists(200, blob=[A])])
    connection.execute("DELETE FROM frame WHERE id > 1")
    assert set(upkeep.drop_strays(connection)) == {B, BLOB}
    assert listed(connection) == {A}


def test_restoring_completes_what_is_missing(connection: sqlite3.Connection) -> None:
    entries = [pieces(0, A, B, is_blob=True), pieces(100, C), lists(200, blob=[C])]
    index.add(connection, 1, entries)
    connection.execute("DELETE FROM piece WHERE digest = ?", (A,))
    connection.execute("DELETE FROM frame WHERE id = 3")
    connection.execute("DELETE FROM list")
    connection.execute("UPDATE piece SET uses = 0 WHERE digest = ?", (C,))
    upkeep.restore(connection, 1, entries)
    assert listed(connection) == {A, B, BLOB}
    assert index.has_many(connection, [C]) == [True]


def test_usage_counts_what_is_alive(connection: sqlite3.Connection) -> None:
    index.add(connection, 1, [pieces(0, A, B, is_blob=True), pieces(100, C), lists(200, blob=[C])])
    assert upkeep.usage(connection) == [upkeep.Usage(1, 300, 300)]
    index.delete(connection, [A, BLOB], {BLOB: [C]})
    assert upkeep.usage(connection) == [upkeep.Usage(1, 300, 50)]


def test_what_nobody_sees_can_be_forgotten_from_a_position_on(connection: sqlite3.Connection) -> None:
    index.add(connection, 1, [pieces(0, A), pieces(100, B), pieces(200, C), lists(300, blob=[C])])
    index.add(connection, 2, [pieces(200, D)])
    index.drop_unseen(connection, 1, 100)
    assert index.frames_with(connection, [A, B, C, D]) == [1, None, 3, 5]
    assert listed(connection) == {BLOB}
