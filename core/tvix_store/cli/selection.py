"""Which of the store paths in a store a command is about."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from tvix_store.cli.locate import find_path_info
from tvix_store.frontend import Services
from tvix_store.limits import BATCH_COUNT
from tvix_store.path_closure import path_closure
from tvix_store.path_info import PathInfo

__all__ = ["select_path_infos"]


async def select_path_infos(
    services: Services, locations: Sequence[str], *, recursive: bool = False
) -> AsyncGenerator[Sequence[PathInfo]]:
    """The path infos at ``locations``, or of everything if there are none, as batches; each as it is when it comes.

    Args:
        services: The store.
        locations: Store paths, as users write them.
        recursive: With all that they refer to.

    Raises:
        NotFound: The store does not have one of ``locations``.
        DanglingReference: It does not have what one of them refers to.
        Unsupported: It cannot list what it has.
    """
    batch: list[bytes] = []
    async with aclosing(_digests(services, locations, recursive)) as digests:
        async for digest in digests:
            batch.append(digest)
            if len(batch) == BATCH_COUNT:
                yield await _present(services, batch)
                batch = []
    if batch:
        yield await _present(services, batch)


async def _digests(services: Services, locations: Sequence[str], recursive: bool) -> AsyncGenerator[bytes]:
    if not locations:
        async for path_info in services.path_infos.list():
            yield path_info.store_path.digest
        return
    found = [(await find_path_info(services, location))[0] for location in locations]
    if recursive:
        found = await path_closure(services.path_infos, found)
    for store_path in dict.fromkeys(path_info.store_path for path_info in found):
        yield store_path.digest


async def _present(services: Services, digests: Sequence[bytes]) -> Sequence[PathInfo]:
    found = await services.path_infos.get_many(digests)
    return [path_info for path_info in found if path_info is not None]  # some may have been deleted meanwhile
