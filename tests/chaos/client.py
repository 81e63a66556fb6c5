"""What a client does to a store, each operation compared with the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from chaos.ledger import Ledger, State, Wrong
from chaos.objects import BLOBS, DIRECTORIES, LOOSE, LOOSE_PATH, PATHS, Path
from tvix_store.blob import BlobReader
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import DanglingReference
from tvix_store.frontend import Services
from tvix_store.limits import SMALL_BLOB_BYTES
from tvix_store.nodes import Directory
from tvix_store.path_info import PathInfo, PathMetadata

__all__ = ["DELETIONS", "OPERATIONS", "Client"]

_EMPTY = LOOSE[0]
_ALL_BLOBS = list(BLOBS.values())
_ALL_DIRECTORIES = list(DIRECTORIES.values())
_PATH_INFOS = [LOOSE_PATH, *(path.path_info for path in PATHS)]
_BY_DIGEST = {path_info.store_path.digest: path_info for path_info in _PATH_INFOS}


def _blob(digest: B3Digest) -> str:
    return f"blob {digest}"


def _directory(digest: B3Digest) -> str:
    return f"directory {digest}"


def _path_info(digest: bytes) -> str:
    return f"path info {digest.hex()}"


class Client:
    """Uses a store. Each operation takes one number, which says what it is about.

    Args:
        services: The store.
        ledger: What is known of it.
        lists_everything: Whether its lists are to have all there is; that of some caches has what is near.
    """

    def __init__(self, services: Services, ledger: Ledger, lists_everything: bool) -> None:
        self.services = services
        self.ledger = ledger
        self._lists_everything = lists_everything
        with ledger.putting([_blob(_EMPTY.digest)]):
            pass  # core makes it be there always

    async def do(self, operation: str, which: int) -> None:
        """One of the operations, by its name."""
        await getattr(self, operation)(which)

    # Blobs

    def _several(self, which: int, max_bytes: int = SMALL_BLOB_BYTES) -> list[HashedBlob]:
        """Some of those that fit a batch; each bit of the number stands for one."""
        small = [blob for blob in _ALL_BLOBS if len(blob.data) <= max_bytes]
        return [blob for index, blob in enumerate(small) if which >> index & 1] or [small[which % len(small)]]

    def _check_blob(self, before: Mapping[str, State], blob: HashedBlob, data: bytes | None, offset: int = 0) -> None:
        self.ledger.check(before, _blob(blob.digest), data is not None)
        if data is not None and data != blob.data[offset:]:
            raise Wrong(
                f"{_blob(blob.digest)}: {len(data)} bytes that are not those from {offset} of its {len(blob.data)}"
            )

    async def put_blobs(self, which: int) -> None:
        blobs = self._several(which)
        with self.ledger.putting(_blob(blob.digest) for blob in blobs):
            await self.services.blobs.put_many(blobs)

    async def write_blob(self, which: int, meanwhile: Callable[[], None] = lambda: None) -> None:
        blob = _ALL_BLOBS[which % len(_ALL_BLOBS)]
        cut = which * 997 % (len(blob.data) + 1)
        with self.ledger.putting([_blob(blob.digest)]):
            async with await self.services.blobs.open_write() as writer:
                await writer.write(blob.data[:cut])
                meanwhile()
                await writer.write(blob.data[cut:])
                if await writer.close() != blob.digest:
                    raise Wrong(f"{_blob(blob.digest)} has another digest")

    async def abandon_blob(self, which: int) -> None:
        """Cancelled means invisible: that nobody finished it, does not make it known."""
        blob = _ALL_BLOBS[which % len(_ALL_BLOBS)]
        async with await self.services.blobs.open_write() as writer:
            await writer.write(blob.data)

    async def get_blobs(self, which: int) -> None:
        blobs = self._several(which)
        before = self.ledger.states(_blob(blob.digest) for blob in blobs)
        found = await self.services.blobs.get_many([blob.digest for blob in blobs])
        for blob, data in zip(blobs, found, strict=True):
            self._check_blob(before, blob, data)

    async def read_blob(self, which: int) -> None:
        blob = _ALL_BLOBS[which % len(_ALL_BLOBS)]
        before = self.ledger.states([_blob(blob.digest)])
        reader = await self.services.blobs.open_read(blob.digest)
        if reader is None:
            self._check_blob(before, blob, None)
            return
        async with reader:
            offset = which * 997 % (len(blob.data) + 1) if which % 3 == 0 else 0
            if offset:
                await reader.seek(offset)
            self._check_blob(before, blob, await _rest(reader), offset)

    async def has_blob(self, which: int) -> None:
        blob = _ALL_BLOBS[which % len(_ALL_BLOBS)]
        before = self.ledger.states([_blob(blob.digest)])
        self.ledger.check(before, _blob(blob.digest), await self.services.blobs.has(blob.digest))

    async def has_blobs(self, which: int) -> None:
        before = self.ledger.states(_blob(blob.digest) for blob in _ALL_BLOBS)
        found = await self.services.blobs.has_many([blob.digest for blob in _ALL_BLOBS])
        for blob, is_there in zip(_ALL_BLOBS, found, strict=True):
            self.ledger.check(before, _blob(blob.digest), is_there)

    async def chunks(self, which: int) -> None:
        blob = _ALL_BLOBS[which % len(_ALL_BLOBS)]
        before = self.ledger.states([_blob(blob.digest)])
        chunks = await self.services.blobs.chunks(blob.digest)
        self.ledger.check(before, _blob(blob.digest), chunks is not None)
        data = b""
        for chunk in chunks or ():
            reader = await self.services.blobs.open_read(chunk.digest)
            if reader is None:
                raise Wrong(f"{_blob(blob.digest)} is said to have a chunk that is absent")
            async with reader:
                data += await _rest(reader)
        if chunks and data != blob.data:
            raise Wrong(f"{_blob(blob.digest)}: its chunks are not it")

    async def list_blobs(self, which: int) -> None:
        if self.services.blobs.capabilities.list:
            before = self.ledger.states(_blob(digest) for digest in BLOBS if digest != _EMPTY.digest)
            self._check_listed(before, {_blob(digest) async for digest in self.services.blobs.list()})

    def _check_listed(self, before: Mapping[str, State], listed: set[str]) -> None:
        for key in listed & before.keys():  # chunks that a cache keeps as blobs are listed, too
            self.ledger.check(before, key, is_there=True)
        for key in before.keys() - listed if self._lists_everything else ():
            self.ledger.check(before, key, is_there=False)

    async def discard_blob(self, which: int) -> None:
        """What is not corrupt is not forgotten."""
        await self.services.blobs.discard_corrupt(_ALL_BLOBS[which % len(_ALL_BLOBS)].digest)

    # Directories

    async def put_tree(self, which: int) -> None:
        await self._put_directories(PATHS[which % len(PATHS)], which)

    async def _put_directories(self, path: Path, which: int) -> None:
        with self.ledger.putting(_directory(directory.digest) for directory in path.directories):
            if which & 4:
                await self.services.directories.put_many(path.directories)
                return
            async with await self.services.directories.put_multiple_start() as putter:
                await putter.put_many(path.directories[:2])
                await putter.put_many(path.directories[2:])
                if await putter.close() != path.directories[-1].digest:
                    raise Wrong("a tree has another digest")

    async def put_directory(self, which: int) -> None:
        directory = _ALL_DIRECTORIES[which % len(_ALL_DIRECTORIES)]
        with self.ledger.putting([_directory(directory.digest)]):
            await self.services.directories.put(directory)

    def _check_directory(self, before: Mapping[str, State], asked: Directory, found: Directory | None) -> None:
        self.ledger.check(before, _directory(asked.digest), found is not None)
        if found is not None and found != asked:
            raise Wrong(f"{_directory(asked.digest)} is another one")

    async def get_directory(self, which: int) -> None:
        directory = _ALL_DIRECTORIES[which % len(_ALL_DIRECTORIES)]
        before = self.ledger.states([_directory(directory.digest)])
        self._check_directory(before, directory, await self.services.directories.get(directory.digest))

    async def get_directories(self, which: int) -> None:
        before = self.ledger.states(_directory(digest) for digest in DIRECTORIES)
        found = await self.services.directories.get_many(list(DIRECTORIES))
        for directory, answer in zip(_ALL_DIRECTORIES, found, strict=True):
            self._check_directory(before, directory, answer)

    async def get_tree(self, which: int) -> None:
        wanted = PATHS[which % len(PATHS)].directories
        before = self.ledger.states(_directory(directory.digest) for directory in wanted)
        root = wanted[-1]
        try:
            found = [directory async for directory in self.services.directories.get_recursive(root.digest)]
        except DanglingReference:
            if all(state is State.KEPT for state in before.values()):
                raise
            return
        if not found:
            self._check_directory(before, root, None)
        elif sorted(directory.digest for directory in found) != sorted(directory.digest for directory in wanted):
            raise Wrong(f"{_directory(root.digest)}: its tree is not what was put")

    async def list_directories(self, which: int) -> None:
        if self.services.directories.capabilities.list:
            before = self.ledger.states(map(_directory, DIRECTORIES))
            self._check_listed(before, {_directory(digest) async for digest in self.services.directories.list()})

    async def discard_directory(self, which: int) -> None:
        """What is not corrupt is not forgotten."""
        await self.services.directories.discard_corrupt(_ALL_DIRECTORIES[which % len(_ALL_DIRECTORIES)].digest)

    # Path infos

    async def import_path(self, which: int) -> None:
        """As an import does: what a path info refers to comes first, and what fails ends it."""
        path = PATHS[which % len(PATHS)]
        with self.ledger.putting(_blob(blob.digest) for blob in path.blobs):
            await self.services.blobs.put_many(path.blobs)
        await self._put_directories(path, which)
        await self._put_path_info(path.path_info, which)

    async def put_loose_path_info(self, which: int) -> None:
        await self._put_path_info(LOOSE_PATH, which)

    async def _put_path_info(self, path_info: PathInfo, which: int) -> None:
        with self.ledger.putting([_path_info(path_info.store_path.digest)]):
            if which & 8:
                (stored,) = await self.services.path_infos.put_many([path_info])
            else:
                stored = await self.services.path_infos.put(path_info)
        if stored != path_info:
            raise Wrong(f"{path_info.store_path} is stored as {stored}")

    def _check_path_info(self, before: Mapping[str, State], asked: PathInfo, found: PathMetadata | None) -> None:
        self.ledger.check(before, _path_info(asked.store_path.digest), found is not None)
        if found is not None and found != asked:
            raise Wrong(f"{asked.store_path} is another one")

    async def get_path_info(self, which: int) -> None:
        asked = _PATH_INFOS[which % len(_PATH_INFOS)]
        before = self.ledger.states([_path_info(asked.store_path.digest)])
        get = self.services.path_infos.get_metadata if which & 16 else self.services.path_infos.get
        self._check_path_info(before, asked, await get(asked.store_path.digest))

    async def get_path_infos(self, which: int) -> None:
        before = self.ledger.states(_path_info(digest) for digest in _BY_DIGEST)
        found = await self.services.path_infos.get_many(list(_BY_DIGEST))
        for asked, answer in zip(_PATH_INFOS, found, strict=True):
            self._check_path_info(before, asked, answer)

    async def list_path_infos(self, which: int) -> None:
        if self.services.path_infos.capabilities.list:
            before = self.ledger.states(map(_path_info, _BY_DIGEST))
            listed = [path_info async for path_info in self.services.path_infos.list()]
            self._check_listed(before, {_path_info(path_info.store_path.digest) for path_info in listed})
            if any(_BY_DIGEST[path_info.store_path.digest] != path_info for path_info in listed):
                raise Wrong("a path info that is listed is another one")

    async def discard_path_info(self, which: int) -> None:
        """What is not corrupt is not forgotten."""
        await self.services.path_infos.discard_corrupt(_PATH_INFOS[which % len(_PATH_INFOS)].store_path.digest)

    async def render(self, which: int) -> None:
        """The commit point: whoever sees a path info can read all it refers to."""
        path = PATHS[which % len(PATHS)]
        if await self.services.path_infos.get(path.path_info.store_path.digest) is not None:
            try:
                nar = await self.services.nar_calculation.calculate_nar(path.path_info.node)
            except DanglingReference as exc:
                raise Wrong(f"{path.path_info.store_path} is visible, and its contents are not: {exc}") from exc
            if (nar.size, nar.sha256) != (path.path_info.nar_size, path.path_info.nar_sha256):
                raise Wrong(f"{path.path_info.store_path} has another NAR")

    # Upkeep

    async def sync(self, which: int) -> None:
        await self.services.blobs.sync()
        await self.services.directories.sync()

    async def delete_blobs(self, which: int) -> None:
        if self.services.blobs.capabilities.delete:
            digests = [blob.digest for index, blob in enumerate(LOOSE[1:]) if which >> index & 1]
            self.ledger.deleting(_blob(digest) for digest in digests)
            await self.services.blobs.delete(digests)

    async def delete_path_info(self, which: int) -> None:
        """Contents stay where they are."""
        if self.services.path_infos.capabilities.delete:
            digest = _PATH_INFOS[which % len(_PATH_INFOS)].store_path.digest
            self.ledger.deleting([_path_info(digest)])
            await self.services.path_infos.delete([digest])

    async def look_at_everything(self) -> int:
        """Everything there may be; returns by how many operations that was."""
        for index in range(len(_ALL_BLOBS)):
            await self.read_blob(3 * index + 1)
        await self.get_blobs(-1)
        await self.get_directories(0)
        await self.get_path_infos(0)
        for index in range(len(PATHS)):
            await self.get_tree(index)
            await self.render(index)
        await self.has_blobs(0)
        await self.list_blobs(0)
        await self.list_directories(0)
        await self.list_path_infos(0)
        return len(_ALL_BLOBS) + 2 * len(PATHS) + 7


async def _rest(reader: BlobReader) -> bytes:
    pieces: list[bytes] = []
    while piece := await reader.read():
        pieces.append(piece)
    return b"".join(pieces)


OPERATIONS: Sequence[str] = (
    "has_blob",
    "has_blobs",
    "get_blobs",
    "read_blob",
    "chunks",
    "put_blobs",
    "write_blob",
    "abandon_blob",
    "get_directory",
    "get_directories",
    "get_tree",
    "put_directory",
    "put_tree",
    "import_path",
    "put_loose_path_info",
    "get_path_info",
    "get_path_infos",
    "render",
    "list_blobs",
    "list_directories",
    "list_path_infos",
    "discard_blob",
    "discard_directory",
    "discard_path_info",
    "sync",
)
"""What may go on beside each other."""

DELETIONS: Sequence[str] = ("delete_blobs", "delete_path_info")
"""What goes on alone, since nobody could say what another reader should see meanwhile."""
