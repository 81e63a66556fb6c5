"""A directory tree that several services have parts of."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable

from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.errors import DanglingReference, InvalidObject, StoreError
from tvix_store.limits import BATCH_COUNT
from tvix_store.nodes import Directory
from tvix_store_spread.upkeep import released

__all__ = ["whole_tree"]


async def whole_tree(
    service: DirectoryService,
    root: B3Digest,
    begun: AsyncIterator[Directory],
    *,
    skips_errors: bool,
    seen: Callable[[B3Digest], None],
) -> AsyncGenerator[Directory]:
    """The tree below ``root``: as one member gives it, and what that one lacks by levels from all of them.

    Args:
        service: All of them.
        root: Is in that member.
        begun: What that member gives, root first.
        skips_errors: Whether to go on as well where the member failed.
        seen: Told of each directory that the member gave.
    """
    given: set[B3Digest] = set()
    wanted: dict[B3Digest, None] = {root: None}

    def give(directory: Directory) -> None:
        given.add(directory.digest)
        wanted.pop(directory.digest, None)
        wanted.update((child.digest, None) for _, child in directory.directories() if child.digest not in given)

    try:
        async with released(begun) as directories:
            async for directory in directories:
                if directory.digest not in given:
                    give(directory)
                    seen(directory.digest)
                    yield directory
    except DanglingReference:
        pass
    except InvalidObject:
        raise
    except StoreError:
        if not skips_errors:
            raise
    while wanted:
        digests = list(wanted)[:BATCH_COUNT]
        for digest, found in zip(digests, await service.get_many(digests), strict=True):
            if found is None:
                raise DanglingReference(f"directory {digest} does not exist, below {root}")
            give(found)
            yield found
