"""Store paths with all that they refer to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

from tvix_store.errors import DanglingReference, InvalidObject
from tvix_store.limits import BATCH_COUNT
from tvix_store.path_info import PathInfo, PathInfoService, PathMetadata
from tvix_store.store_path import StorePath

__all__ = ["path_closure", "references_first"]

M = TypeVar("M", bound=PathMetadata)


async def path_closure(path_infos: PathInfoService, roots: Sequence[PathInfo]) -> list[PathInfo]:
    """``roots`` and everything they refer to, directly or not, each once and references first.

    Raises:
        DanglingReference: A path refers to one that is not there.
        InvalidObject: Paths refer to each other in a circle.
    """
    known = {root.store_path: root for root in roots}
    wanted = _unknown_references(known.values(), known)
    while wanted:
        found: list[PathInfo] = []
        for start in range(0, len(wanted), BATCH_COUNT):
            batch = wanted[start : start + BATCH_COUNT]
            answers = await path_infos.get_many([path.digest for path, _ in batch])
            for (path, referrer), answer in zip(batch, answers, strict=True):
                if answer is None or answer.store_path != path:
                    raise DanglingReference(f"{referrer} refers to {path}, which is not in the store")
                found.append(answer)
        known.update((path_info.store_path, path_info) for path_info in found)
        wanted = _unknown_references(found, known)
    return references_first(known.values())


def references_first(paths: Iterable[M]) -> list[M]:
    """``paths``, each once, after those among them that it refers to.

    Raises:
        InvalidObject: They refer to each other in a circle.
    """
    known = {metadata.store_path: metadata for metadata in paths}
    graph = {path: [r for r in metadata.references if r != path and r in known] for path, metadata in known.items()}
    try:
        return [known[path] for path in TopologicalSorter(graph).static_order()]
    except CycleError as exc:
        circle = " -> ".join(map(str, exc.args[1]))
        raise InvalidObject(f"store paths refer to each other in a circle: {circle}") from exc


def _unknown_references(
    path_infos: Iterable[PathInfo], known: Mapping[StorePath, PathInfo]
) -> list[tuple[StorePath, StorePath]]:
    """What they refer to that is not known yet, each once, with one that refers to it."""
    referrers: dict[StorePath, StorePath] = {}
    for path_info in path_infos:
        for reference in path_info.references:
            if reference not in known:
                referrers.setdefault(reference, path_info.store_path)
    return list(referrers.items())
