"""What the machine found, each as the shortest way to it."""

from __future__ import annotations

import pytest

from tvix_store.digest import HashedBlob
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_spread.mirror import MirrorOptions
from tvix_store_spread.mirror_blob import MirrorBlobService


@pytest.mark.anyio
async def test_what_is_repaired_while_a_mirror_lists_is_listed() -> None:
    """A replica that has been listed already does not stand for the one where the blob was from the beginning."""
    one, two = MemoryBlobService(), MemoryBlobService()
    both, lacked = HashedBlob(b"both"), HashedBlob(b"not in one")
    await one.put_many([both])
    await two.put_many([both, lacked])
    async with MirrorBlobService("mirror", {"one": one, "two": two}, MirrorOptions(min_writes=1)) as mirror:
        listing = aiter(mirror.list())
        listed = {await anext(listing)}
        await one.put_many([lacked])
        listed |= {digest async for digest in listing}
    assert listed == {both.digest, lacked.digest}
