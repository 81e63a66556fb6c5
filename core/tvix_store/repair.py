"""One object from another store, into the place of one that is damaged or missing."""

from __future__ import annotations

from tvix_store.blob import BlobService
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService

__all__ = ["fetch_blob", "fetch_directory"]


async def fetch_blob(digest: B3Digest, source: BlobService, target: BlobService) -> bool:
    """Copy a blob of any size; ``False`` if ``source`` does not have it.

    Raises:
        CorruptObject: What ``source`` has does not hash to ``digest``; nothing was stored.
    """
    reader = await source.open_read(digest)
    if reader is None:
        return False
    async with reader, await target.open_write() as writer:
        while piece := await reader.read():
            await writer.write(piece)
        await writer.close()  # not reached with other contents: the service, as core hands it out, checks what it reads
    return True


async def fetch_directory(digest: B3Digest, source: DirectoryService, target: DirectoryService) -> bool:
    """Copy a directory, without what it refers to; ``False`` if ``source`` does not have it.

    Raises:
        CorruptObject: What ``source`` has does not hash to ``digest``; nothing was stored.
    """
    directory = await source.get(digest)
    if directory is None:
        return False
    await target.put(directory)
    return True
