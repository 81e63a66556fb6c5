"""Random operations on a service, each compared with what a dict would have answered.

They find what depends on the order of operations, which the suites cannot know.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, invariant, multiple, rule

from tvix_store.blob import BlobService
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.directory import DirectoryService
from tvix_store.errors import DanglingReference
from tvix_store.limits import SMALL_BLOB_BYTES
from tvix_store.nodes import Directory, Node, SymlinkNode
from tvix_store.path_info import PathInfo, PathInfoService, Signature
from tvix_store.testing.blob_access import brief
from tvix_store.testing.fixtures import contents, store_path
from tvix_store.testing.state_machine import Factory, ServiceMachine, run_machine

__all__ = ["run_blob_state_machine", "run_directory_state_machine", "run_path_info_state_machine"]


def run_blob_state_machine(factory: Factory[BlobService], *, max_examples: int = 25, max_steps: int = 30) -> None:
    """Compare blob services with a dict.

    Args:
        factory: Opens a new, empty service, each time it is called: the class itself, or a function decorated with
            ``contextlib.asynccontextmanager``.
        max_examples: How many services.
        max_steps: How many operations on each.
    """
    run_machine(lambda: _BlobMachine(factory), max_examples, max_steps)


def run_directory_state_machine(
    factory: Factory[DirectoryService], *, max_examples: int = 25, max_steps: int = 30
) -> None:
    """Compare directory services with a dict; arguments as for `run_blob_state_machine`."""
    run_machine(lambda: _DirectoryMachine(factory), max_examples, max_steps)


def run_path_info_state_machine(
    factory: Factory[PathInfoService], *, max_examples: int = 25, max_steps: int = 30
) -> None:
    """Compare path info services with a dict; arguments as for `run_blob_state_machine`."""
    run_machine(lambda: _PathInfoMachine(factory), max_examples, max_steps)


@dataclass(frozen=True)
class _Contents:
    """Contents that are short to print."""

    size: int
    seed: int

    @cached_property
    def blob(self) -> HashedBlob:
        return HashedBlob(contents(self.size, self.seed))


# Not the empty blob, which core makes be there always. Longer contents begin with the shorter ones of the same seed, so
# that blobs share chunks; but nobody cuts chunks of just these sizes, which could be read like the blobs they equal.
_SIZES = [1, 2, 1013, 70_001, 300_007, 1_500_007]
_CONTENTS = st.builds(_Contents, st.sampled_from(_SIZES), st.integers(0, 2))
_DIGESTS = [_Contents(size, seed).blob.digest for size in _SIZES for seed in range(3)]
_SMALL = _CONTENTS.filter(lambda chosen: chosen.size <= SMALL_BLOB_BYTES)


class _BlobMachine(ServiceMachine[BlobService]):
    def __init__(self, factory: Factory[BlobService]) -> None:
        super().__init__(factory)
        self.model: dict[B3Digest, bytes] = {}

    async def _write(self, blob: HashedBlob, cut: int, close: bool) -> None:
        async with await self.service.open_write() as writer:
            await writer.write(blob.data[:cut])
            await writer.write(blob.data[cut:])
            if close:
                assert await writer.close() == blob.digest

    async def _read(self, digest: B3Digest, position: int, max_bytes: int) -> bytes | None:
        reader = await self.service.open_read(digest)
        if reader is None:
            return None
        pieces: list[bytes] = []
        async with reader:
            if position:
                await reader.seek(position)
            while piece := await reader.read(max_bytes):
                assert len(piece) <= max_bytes
                pieces.append(piece)
        return b"".join(pieces)

    @rule(chosen=_CONTENTS, cut=st.integers(0, 1_500_007))
    def write(self, chosen: _Contents, cut: int) -> None:
        self.call(self._write(chosen.blob, cut, close=True))
        self.model[chosen.blob.digest] = chosen.blob.data

    @rule(chosen=_CONTENTS)
    def write_and_abandon(self, chosen: _Contents) -> None:
        self.call(self._write(chosen.blob, 0, close=False))

    @rule(several=st.lists(_SMALL, max_size=6))
    def put_many(self, several: list[_Contents]) -> None:
        self.call(self.service.put_many([chosen.blob for chosen in several]))
        self.model.update((chosen.blob.digest, chosen.blob.data) for chosen in several)

    @rule(chosen=_CONTENTS)
    def look_up(self, chosen: _Contents) -> None:
        digest = chosen.blob.digest
        assert self.call(self.service.has(digest)) is (digest in self.model)
        chunks = self.call(self.service.chunks(digest))
        assert (chunks is not None) is (digest in self.model)
        if chunks:
            assert sum(chunk.size for chunk in chunks) == len(self.model[digest])
            assert all(self.call(self.service.has_many([chunk.digest for chunk in chunks])))

    @rule(chosen=_CONTENTS, position=st.sampled_from([0, 1, 1012, 70_000, 300_007, 2_000_000]), size=st.just(100_000))
    def read(self, chosen: _Contents, position: int, size: int) -> None:
        data = self.model.get(chosen.blob.digest)
        read = self.call(self._read(chosen.blob.digest, position, size))
        assert brief(read) == brief(None if data is None else data[position:])

    @rule(several=st.lists(_SMALL, max_size=8))
    def get_many(self, several: list[_Contents]) -> None:
        digests = [chosen.blob.digest for chosen in several]
        found = self.call(self.service.get_many(digests))
        assert [brief(data) for data in found] == [brief(self.model.get(digest)) for digest in digests]

    @invariant()
    def has_what_it_should(self) -> None:
        assert list(self.call(self.service.has_many(_DIGESTS))) == [digest in self.model for digest in _DIGESTS]

    @rule(several=st.lists(_CONTENTS, max_size=3))
    def delete(self, several: list[_Contents]) -> None:
        digests = [chosen.blob.digest for chosen in several]
        if self.deleted(self.service.delete(digests), self.service.capabilities.delete):
            for digest in digests:
                self.model.pop(digest, None)

    @rule()
    def list_all(self) -> None:
        listed = self.listed(self.service.list, self.service.capabilities.list)
        assert listed is None or sorted(listed) == sorted(self.model)


class _DirectoryMachine(ServiceMachine[DirectoryService]):
    directories = Bundle("directories")

    def __init__(self, factory: Factory[DirectoryService]) -> None:
        super().__init__(factory)
        self.model: dict[B3Digest, Directory] = {}
        self.known: dict[B3Digest, Directory] = {}

    def _know(self, directory: Directory) -> Directory:
        self.known[directory.digest] = directory
        return directory

    @initialize(target=directories)
    def leaves(self) -> object:
        leaves = (Directory(), *(Directory({b"leaf": SymlinkNode(b"%d" % number)}) for number in range(3)))
        return multiple(*map(self._know, leaves))

    @rule(target=directories, children=st.lists(directories, min_size=1, max_size=3))
    def make(self, children: list[Directory]) -> Directory:
        entries: dict[bytes, Node] = {b"%d" % index: child.node() for index, child in enumerate(children)}
        return self._know(Directory(entries))

    def _closure(self, root: Directory) -> list[Directory]:
        """All below and the root, leaves first."""
        found: dict[B3Digest, Directory] = {}

        def visit(directory: Directory) -> None:
            for _, node in directory.directories():
                visit(self.known[node.digest])
            found[directory.digest] = directory

        visit(root)
        return list(found.values())

    @rule(directory=directories)
    def put(self, directory: Directory) -> None:
        self.call(self.service.put(directory))
        self.model[directory.digest] = directory

    @rule(several=st.lists(directories, max_size=5))
    def put_many(self, several: list[Directory]) -> None:
        self.call(self.service.put_many(several))
        self.model.update((directory.digest, directory) for directory in several)

    @rule(root=directories, close=st.booleans())
    def upload(self, root: Directory, close: bool) -> None:
        closure = self._closure(root)

        async def send() -> None:
            async with await self.service.put_multiple_start() as putter:
                await putter.put_many(closure)
                if close:
                    assert await putter.close() == root.digest

        self.call(send())
        if close:
            self.model.update((directory.digest, directory) for directory in closure)

    @invariant()
    def has_what_it_should(self) -> None:
        digests = list(self.known)
        assert list(self.call(self.service.get_many(digests))) == [self.model.get(digest) for digest in digests]

    @rule(directory=directories)
    def get(self, directory: Directory) -> None:
        assert self.call(self.service.get(directory.digest)) == self.model.get(directory.digest)

    @rule(root=directories)
    def get_recursive(self, root: Directory) -> None:
        async def collect() -> list[Directory] | None:
            try:
                return [directory async for directory in self.service.get_recursive(root.digest)]
            except DanglingReference:
                return None

        found = self.call(collect())
        wanted = {directory.digest for directory in self._closure(root)}
        if root.digest not in self.model:
            assert found == []
        elif wanted <= self.model.keys():
            assert found is not None
            assert found[0] == root
            assert sorted(directory.digest for directory in found) == sorted(wanted)
        else:
            assert found is None

    @rule(several=st.lists(directories, max_size=3))
    def delete(self, several: list[Directory]) -> None:
        digests = [directory.digest for directory in several]
        if self.deleted(self.service.delete(digests), self.service.capabilities.delete):
            for digest in digests:
                self.model.pop(digest, None)

    @rule()
    def list_all(self) -> None:
        listed = self.listed(self.service.list, self.service.capabilities.list)
        assert listed is None or sorted(listed) == sorted(self.model)


_PATH_INFOS = st.builds(
    lambda path, nar_size, references, signatures: PathInfo(
        store_path=store_path(f"path-{path}"),
        node=SymlinkNode(b"target"),
        nar_size=nar_size,
        nar_sha256=bytes(32),
        references=tuple(store_path(f"path-{number}") for number in references),
        signatures=tuple(Signature(f"key-{number}", contents(64, number)) for number in signatures),
    ),
    path=st.integers(0, 4),
    nar_size=st.sampled_from([0, 1, 2**63, 2**64 - 1]),
    references=st.lists(st.integers(0, 4), max_size=3),
    signatures=st.lists(st.integers(0, 4), max_size=3, unique=True),
)
_STORE_PATHS = [store_path(f"path-{number}") for number in range(5)]
_PATHS = st.sampled_from(_STORE_PATHS).map(lambda path: path.digest)


class _PathInfoMachine(ServiceMachine[PathInfoService]):
    def __init__(self, factory: Factory[PathInfoService]) -> None:
        super().__init__(factory)
        self.model: dict[bytes, PathInfo] = {}

    def _keep(self, given: PathInfo, stored: PathInfo) -> None:
        assert replace(stored, signatures=stored.signatures[: len(given.signatures)]) == given
        self.model[given.store_path.digest] = stored

    @rule(given=_PATH_INFOS)
    def put(self, given: PathInfo) -> None:
        self._keep(given, self.call(self.service.put(given)))

    @rule(several=st.lists(_PATH_INFOS, max_size=6))
    def put_many(self, several: list[PathInfo]) -> None:
        for given, stored in zip(several, self.call(self.service.put_many(several)), strict=True):
            self._keep(given, stored)

    @rule(digest=_PATHS)
    def get(self, digest: bytes) -> None:
        assert self.call(self.service.get(digest)) == self.model.get(digest)

    @invariant()
    def has_what_it_should(self) -> None:
        digests = [path.digest for path in _STORE_PATHS]
        assert list(self.call(self.service.get_many(digests))) == [self.model.get(digest) for digest in digests]

    @rule(digests=st.lists(_PATHS, max_size=3))
    def delete(self, digests: Sequence[bytes]) -> None:
        if self.deleted(self.service.delete(digests), self.service.capabilities.delete):
            for digest in digests:
                self.model.pop(digest, None)

    @rule()
    def list_all(self) -> None:
        listed = self.listed(self.service.list, self.service.capabilities.list)
        if listed is not None:
            listed.sort(key=lambda info: info.store_path)
            assert listed == sorted(self.model.values(), key=lambda info: info.store_path)
