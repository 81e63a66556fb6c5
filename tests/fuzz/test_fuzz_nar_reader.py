"""The NAR reader: never anything but InvalidObject, and what it takes is what NarWriter makes of its events."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from fuzz.held_memory import growth_of
from fuzz.mutations import cuts, damaged, fuzzing, mutants, pieces_of
from tvix_store.errors import InvalidObject
from tvix_store.limits import KIB
from tvix_store.nar import NarWriter
from tvix_store.nar_reader import DirectoryEnd, DirectoryStart, Event, FileData, FileEnd, FileStart, NarReader, Symlink


def outcome(pieces: Sequence[bytes]) -> tuple[bytes | None, str]:
    """The NAR written again from the events, ``None`` if it was refused; and where it was.

    How much is shown of what was found there depends on how much had come.
    """
    reader = NarReader()
    writer = NarWriter()
    out: list[bytes] = []
    try:
        for piece in pieces:
            out += [write(writer, event) for event in reader.feed(piece)]
        reader.close()
    except InvalidObject as exc:
        refused_again(reader, str(exc))
        assert "\n" not in str(exc)  # noqa: PT017 - it need not be raised
        return None, str(exc).partition(":")[0]
    writer.finish()
    assert reader.done
    assert reader.consumed == sum(map(len, pieces))
    return b"".join(out), ""


def refused_again(reader: NarReader, reason: str) -> None:
    try:
        reader.close()
    except InvalidObject as exc:
        assert str(exc) == reason  # noqa: PT017 - of a second call, which is known to raise
    else:
        raise AssertionError("what was refused is taken")


def write(writer: NarWriter, event: Event) -> bytes:
    named = isinstance(event, DirectoryStart | FileStart | Symlink) and event.name
    entry = writer.entry(event.name) if named else b""  # type: ignore[union-attr]
    match event:
        case DirectoryStart():
            return entry + writer.begin_directory()
        case DirectoryEnd():
            return writer.end_directory()
        case FileStart(_, size, executable):
            return entry + writer.begin_file(size, executable=executable)
        case FileData(data):
            assert data
            return writer.content(data)
        case FileEnd():
            return writer.end_file()
        case Symlink(_, target):
            return entry + writer.symlink(target)


@fuzzing
@given(damaged("nar"), cuts)
def test_damaged_nars(data: bytes, places: list[float]) -> None:
    written, place = outcome([data])
    assert written in (data, None)
    assert outcome(pieces_of(data, places)) == (written, place)


@fuzzing
@given(st.binary(max_size=400), cuts)
def test_anything(data: bytes, places: list[float]) -> None:
    assert outcome([data])[0] is None
    assert outcome(pieces_of(data, places)) == outcome([data])


def test_no_memory_is_kept() -> None:
    nars = mutants("nar")
    assert growth_of(lambda: outcome([next(nars)]), 500) < 64 * KIB
