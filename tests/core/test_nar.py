from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tvix_store import nar
from tvix_store.errors import InvalidObject, LimitExceeded
from tvix_store.nar import NarWriter
from tvix_store.nar_dump import dump_path
from vectors.nar import CONTENT_OFFSETS, DUMPS, SIZES_AND_SHA256, TREES, Dir, File, Link, Tree, encode, materialise

every_tree = pytest.mark.parametrize("name", TREES)


def whole_file(writer: NarWriter, file: File) -> Iterator[bytes]:
    yield writer.file(file.data, executable=file.executable)


def file_in_pieces(writer: NarWriter, file: File) -> Iterator[bytes]:
    yield writer.begin_file(len(file.data), executable=file.executable)
    for start in range(0, len(file.data), 5):
        yield bytes(writer.content(memoryview(file.data)[start : start + 5]))
    yield writer.end_file()


FileStyle = Callable[[NarWriter, File], Iterator[bytes]]


def write(writer: NarWriter, tree: Tree, style: FileStyle) -> Iterator[bytes]:
    match tree:
        case File():
            yield from style(writer, tree)
        case Link(target):
            yield writer.symlink(target)
        case Dir(entries):
            yield writer.begin_directory()
            for name, child in entries.items():
                yield writer.entry(name)
                yield from write(writer, child, style)
            yield writer.end_directory()


# --- writer: what it writes ---


@every_tree
@pytest.mark.parametrize("style", [whole_file, file_in_pieces])
def test_written_nar_has_the_known_size_and_digest(name: str, style: FileStyle) -> None:
    writer = NarWriter()
    data = b"".join(write(writer, TREES[name], style))
    writer.finish()
    assert (len(data), hashlib.sha256(data).hexdigest()) == SIZES_AND_SHA256[name]


@pytest.mark.parametrize("name", DUMPS)
def test_written_nar_is_the_known_dump(name: str) -> None:
    assert b"".join(write(NarWriter(), TREES[name], whole_file)) == bytes.fromhex(DUMPS[name])


@every_tree
def test_the_test_encoder_agrees_with_the_known_digests(name: str) -> None:
    assert hashlib.sha256(encode(TREES[name])).hexdigest() == SIZES_AND_SHA256[name][1]


# --- writer: what it refuses ---


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (b"", "empty"),
        (b".", "current directory"),
        (b"..", "parent directory"),
        (b"a/b", '"a/b" contains a slash'),
        (b"a\0b", "contains a null byte"),
        (b"a" * 256, "too long"),
    ],
)
def test_writer_refuses_a_bad_name(name: bytes, reason: str) -> None:
    writer = NarWriter()
    writer.begin_directory()
    with pytest.raises(InvalidObject, match=reason):
        writer.entry(name)


@pytest.mark.parametrize("second", [b"a", b"b"])
def test_writer_refuses_names_out_of_order_and_says_where(second: bytes) -> None:
    writer = NarWriter()
    writer.begin_directory()
    writer.entry(b"top")
    writer.begin_directory()
    writer.entry(b"b")
    writer.file(b"", executable=False)
    with pytest.raises(InvalidObject, match=f'NAR directory "top": "{second.decode()}" is not greater than "b"'):
        writer.entry(second)


@pytest.mark.parametrize("target", [b"", b"a\0b", b"a" * 4096])
def test_writer_refuses_a_bad_target_and_names_the_symlink(target: bytes) -> None:
    writer = NarWriter()
    writer.begin_directory()
    writer.entry(b"link")
    with pytest.raises(InvalidObject, match='symlink "link": invalid symlink target'):
        writer.symlink(target)


def test_name_and_target_may_be_as_long_as_the_limit() -> None:
    tree = Dir({b"n" * 255: Link(b"t" * 4095)})
    assert b"".join(write(NarWriter(), tree, whole_file)) == encode(tree)


