"""Whether a store has all that its path infos refer to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from itertools import islice

from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.errors import CorruptObject
from tvix_store.frontend import Services
from tvix_store.limits import BATCH_COUNT
from tvix_store.nodes import Directory, DirectoryNode, Node, SymlinkNode
from tvix_store.path_info import PathInfo
from tvix_store.verification import Damage, VerifyProgress, no_progress

__all__ = ["Missing", "missing_contents"]

_ENOUGH_COUNT = 256  # of things to look for at once; directories soon lead to more


@dataclass(frozen=True, slots=True)
class Missing:
    """A blob or a directory that should be there.

    Args:
        path_info: A path info that refers to it; there may be others.
        kind: ``blob`` or ``directory``.
        digest: What is missing.
    """

    path_info: PathInfo
    kind: str
    digest: B3Digest

    def damage(self) -> Damage:
        """This, as what is wrong with the path info."""
        path = self.path_info.store_path
        reason = f"{path} refers to {self.kind} {self.digest}, which does not exist"
        return Damage("path info", path.digest.hex(), None, reason)


async def missing_contents(
    services: Services, path_infos: AsyncIterator[PathInfo], progress: VerifyProgress = no_progress
) -> AsyncIterator[Missing]:
    """What path infos refer to, directly or through directories, and the store does not have.

    Each directory is looked into once and each blob is asked for once, however many refer to it; a digest of each is
    held in memory. A directory that has been put by the time the next one is asked for is looked into as well.
    Directories that are corrupt are as good as missing.

    Args:
        services: The store.
        path_infos: Where to begin, some at a time.
        progress: Told how many path infos have been looked at.

    Raises:
        Unavailable: Something could not be read for another reason.
    """
    todo = _Todo()
    done = 0
    async for path_info in path_infos:
        todo.add(path_info.node, path_info)
        done += 1
        if len(todo) >= _ENOUGH_COUNT:
            async for missing in _missing_of(todo, services):
                yield missing
            progress(done, None)
    async for missing in _missing_of(todo, services):
        yield missing
    progress(done, None)


class _Todo:
    """Directories and blobs that are to be looked for, each once, with the path info for which it was found."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()
        self._directories: dict[B3Digest, PathInfo] = {}
        self._blobs: dict[B3Digest, PathInfo] = {}

    def __len__(self) -> int:
        return len(self._directories) + len(self._blobs)

    def add(self, node: Node, path_info: PathInfo) -> None:
        if isinstance(node, SymlinkNode):
            return
        is_directory = isinstance(node, DirectoryNode)
        key = node.digest.raw + (b"/" if is_directory else b"")  # the empty directory is called as the empty blob is
        if key not in self._seen:
            self._seen.add(key)
            (self._directories if is_directory else self._blobs)[node.digest] = path_info

    def take_directories(self) -> dict[B3Digest, PathInfo]:
        return _take(self._directories)

    def take_blobs(self) -> dict[B3Digest, PathInfo]:
        return _take(self._blobs)


def _take(waiting: dict[B3Digest, PathInfo]) -> dict[B3Digest, PathInfo]:
    return {digest: waiting.pop(digest) for digest in list(islice(waiting, BATCH_COUNT))}


async def _missing_of(todo: _Todo, services: Services) -> AsyncIterator[Missing]:
    """Work off what is to be done, and what comes up meanwhile."""
    while todo:
        directories = todo.take_directories()
        found = await _get_many(services.directories, list(directories))
        for (digest, path_info), directory in zip(directories.items(), found, strict=True):
            if directory is None:
                yield Missing(path_info, "directory", digest)
                (directory,) = await _get_many(services.directories, [digest])
            for _, node in directory.items() if directory is not None else ():
                todo.add(node, path_info)
        blobs = todo.take_blobs()
        for (digest, path_info), is_there in zip(
            blobs.items(), await services.blobs.has_many(list(blobs)), strict=True
        ):
            if not is_there:
                yield Missing(path_info, "blob", digest)


async def _get_many(service: DirectoryService, digests: Sequence[B3Digest]) -> Sequence[Directory | None]:
    """The directories; ``None`` for those that are absent or corrupt."""
    if not digests:
        return []
    try:
        return await service.get_many(digests)
    except CorruptObject:
        if len(digests) == 1:
            return [None]
        half = len(digests) // 2
        return [*await _get_many(service, digests[:half]), *await _get_many(service, digests[half:])]
