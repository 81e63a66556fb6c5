"""A blob service that remembers what it was asked, and does what the tests of reading need; and reading itself."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Sequence

from tvix_store.blob import BlobReader, BytesReader, ChunkMeta
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, LimitExceeded, Unavailable
from tvix_store.limits import PIECE_BYTES, SMALL_BLOB_BYTES
from tvix_store.nodes import FileNode
from tvix_store.testing.minimal import MinimalBlobService
from tvix_store_fuse.contents import Contents

__all__ = ["AskedBlobs", "AskedReader", "nothing_comes", "read", "read_at_once"]


class AskedReader(BytesReader):
    """Remembers the lengths that were read, and where it was sent."""

    def __init__(self, service: AskedBlobs, data: bytes) -> None:
        super().__init__(data)
        self._service = service
        self.n_bytes: list[int] = []
        self.seeks: list[int] = []
        self.is_closed = False

    async def read(self, max_bytes: int = PIECE_BYTES) -> bytes:
        assert not self.is_closed
        await self._service.before("read")
        piece = await super().read(min(max_bytes, self._service.reads_at_most))
        self.n_bytes.append(len(piece))
        return piece

    async def seek(self, position: int) -> None:
        self.seeks.append(position)
        await super().seek(position)

    async def aclose(self) -> None:
        self.is_closed = True


class AskedBlobs(MinimalBlobService):
    """Blobs in a dict, with lists of chunks that need not be right.

    ``before`` is called with the name of the method before each answer. What is in ``corrupt`` spoils its batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lists: dict[B3Digest, Sequence[ChunkMeta]] = {}
        self.corrupt: set[B3Digest] = set()
        self.got: list[Sequence[B3Digest]] = []
        self.listed: list[B3Digest] = []
        self.opened: list[AskedReader] = []
        self.reads_at_most = PIECE_BYTES
        self.on_call: Callable[[str], Awaitable[None]] | None = None
        self._asked = asyncio.Condition()

    def add(self, data: bytes, chunk_bytes: int | None = None) -> FileNode:
        """Keep a blob, in chunks of this length if it is given; its node."""
        digest = B3Digest.of(data)
        if chunk_bytes is None:
            self.blobs[digest] = data
        else:
            pieces = [data[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes)]
            self.lists[digest] = [ChunkMeta(self.add(piece).digest, len(piece)) for piece in pieces]
        return FileNode(digest, len(data))

    async def before(self, name: str) -> None:
        async with self._asked:
            self._asked.notify_all()
        await asyncio.sleep(0)  # as a real one does, it lets others go on
        if self.on_call is not None:
            await self.on_call(name)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until what was asked fulfils a condition."""
        async with self._asked:
            await self._asked.wait_for(condition)

    def indices(self, node: FileNode) -> list[list[int]]:
        """Which chunks of a blob were asked for, call by call."""
        digests = [chunk.digest for chunk in self.lists[node.digest]]
        return [[digests.index(digest) for digest in batch] for batch in self.got]

    async def chunks(self, digest: B3Digest) -> Sequence[ChunkMeta] | None:
        self.listed.append(digest)
        await self.before("chunks")
        return self.lists.get(digest) or await super().chunks(digest)

    async def open_read(self, digest: B3Digest) -> BlobReader | None:
        await self.before("open_read")
        if digest not in self.blobs:
            return None
        self.opened.append(AskedReader(self, self.blobs[digest]))
        return self.opened[-1]

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        self.got.append(list(digests))
        await self.before("get_many")
        for digest in digests:
            if digest in self.corrupt:
                raise CorruptObject(f"blob {digest} is corrupt")
            if len(self.blobs.get(digest, b"")) > max_blob_bytes:
                raise LimitExceeded(f"blob {digest} is longer than {max_blob_bytes}")
        return [self.blobs.get(digest) for digest in digests]

    def fail(self, *names: str) -> None:
        """Each call whose name is next in ``names`` fails, once."""
        left = list(names)

        async def on_call(name: str) -> None:
            if left and left[0] == name:
                del left[0]
                raise Unavailable("gone")

        self.on_call = on_call


async def nothing_comes(name: str) -> None:
    """For ``AskedBlobs.on_call``: a service that hangs."""
    await asyncio.Event().wait()


async def read(contents: Contents, node: FileNode, offset: int = 0, size: int | None = None) -> bytes:
    """What is read, at once or not; all from ``offset`` on unless ``size`` is given."""
    answer = contents.read(node, offset, node.size if size is None else size)
    return b"".join(await answer if inspect.iscoroutine(answer) else answer)  # type: ignore[arg-type]


def read_at_once(contents: Contents, node: FileNode, offset: int, size: int) -> Sequence[bytes | memoryview]:
    """What is read, which has to be at hand."""
    answer = contents.read(node, offset, size)
    if inspect.iscoroutine(answer):
        answer.close()
        raise AssertionError("it is not at hand")
    assert not inspect.iscoroutine(answer)
    return answer  # type: ignore[return-value]
