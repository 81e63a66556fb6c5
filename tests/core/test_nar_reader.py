from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvix_store.errors import InvalidObject, LimitExceeded
from tvix_store.nar import NarWriter
from tvix_store.nar_reader import DirectoryEnd, DirectoryStart, Event, FileData, FileEnd, FileStart, NarReader, Symlink
from vectors.nar import MAGIC, TREES, Dir, File, Link, T, Tree, encode, nested
from vectors.nar_streams import ACCEPT, LIMIT, STREAMS, TRAILING, Stream

every_tree = pytest.mark.parametrize("name", TREES)
every_stream = pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)


def read(data: bytes, piece_bytes: int = 1 << 20, max_depth: int = 64) -> list[Event]:
    """All events, with adjacent pieces of content joined."""
    return read_pieces((data[i : i + piece_bytes] for i in range(0, len(data), piece_bytes)), max_depth)


def read_pieces(pieces: Iterable[bytes], max_depth: int = 64) -> list[Event]:
    reader = NarReader(max_depth=max_depth)
    events: list[Event] = []
    for piece in pieces:
        for event in reader.feed(piece):
            last = events[-1] if events else None
            if isinstance(event, FileData) and isinstance(last, FileData):
                events[-1] = FileData(last.data + event.data)
            else:
                events.append(event)
    reader.close()
    assert reader.done
    return events


def refusal(data: bytes, piece_bytes: int = 1 << 20) -> InvalidObject:
    with pytest.raises(InvalidObject) as caught:
        read(data, piece_bytes)
    assert "\n" not in str(caught.value)
    return caught.value


def build(events: Iterator[Event]) -> tuple[bytes, Tree]:
    """The next node of a stream of events: its name, and the tree."""
    match next(events):
        case FileStart(name, size, executable):
            data = b""
            while isinstance(event := next(events), FileData):
                data += event.data
            assert event == FileEnd()
            assert len(data) == size
            return name, File(data, executable)
        case Symlink(name, target):
            return name, Link(target)
        case DirectoryStart(name):
            return name, Dir(dict(entries(events)))
        case unexpected:
            raise AssertionError(unexpected)


def entries(events: Iterator[Event]) -> Iterator[tuple[bytes, Tree]]:
    for event in events:
        if event == DirectoryEnd():
            return
        yield build(itertools.chain([event], events))


def render(events: Iterable[Event]) -> bytes:
    """Back to a NAR."""
    writer = NarWriter()
    out = []
    for event in events:
        if isinstance(event, DirectoryStart | FileStart | Symlink) and event.name:
            out.append(writer.entry(event.name))
        match event:
            case DirectoryStart():
                out.append(writer.begin_directory())
            case DirectoryEnd():
                out.append(writer.end_directory())
            case FileStart(_, size, executable):
                out.append(writer.begin_file(size, executable=executable))
            case FileData(data):
                out.append(writer.content(data))
            case FileEnd():
                out.append(writer.end_file())
            case Symlink(_, target):
                out.append(writer.symlink(target))
    writer.finish()
    return b"".join(out)


# --- known archives ---


@every_stream
def test_stream_is_the_one_that_was_specified(stream: Stream) -> None:
    assert (len(stream.data), hashlib.sha256(stream.data).hexdigest()) == (stream.size, stream.sha256)


@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 20])
@every_stream
def test_stream_is_taken_or_refused(stream: Stream, piece_bytes: int) -> None:
    if stream.want == ACCEPT:
        assert render(read(stream.data, piece_bytes)) == stream.data
    else:
        assert isinstance(refusal(stream.data, piece_bytes), LimitExceeded) == (stream.want == LIMIT)


@pytest.mark.parametrize("stream", [s for s in STREAMS if s.want == TRAILING], ids=lambda stream: stream.name)
@pytest.mark.parametrize("piece_bytes", [1, 50, 1 << 20])
def test_trailing_bytes_are_counted_if_allowed(stream: Stream, piece_bytes: int) -> None:
    reader = NarReader(allow_trailing=True)
    for start in range(0, len(stream.data), piece_bytes):
        reader.feed(stream.data[start : start + piece_bytes])
    reader.close()
    assert (reader.consumed, reader.trailing) == (120, 8)


def test_trailing_bytes_behind_the_piece_that_ends_the_nar_are_counted_too() -> None:
    reader = NarReader(allow_trailing=True)
    reader.feed(encode(File(b"x")) + b"12")
    assert reader.feed(b"345") == []
    assert reader.trailing == 5


@every_tree
def test_tree_is_read_back(name: str) -> None:
    events = iter(read(encode(TREES[name])))
    assert build(events) == (b"", TREES[name])
    assert next(events, None) is None


@every_tree
@pytest.mark.parametrize("piece_bytes", [1, 2, 8, 13])
def test_pieces_make_no_difference(name: str, piece_bytes: int) -> None:
    data = encode(TREES[name])
    assert read(data, piece_bytes) == read(data)


