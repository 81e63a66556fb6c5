"""A directory service that lives in another process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from tvix_store.capabilities import Capabilities
from tvix_store.closure import LeavesToRoot
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryPutter, DirectoryService
from tvix_store.errors import CorruptObject, Unsupported
from tvix_store.limits import KIB
from tvix_store.nodes import Directory
from tvix_store.proto.tvix.castore.protos.rpc_directory_pb2 import GetDirectoryRequest, PutDirectoryResponse
from tvix_store.proto.tvix_store.batch.v1 import batch_pb2 as batch
from tvix_store.resource import map_bounded
from tvix_store.wire import decode_directory
from tvix_store_grpc.channel import DIRECTORIES, Absent, Extension, Peer, Speech
from tvix_store_grpc.messages import MESSAGE_BYTES, MESSAGE_COUNT, cut, repeated
from tvix_store_grpc.streams import closing
from tvix_store_grpc.upload import Upload

__all__ = ["GrpcDirectoryService"]

_BATCHES_AT_ONCE = 2
_DECODE_IN_THREAD_BYTES = 64 * KIB


class GrpcDirectoryService(DirectoryService):
    """Directories of another store, over gRPC.

    Args:
        name: Of the entry.
        peer: The connection; whoever made it closes it.
    """

    def __init__(self, name: str, peer: Peer) -> None:
        self.name = name
        self._peer = peer

    @property
    def capabilities(self) -> Capabilities:
        """What the peer said; nothing before it was asked, and if it has no batches."""
        described = self._peer.described
        return Capabilities() if described is None else described.directories

    async def get(self, digest: B3Digest) -> Directory | None:
        speech = await self._peer.speech()
        what = f"directory {digest}"
        request = GetDirectoryRequest(digest=digest.raw)
        try:
            async with closing(self._peer.download(speech.path(DIRECTORIES, "Get"), request, what)) as messages:
                async for raw in messages:
                    return (await self._decoded([raw], what))[0]
        except Absent:
            pass
        return None

    async def _decoded(self, encoded: Sequence[bytes], what: str) -> Sequence[Directory]:
        def decode() -> list[Directory]:
            return [self._peer.parse(decode_directory, item, what) for item in encoded]

        return await asyncio.to_thread(decode) if sum(map(len, encoded)) > _DECODE_IN_THREAD_BYTES else decode()

    async def get_many(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        extension = (await self._peer.speech()).extension
        if extension is None:
            return await super().get_many(digests)
        found: list[Directory | None] = []
        for start in range(0, len(digests), extension.max_count):
            found += await self._get_batch(digests[start : start + extension.max_count])
        return found

    async def _get_batch(self, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
        what = f"{len(digests)} directories"
        request = batch.Digests(digests=[digest.raw for digest in digests])
        found: list[Directory | None] = []
        async with closing(self._peer.download(Speech.batch_path("GetDirectories"), request, what)) as messages:
            async for raw in messages:
                slots = self._peer.decode(batch.DirectoryBatch, raw, what).slots
                if len(found) + len(slots) > len(digests):
                    raise CorruptObject(f"{self._peer.name}: {what}: more answers than that")
                present = iter(await self._decoded([s.encoded for s in slots if s.HasField("encoded")], what))
                found.extend(next(present) if slot.HasField("encoded") else None for slot in slots)
        if len(found) != len(digests):
            raise CorruptObject(f"{self._peer.name}: {what}: only {len(found)} answers")
        return found

    async def get_recursive(self, root: B3Digest) -> AsyncIterator[Directory]:
        speech = await self._peer.speech()
        what = f"directory {root} and those below it"
        try:
            if speech.extension is None:
                request = GetDirectoryRequest(digest=root.raw, recursive=True)
                async with closing(self._peer.download(speech.path(DIRECTORIES, "Get"), request, what)) as messages:
                    async for raw in messages:
                        yield (await self._decoded([raw], what))[0]
                return
            closure = batch.GetClosureRequest(digest=root.raw)
            async with closing(self._peer.download(Speech.batch_path("GetClosure"), closure, what)) as messages:
                async for raw in messages:
                    encoded = self._peer.decode(batch.EncodedDirectories, raw, what).encoded
                    for directory in await self._decoded(list(encoded), what):
                        yield directory
        except Absent:
            return

    async def put(self, directory: Directory) -> None:
        await self.put_many([directory])

    async def put_many(self, directories: Sequence[Directory]) -> None:
        speech = await self._peer.speech()
        if speech.extension is None:
            closures = _closures(self._peer.name, directories)
            await map_bounded(lambda closure: self._put_closure(speech, closure), closures)
        else:
            batches = _batches(directories, speech.extension)
            await map_bounded(self._put_batch, batches, _BATCHES_AT_ONCE)

    async def _put_closure(self, speech: Speech, closure: Sequence[Directory]) -> None:
        async with _Putter(self._peer, speech) as putter:
            await putter.put_many(closure)
            await putter.close()

    async def _put_batch(self, directories: Sequence[Directory]) -> None:
        what = f"{len(directories)} directories"
        async with Upload(self._peer, Speech.batch_path("PutDirectories"), what) as upload:
            encoded = [directory.encode() for directory in directories]
            await upload.send_all(map(repeated, cut(encoded, map(len, encoded))))
            raw = await upload.finish()
        if raw != repeated([directory.digest.raw for directory in directories]):
            raise CorruptObject(f"{self._peer.name}: {what}: it stored others than were sent")

    async def put_multiple_start(self) -> DirectoryPutter:
        return _Putter(self._peer, await self._peer.speech())

    async def list(self) -> AsyncIterator[B3Digest]:
        extension = (await self._peer.speech()).extension
        if extension is None or not extension.directories.list:
            raise Unsupported(f"{self._peer.name} cannot list directories")
        request = batch.ListRequest()
        async with closing(self._peer.download(Speech.batch_path("ListDirectories"), request, "list")) as messages:
            async for raw in messages:
                for digest in self._peer.decode(batch.Digests, raw, "list").digests:
                    yield self._peer.digest(digest, "list")


def _batches(directories: Sequence[Directory], extension: Extension) -> Sequence[Sequence[Directory]]:
    sizes = [len(directory.encode()) for directory in directories]
    return list(cut(directories, sizes, extension.max_bytes, extension.max_count))


def _closures(peer: str, directories: Sequence[Directory]) -> Sequence[Sequence[Directory]]:
    """The batch as whole trees, leaves first, for that is all that the standard protocols take.

    Raises:
        Unsupported: A directory in it refers to one that is not.
    """
    by_digest = {directory.digest: directory for directory in directories}
    children = {digest: {child.digest for _, child in d.directories()} for digest, d in by_digest.items()}
    for digest, below in children.items():
        if missing := below - by_digest.keys():
            raise Unsupported(
                f"{peer}: directory {digest} cannot be put without {next(iter(missing))}, which it refers to: "
                "the peer has no batch extension, and the standard protocols only take whole trees"
            )
    roots = by_digest.keys() - set().union(*children.values())
    return [[by_digest[digest] for digest in _leaves_first(root, children)] for root in roots]


def _leaves_first(root: B3Digest, children: dict[B3Digest, set[B3Digest]]) -> Sequence[B3Digest]:
    done: dict[B3Digest, None] = {}
    pending = [root]
    while pending:
        digest = pending[-1]
        missing = children[digest] - done.keys()
        if missing:
            pending.extend(missing)
        else:
            done[pending.pop()] = None
    return list(done)


class _Putter(DirectoryPutter):
    """One stream of a whole tree: single directories, or batches of them if the peer takes those.

    Order and sizes are checked here, so that a mistake shows where it is made and not some messages later.
    """

    def __init__(self, peer: Peer, speech: Speech) -> None:
        self._peer = peer
        self._in_batches = speech.extension is not None
        path = speech.batch_path("PutClosure") if self._in_batches else speech.path(DIRECTORIES, "Put")
        self._path = path
        self._validator = LeavesToRoot()
        self._upload: Upload | None = None
        self._pending: list[bytes] = []
        self._n_pending = 0
        self._root: B3Digest | None = None

    async def put_many(self, directories: Sequence[Directory]) -> None:
        for directory in directories:
            if not self._validator.add(directory):
                continue
            encoded = directory.encode()
            self._pending.append(encoded)
            self._n_pending += len(encoded)
            if self._n_pending >= MESSAGE_BYTES or len(self._pending) >= MESSAGE_COUNT:
                await self._flush()

    async def _flush(self) -> None:
        if self._upload is None:
            self._upload = Upload(self._peer, self._path, "directory upload")
        pending, self._pending, self._n_pending = self._pending, [], 0
        messages = map(repeated, cut(pending, map(len, pending))) if self._in_batches else pending
        await self._upload.send_all(messages)

    async def close(self) -> B3Digest:
        if self._root is None:
            root = self._validator.finish()
            await self._flush()
            assert self._upload is not None
            raw = await self._upload.finish()
            answered = self._answered(raw)
            if answered != root:
                raise CorruptObject(
                    f"{self._peer.name}: directory upload: it stored {answered} instead of {root}",
                    expected=str(root),
                    actual=str(answered),
                )
            self._root = root
        return self._root

    def _answered(self, raw: bytes) -> B3Digest:
        what = "directory upload"
        if not self._in_batches:
            return self._peer.digest(self._peer.decode(PutDirectoryResponse, raw, what).root_digest, what)
        digests = self._peer.decode(batch.Digests, raw, what).digests
        return self._peer.digest(digests[0] if len(digests) == 1 else b"", what)

    async def aclose(self) -> None:
        self._pending.clear()
        if self._upload is not None and self._root is None:
            await self._upload.aclose()
