"""What is corrupt is taken from somewhere else and put back; what was put is read back."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from tvix_store.errors import CorruptObject, StoreError
from tvix_store_guard.quarantine import Quarantine

__all__ = ["Findings", "Healing", "put_and_read_back"]

logger = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Findings:
    """Who is told of what was found to be corrupt.

    Args:
        name: Of the entry, for messages.
        kind: Of the objects: ``blob``, ``directory``, ``path info``.
        quarantine: Where it is written down; ``None``: nowhere.
    """

    name: str
    kind: str
    quarantine: Quarantine | None

    async def note(self, digest: str | None, reason: str) -> None:
        """Write it down."""
        if self.quarantine is not None:
            await self.quarantine.note(self.kind, digest, reason)

    def differs(self, digest: str) -> CorruptObject:
        """The error for what was put and is not there, or is there as something else."""
        return CorruptObject(f"{self.name}: {self.kind} {digest} is not what was put", expected=digest)


@dataclass(frozen=True, slots=True)
class Healing(Generic[K, V]):
    """Replaces objects that are corrupt.

    Args:
        findings: Who is told.
        text: How errors name a key.
        fetch: Gets sound copies; ``None``: nothing is replaced.
        put_back: Stores them in the place of what is corrupt.
    """

    findings: Findings
    text: Callable[[K], str]
    fetch: Callable[[Sequence[K]], Awaitable[Sequence[V | None]]] | None
    put_back: Callable[[Sequence[V]], Awaitable[object]]

    async def get_many(
        self, keys: Sequence[K], ask: Callable[[Sequence[K]], Awaitable[Sequence[V | None]]]
    ) -> Sequence[V | None]:
        """What ``ask`` answers for ``keys``, with sound copies of those that are corrupt.

        Raises:
            CorruptObject: There is no sound copy of one of them, or of one that is absent then.
        """
        try:
            return await ask(keys)
        except CorruptObject as exc:
            first = exc
        found = dict(await self.replaced(keys, first))
        while rest := [key for key in dict.fromkeys(keys) if key not in found]:
            try:
                answers = dict(zip(rest, await ask(rest), strict=True))
            except CorruptObject as exc:
                found.update(await self.replaced(rest, exc))
                continue
            found.update({key: value for key, value in answers.items() if value is not None})
            # Whoever found one of the batch to be corrupt may have forgotten others that are, too.
            if absent := [key for key, value in answers.items() if value is None]:
                kind = self.findings.kind
                reason = f"{self.findings.name}: a {kind} is absent after one asked for with it was corrupt: {first}"
                found.update(await self.replaced(absent, CorruptObject(reason)))
        return [found[key] for key in keys]

    async def replaced(self, keys: Sequence[K], exc: CorruptObject) -> Mapping[K, V]:
        """Sound copies of those that ``exc`` is about: of all of them, if it does not say which.

        Raises:
            CorruptObject: ``exc``: there is no sound copy of one of them.
        """
        keys = list(dict.fromkeys(keys))
        wrong = [key for key in keys if self.text(key) == exc.expected] or keys
        await self.findings.note(self.text(wrong[0]) if len(wrong) == 1 else None, str(exc))
        if self.fetch is None:
            raise exc
        try:
            copies = dict(zip(wrong, await self.fetch(wrong), strict=True))
        except StoreError as failure:
            logger.warning("%s: no sound copy can be had: %s", self.findings.name, failure)
            raise exc from failure
        sound = {key: copy for key, copy in copies.items() if copy is not None}
        if len(sound) < len(wrong):
            raise exc
        try:
            await self.put_back(list(sound.values()))
        except StoreError as failure:
            logger.warning("%s: a sound copy cannot be put back: %s", self.findings.name, failure)
        else:
            logger.warning("%s: %s replaced by what refetch has", self.findings.name, ", ".join(map(self.text, wrong)))
        return sound


async def put_and_read_back(
    findings: Findings,
    text: Callable[[K], str],
    put: Callable[[], Awaitable[Mapping[K, V]]],
    read: Callable[[Sequence[K]], Awaitable[Sequence[V | None]]],
    is_same: Callable[[K, V, V], bool],
) -> None:
    """Put objects, and once more if they are not what is read then.

    Args:
        findings: Who is told.
        text: How errors name a key.
        put: Says what was put.
        read: Reads it back.
        is_same: Whether what was put, the second, is as good as what was read, the third.

    Raises:
        CorruptObject: They are not what is read after the second time, either.
    """
    for is_last in (False, True):
        stored = await put()
        try:
            found = await read(list(stored))
            wrong = [
                key
                for (key, value), back in zip(stored.items(), found, strict=True)
                if back is None or not is_same(key, value, back)
            ]
            if not wrong:
                return
            raise findings.differs(text(wrong[0]))
        except CorruptObject as exc:
            await findings.note(exc.expected, str(exc))
            if is_last:
                raise