@every_tree
def test_every_proper_prefix_is_truncated(name: str) -> None:
    data = encode(TREES[name])
    for end in range(len(data)):
        assert f"byte {end}" in str(refusal(data[:end]))
        assert "archive is truncated" in str(refusal(data[:end]))


def padding_of(data: bytes) -> Iterator[int]:
    """Offsets of all padding bytes of a valid NAR."""
    position = 0
    while position < len(data):
        end = position + 8 + int.from_bytes(data[position : position + 8], "little")
        position = end + -end % 8
        yield from range(end, position)


@every_tree
def test_padding_must_be_zero(name: str) -> None:
    data = encode(TREES[name])
    for offset in padding_of(data):
        assert data[offset] == 0
        for bad in (1, 0x80, 0xFF):
            error = refusal(data[:offset] + bytes((bad,)) + data[offset + 1 :])
            assert f"byte {offset}" in str(error)
            assert f"expected zero padding, found {bad:02x}" in str(error)


def test_symlinks_appear_only_once_their_end_was_seen() -> None:
    data = encode(TREES["link"])
    reader = NarReader()
    assert reader.feed(data[:-1]) == []
    assert reader.feed(data[-1:]) == [Symlink(b"", b"/nix/store/somewhereelse")]


# --- messages ---


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wrong magic", 'NAR byte 0: expected "nix-archive-1", found "nix-archive-2"'),
        ("unknown type", 'NAR byte 56: expected "regular" or "directory" or "symlink", found "fifo"'),
        ("unknown tag", 'NAR byte 72: expected "contents" or "executable", found "foo"'),
        ("executable with a value", 'NAR byte 96: expected "", found "x"'),
        ("unsorted", 'NAR byte 328 near "b": name "a" is not greater than "b"'),
        ("entry without node", 'NAR byte 144 near "a": expected "node", found ")"'),
        ("64 nested directories", "nested over 64 levels deep"),
        ("huge length of a tag", "found ff ff ff ff ff ff ff ff"),
        ("huge length of contents", "file of 9223372036854775808 bytes"),
        ("trailing text", "NAR byte 120: archive is complete, but the input goes on with 67 61 72 62 61 67 65 21"),
    ],
)
def test_message_says_where_and_what(name: str, message: str) -> None:
    (stream,) = (stream for stream in STREAMS if stream.name == name)
    assert message in str(refusal(stream.data))


@every_stream
def test_offset_in_the_message_does_not_depend_on_the_pieces(stream: Stream) -> None:
    if stream.want != ACCEPT:
        whole, bytewise = (str(refusal(stream.data, n)).partition(", found")[0] for n in (1 << 20, 1))
        assert whole.partition(" with ")[0] == bytewise.partition(" with ")[0]


# --- misuse and limits ---


def test_after_an_error_every_call_raises_it_again() -> None:
    reader = NarReader(max_depth=1)
    with pytest.raises(LimitExceeded) as first:
        reader.feed(encode(TREES["nested"]))
    for again in (lambda: reader.feed(b""), lambda: reader.feed(b"x"), reader.close):
        with pytest.raises(LimitExceeded) as later:
            again()
        assert str(later.value) == str(first.value)


def test_truncation_is_an_error_that_stays() -> None:
    reader = NarReader()
    with pytest.raises(InvalidObject, match="truncated"):
        reader.close()
    with pytest.raises(InvalidObject, match="truncated"):
        reader.feed(encode(TREES["hello"]))


def test_close_may_be_called_twice() -> None:
    reader = NarReader()
    reader.feed(encode(TREES["hello"]))
    reader.close()
    reader.close()


@pytest.mark.parametrize(("levels", "max_depth"), [(0, 1), (63, 64), (500, 501)])
def test_nesting_up_to_the_limit_is_taken(levels: int, max_depth: int) -> None:
    data = MAGIC + nested(levels)
    assert len(read(data, max_depth=max_depth)) == 2 * levels + 3


def test_deep_nesting_needs_no_stack() -> None:
    data = MAGIC + nested(3_000)
    assert len(read(data, max_depth=5_000)) == 6_003


@pytest.mark.parametrize("kind", [bytearray, memoryview, lambda data: memoryview(data).cast("I")])
def test_any_buffer_is_taken_and_may_be_reused(kind: type[bytearray]) -> None:
    data = encode(Dir({b"a": File(bytes(range(256)) * 3000), b"b": TREES["mixed"]}))
    events = NarReader().feed(kind(data))
    assert render(events) == data
    buffer = bytearray(data)
    events = NarReader().feed(buffer)
    buffer[:] = bytes(len(buffer))
    assert render(events) == data


def test_content_that_fills_a_piece_is_not_copied() -> None:
    reader = NarReader()
    reader.feed(encode(File(bytes(100_000)))[:96])
    piece = bytes(50_000)
    (event,) = reader.feed(piece)
    assert isinstance(event, FileData)
    assert event.data is piece