def test_writer_refuses_short_content() -> None:
    writer = NarWriter()
    writer.begin_file(10, executable=False)
    writer.content(b"1234567")
    with pytest.raises(InvalidObject, match="ended after 7 of 10 bytes"):
        writer.end_file()


def test_writer_refuses_to_finish_inside_a_file() -> None:
    writer = NarWriter()
    writer.begin_file(10, executable=False)
    with pytest.raises(InvalidObject, match="ended after 0 of 10 bytes"):
        writer.finish()


def test_writer_refuses_long_content_before_it_is_emitted() -> None:
    writer = NarWriter()
    writer.begin_directory()
    writer.entry(b"file")
    writer.begin_file(3, executable=True)
    writer.content(b"12")
    with pytest.raises(InvalidObject, match='"file": goes on after 3 of 3 bytes'):
        writer.content(b"34")


@pytest.mark.parametrize("size", [-1, 2**63, 2**64])
def test_writer_refuses_impossible_sizes(size: int) -> None:
    with pytest.raises(InvalidObject, match="impossible size"):
        NarWriter().begin_file(size, executable=False)


def nest(writer: NarWriter, levels: int) -> None:
    for _ in range(levels):
        writer.begin_directory()
        writer.entry(b"d")
    writer.file(b"x", executable=False)
    for _ in range(levels):
        writer.end_directory()
    writer.finish()


def test_writer_nests_up_to_the_limit() -> None:
    nest(NarWriter(), 63)
    nest(NarWriter(max_depth=501), 500)


@pytest.mark.parametrize(("max_depth", "levels"), [(64, 64), (1, 1), (500, 500)])
def test_writer_refuses_deeper_nesting(max_depth: int, levels: int) -> None:
    with pytest.raises(LimitExceeded, match=f"over {max_depth} levels deep"):
        nest(NarWriter(max_depth=max_depth), levels)


CALLS: dict[str, Callable[[NarWriter], object]] = {
    "begin_directory": lambda w: w.begin_directory(),
    "entry": lambda w: w.entry(b"z"),
    "end_directory": lambda w: w.end_directory(),
    "symlink": lambda w: w.symlink(b"t"),
    "file": lambda w: w.file(b"", executable=False),
    "begin_file": lambda w: w.begin_file(0, executable=False),
    "content": lambda w: w.content(b""),
    "end_file": lambda w: w.end_file(),
    "finish": lambda w: w.finish(),
}
NODES = {"begin_directory", "symlink", "file", "begin_file"}


@pytest.mark.parametrize(
    ("before", "allowed"),
    [
        ([], NODES),
        (["begin_directory"], {"entry", "end_directory"}),
        (["begin_directory", "entry"], NODES),
        (["begin_directory", "entry", "file"], {"end_directory"}),
        (["begin_file"], {"content", "end_file"}),
        (["begin_file", "end_file"], {"finish"}),
        (["symlink"], {"finish"}),
        (["begin_directory", "end_directory"], {"finish"}),
    ],
)
def test_only_calls_that_the_grammar_allows_work(before: list[str], allowed: set[str]) -> None:
    for method, call in CALLS.items():
        writer = NarWriter()
        for earlier in before:
            CALLS[earlier](writer)
        if method in allowed:
            call(writer)
        else:
            # An entry called "z" for the second time is in order, but not greater than the first.
            with pytest.raises(InvalidObject if method == "entry" and before[-1:] == ["file"] else RuntimeError):
                call(writer)


@pytest.mark.parametrize("method", CALLS)
def test_nothing_works_after_an_error(method: str) -> None:
    writer = NarWriter()
    writer.begin_directory()
    with pytest.raises(InvalidObject):
        writer.entry(b"")
    with pytest.raises(RuntimeError, match="an earlier call failed"):
        CALLS[method](writer)


# --- sizes ---


