"""Asks each entry of a composition for an object, and follows the way that a read would take."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from tvix_store.blob import BlobService
from tvix_store.config import Kind
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.errors import StoreError
from tvix_store.explain import Answer, Explainer, Explanation, Presence
from tvix_store.nixbase32 import encode as nixbase32
from tvix_store.nodes import DirectoryNode, FileNode
from tvix_store.path_info import PathInfo, PathInfoService, PathMetadata
from tvix_store.resource import map_bounded

__all__ = ["EntriesExplainer", "RunningEntry"]

_TIMEOUT_S = 10.0

Service = BlobService | DirectoryService | PathInfoService


@dataclass(frozen=True, slots=True)
class RunningEntry:
    """An entry that the roots of a composition need.

    Args:
        name: As messages name it.
        kind: Its table.
        type: Its tag.
        service: Its service.
        inner: The names of the entries of its kind that it refers to, as they are declared.
        reads_in_order: See ``EntryConfig.reads_in_order``.
    """

    name: str
    kind: Kind
    type: str
    service: Service
    inner: Sequence[str]
    reads_in_order: bool


class EntriesExplainer(Explainer):
    """Explains a composition of this process.

    Args:
        entries: All that the roots need; of each kind, the root comes first.
        hide: Takes out of messages what must not be shown.
    """

    def __init__(self, entries: Sequence[RunningEntry], hide: Callable[[str], str] = str) -> None:
        self._entries = entries
        self._hide = hide

    async def explain(self, key: B3Digest | bytes) -> Sequence[Explanation]:
        if isinstance(key, B3Digest):
            return [await self._explain_blob(key), await self._explain_directory(key)]
        explanation, path_info = await self._explain_path_info(key)
        match path_info:
            case PathInfo(node=DirectoryNode(digest=digest)):
                return [explanation, await self._explain_directory(digest)]
            case PathInfo(node=FileNode(digest=digest)):
                return [explanation, await self._explain_blob(digest)]
        return [explanation]

    async def _explain_blob(self, digest: B3Digest) -> Explanation:
        async def ask(entry: RunningEntry) -> Answer:
            assert isinstance(entry.service, BlobService)
            return _answer(entry, await entry.service.has(digest))

        return Explanation("blob", str(digest), await self._ask_all(Kind.BLOB, ask))

    async def _explain_directory(self, digest: B3Digest) -> Explanation:
        async def ask(entry: RunningEntry) -> Answer:
            assert isinstance(entry.service, DirectoryService)
            return _answer(entry, await entry.service.get(digest) is not None)

        return Explanation("directory", str(digest), await self._ask_all(Kind.DIRECTORY, ask))

    async def _explain_path_info(self, digest: bytes) -> tuple[Explanation, PathInfo | None]:
        found: list[PathInfo] = []

        async def ask(entry: RunningEntry) -> Answer:
            assert isinstance(entry.service, PathInfoService)
            metadata = await entry.service.get_metadata(digest)
            if isinstance(metadata, PathInfo):
                found.append(metadata)
            return _answer(entry, metadata is not None, _path_note(metadata))

        answers = await self._ask_all(Kind.PATH_INFO, ask)
        return Explanation("path info", nixbase32(digest), answers), next(iter(found), None)

    async def _ask_all(self, kind: Kind, ask: Callable[[RunningEntry], Awaitable[Answer]]) -> Sequence[Answer]:
        """The answers of all entries of a kind. Those that hold objects are asked before those above them."""
        entries = [entry for entry in self._entries if entry.kind is kind]

        async def answer(entry: RunningEntry) -> Answer:
            try:
                async with asyncio.timeout(_TIMEOUT_S):
                    return await ask(entry)
            except TimeoutError:
                note = f"no answer within {_TIMEOUT_S:g} s"
            except StoreError as exc:
                note = f"{type(exc).__name__}: {self._hide(' '.join(str(exc).split()))}"
            return Answer(entry.name, entry.type, Presence.UNKNOWN, note)

        leaves = [entry for entry in entries if not entry.inner]
        combinators = [entry for entry in entries if entry.inner]
        answers = [*await map_bounded(answer, leaves), *await map_bounded(answer, combinators)]
        by_name = {answer.entry: answer for answer in answers}
        server = _server(entries, {name: answer.presence for name, answer in by_name.items()})
        return [
            replace(by_name[entry.name], would_serve=True) if entry.name == server else by_name[entry.name]
            for entry in entries
        ]


def _answer(entry: RunningEntry, is_present: bool, note: str = "") -> Answer:
    return Answer(entry.name, entry.type, Presence.PRESENT if is_present else Presence.ABSENT, note)


def _path_note(metadata: PathMetadata | None) -> str:
    match metadata:
        case None:
            return ""
        case PathInfo():
            return str(metadata.store_path)
    return f"{metadata.store_path}, without contents until it is asked for"


def _server(entries: Sequence[RunningEntry], presences: Mapping[str, Presence]) -> str | None:
    """The name of the entry that would serve a read of the root, which comes first; ``None`` if that is not certain."""
    by_name = {entry.name: entry for entry in entries}
    entry = entries[0] if entries else None
    while entry is not None and presences[entry.name] is Presence.PRESENT:
        if not entry.inner:
            return entry.name
        left = [name for name in entry.inner if presences.get(name) is not Presence.ABSENT]
        is_certain = bool(left) and (entry.reads_in_order or len(left) == 1)
        entry = by_name.get(left[0]) if is_certain else None
    return None