class CountingReader(NarReader):
    """Counts what it parses; parsing is the only work that depends on the size of a piece."""

    def __init__(self, own: bytes = b"") -> None:
        super().__init__()
        self.own = own  # parsing this object itself needs no copy
        self.parsed_bytes = self.copied_bytes = self.most_held = 0

    def _parse(self, data: bytes, position: int, events: list[Event]) -> int:
        self.parsed_bytes += len(data) - position
        if data is not self.own:
            self.copied_bytes += len(data)
        result = super()._parse(data, position, events)
        self.most_held = max(self.most_held, len(data) - result)
        return result


def some_tree(total_bytes: int) -> Dir:
    rng = random.Random(1)
    files: dict[bytes, Tree] = {b"%06d" % i: File(rng.randbytes(rng.randrange(200))) for i in range(total_bytes // 400)}
    return Dir({b"files": Dir(files), b"large": File(rng.randbytes(total_bytes // 4)), b"link": Link(b"t" * 4095)})


@pytest.mark.parametrize("total_bytes", [80 * 1024, 320 * 1024])
def test_work_and_memory_are_bounded_when_fed_single_bytes(total_bytes: int) -> None:
    data = encode(some_tree(total_bytes))
    reader = CountingReader()
    for i in range(len(data)):
        reader.feed(data[i : i + 1])
    reader.close()
    assert reader.most_held < 4095
    target = 4095 * 4095 // 2  # the one unit that long, looked at once per byte
    assert reader.parsed_bytes - target < 80 * len(data)


def test_large_pieces_are_not_joined_with_what_was_held_back() -> None:
    data = encode(File(bytes(10_000_000)))
    large = data[90:]
    reader = CountingReader(own=large)
    reader.feed(data[:90])
    reader.feed(large)
    reader.close()
    assert reader.copied_bytes < 20_000


@pytest.mark.parametrize(
    ("before_length", "longest"),
    [
        (MAGIC + T(b"(", b"type", b"directory", b"entry", b"(", b"name"), 255),
        (MAGIC + T(b"(", b"type", b"symlink", b"target"), 4095),
        (MAGIC + T(b"(", b"type", b"regular", b"contents"), 2**63 - 1),
    ],
)
def test_length_is_refused_before_anything_is_held_for_it(before_length: bytes, longest: int) -> None:
    NarReader().feed(before_length + longest.to_bytes(8, "little") + b"x" * 10)
    for length in (longest + 1, 2**64 - 1):
        with pytest.raises(InvalidObject, match=f"of {length} bytes, at most {longest}"):
            NarReader().feed(before_length + length.to_bytes(8, "little"))


# --- random archives ---

names = st.binary(min_size=1, max_size=20).filter(
    lambda name: name not in (b".", b"..") and not set(b"/\0") & set(name)
)
targets = st.binary(min_size=1, max_size=40).map(lambda target: target.replace(b"\0", b"0"))
trees = st.recursive(
    st.builds(File, st.binary(max_size=40), st.booleans()) | st.builds(Link, targets),
    lambda children: st.dictionaries(names, children, max_size=5).map(lambda e: Dir(dict(sorted(e.items())))),
    max_leaves=12,
)


@given(tree=trees)
def test_random_tree_is_read_back_and_rendered_again(tree: Tree) -> None:
    data = encode(tree)
    events = read(data)
    assert build(iter(events)) == (b"", tree)
    assert render(events) == data


@given(tree=trees, cuts=st.lists(st.integers(0, 2000), max_size=30))
def test_random_pieces_make_no_difference(tree: Tree, cuts: list[int]) -> None:
    data = encode(tree)
    edges = [0, *sorted(cuts), len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    assert read_pieces([*pieces, data[max(edges) :]]) == read(data)


@given(tree=trees, where=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255))
def test_damaged_archive_is_refused_or_the_nar_of_another_tree(tree: Tree, where: float, value: int) -> None:
    data = bytearray(encode(tree))
    data[int(where * len(data))] = value
    damaged = bytes(data)
    try:
        events = read(damaged)
    except InvalidObject:
        return
    assert render(events) == damaged


@given(pieces=st.lists(st.sampled_from([s.data[i : i + 8] for s in STREAMS[:3] for i in range(0, s.size, 8)])))
def test_shuffled_words_are_refused_or_canonical(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    try:
        events = read(data)
    except InvalidObject:
        return
    assert render(events) == data


def test_every_single_byte_change_is_refused_or_canonical() -> None:
    data = encode(TREES["mixed"])
    for i in range(len(data)):
        for value in (0, 1, data[i] ^ 1, data[i] ^ 0x80, 0x2F, 0xFF):
            damaged = data[:i] + bytes((value,)) + data[i + 1 :]
            try:
                events = read(damaged)
            except InvalidObject:
                continue
            assert render(events) == damaged