def size_of(tree: Tree) -> int:
    match tree:
        case File(data, executable):
            return nar.file_size(len(data), executable=executable)
        case Link(target):
            return nar.symlink_size(target)
        case Dir(entries):
            return nar.directory_size((name, size_of(child)) for name, child in entries.items())


def offsets(tree: Tree, path: str, start: int) -> Iterator[tuple[str, int]]:
    match tree:
        case File(_, executable):
            yield path, start + nar.content_offset(executable=executable)
        case Dir(entries):
            start += nar.DIRECTORY_OFFSET
            for name, child in entries.items():
                yield from offsets(child, f"{path}/{name.decode()}".lstrip("/"), start + nar.entry_offset(name))
                start += nar.entry_size(name) + size_of(child)


@every_tree
def test_size_is_known_without_rendering(name: str) -> None:
    assert nar.ROOT_OVERHEAD + size_of(TREES[name]) == SIZES_AND_SHA256[name][0]


@pytest.mark.parametrize("name", CONTENT_OFFSETS)
def test_content_offsets_are_known_without_rendering(name: str) -> None:
    assert dict(offsets(TREES[name], "", nar.ROOT_OVERHEAD)) == CONTENT_OFFSETS[name]


# --- dump_path ---


@every_tree
def test_dump_of_a_path_has_the_known_digest(name: str, tmp_path: Path) -> None:
    data = b"".join(dump_path(materialise(TREES[name], tmp_path / "tree")))
    assert hashlib.sha256(data).hexdigest() == SIZES_AND_SHA256[name][1]


def test_dump_streams_a_large_file_in_pieces(tmp_path: Path) -> None:
    content = os.urandom(1_000_003)
    (tmp_path / "large").write_bytes(content)
    pieces = list(dump_path(tmp_path))
    assert b"".join(pieces) == encode(Dir({b"large": File(content)}))
    assert max(map(len, pieces)) <= 256 * 1024


@pytest.mark.parametrize("mode", [0o744, 0o700, 0o645, 0o611])
def test_executable_is_the_bit_of_the_owner(mode: int, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    file.chmod(mode)
    assert b"".join(dump_path(file)) == encode(File(b"", bool(mode & 0o100)))


def test_dump_refuses_a_pipe_and_names_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InvalidObject, match='/pipe": neither file, directory nor symlink'):
        list(dump_path(tmp_path))


def test_dump_refuses_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(InvalidObject, match='"socket": neither'):
            list(dump_path("socket"))


def test_dump_refuses_a_device() -> None:
    with pytest.raises(InvalidObject, match='"/dev/null": neither'):
        list(dump_path("/dev/null"))


def test_dump_of_an_absent_path_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(dump_path(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("size_after", "reason"), [(1_000, "ended after 1000 of 5000"), (9_000, "grew beyond its 5000")]
)
def test_dump_notices_a_file_that_changes_size(size_after: int, reason: str, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 5000)
    pieces = dump_path(file)
    next(pieces)  # the size is announced
    os.truncate(file, size_after)
    with pytest.raises(InvalidObject, match=reason):
        list(pieces)


def test_dump_does_not_follow_a_symlink_that_takes_the_place_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("/dev/null")
    regular = os.lstat(__file__)
    monkeypatch.setattr(os, "lstat", lambda path: regular)
    with pytest.raises(OSError, match="symbolic link"):
        list(dump_path(tmp_path / "link"))


def test_dump_does_not_hang_on_a_pipe_that_takes_the_place_of_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    regular = os.lstat(__file__)
    monkeypatch.setattr(os, "lstat", lambda path: regular)
    with pytest.raises(InvalidObject, match="no longer a regular file"):
        list(dump_path(tmp_path / "pipe"))


def test_dump_obeys_the_depth_limit(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert b"".join(dump_path(tmp_path, max_depth=3)) == encode(Dir({b"a": Dir({b"b": Dir({})})}))
    with pytest.raises(LimitExceeded):
        list(dump_path(tmp_path, max_depth=2))
