"""What the tests do to a store in other processes, and how those report what was acknowledged."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from plugins.fs.watched_os import watching
from plugins.fs.whole_store import Store, large_blob, make_tree, open_store, small_blobs
from tvix_store.capabilities import Durability
from tvix_store.digest import B3Digest

Said = tuple[str, int]
"""What was acknowledged: ``blobs``, ``large``, ``importing``, ``tree`` or ``victims``, and its number."""

Say = Callable[[str, int], None]

VICTIMS = 100_000
"""What has numbers from here on is deleted again."""

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tvix_store.cli.import_", "tvix_store_fs.blob", "tvix_store_sqlite.path_info"])


@dataclass(frozen=True, slots=True)
class Work:
    """What a child does until it is killed.

    Args:
        path: Of the store.
        trees: Where it makes trees to import.
        first: The number of what it puts first.
        count: How many of each kind it puts.
        last_call: It ends in the middle of the call of this number among those that change files; ``None`` for never.
        durability: Of the blobs.
    """

    path: Path
    trees: Path
    first: int
    count: int
    last_call: int | None = None
    durability: Durability = Durability.COMMIT


async def put_blobs(store: Store, number: int, say: Say) -> None:
    """Put a batch, then others that are deleted, and sometimes give their space back."""
    await store.services.blobs.put_many(small_blobs(number))
    say("blobs", number)
    victims = small_blobs(VICTIMS + number)[:4]
    await store.services.blobs.put_many(victims)
    await store.services.blobs.delete([blob.digest for blob in victims])
    say("victims", number)
    if number % 3 == 2:
        await store.services.blobs.compact()


async def put_large(store: Store, number: int, say: Say) -> None:
    """Stream a blob."""
    assert await store.write(large_blob(number)) == B3Digest.of(large_blob(number))
    say("large", number)


async def work(job: Work, say: Say) -> None:
    """Put blobs, stream others and import trees, all at the same time."""

    async def repeat(put: Callable[[Store, int, Say], Awaitable[None]]) -> None:
        for number in range(job.first, job.first + job.count):
            await put(store, number, say)

    async def put_tree(store: Store, number: int, say: Say) -> None:
        tree = await asyncio.to_thread(make_tree, job.trees, number)
        say("importing", number)
        await store.import_tree(tree)
        say("tree", number)

    others = Durability.BATCHED  # which survives the end of a process, and is faster
    async with open_store(job.path, durability=job.durability, others=others) as store, asyncio.TaskGroup() as group:
        for put in (put_blobs, put_large, put_tree):
            group.create_task(repeat(put))


@contextmanager
def ending_at(last: int | None) -> Iterator[None]:
    """Kill this process in its call of this number that changes files: before it, after it, or with half written.

    Nothing is synced, which kills do not need, and which takes most of the time.
    """
    lock = threading.Lock()
    calls = 0

    def watcher(name: str, call: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        nonlocal calls
        with lock:
            calls += 1
            if calls != last:
                return None if name in ("fdatasync", "fsync") else call(*arguments)
            if name == "pwritev":
                descriptor, parts, position = arguments
                data = b"".join(parts)
                os.pwrite(descriptor, data[: len(data) * (calls % 4) // 4], position)
            elif calls % 2:
                call(*arguments)
            os.kill(os.getpid(), signal.SIGKILL)

    with watching(watcher):
        yield


def import_trees(job: Work, channel: Connection) -> None:
    """Import trees that are there, and say each."""

    async def import_all() -> None:
        async with open_store(job.path, durability=job.durability) as store:
            for number in range(job.first, job.first + job.count):
                await store.import_tree(job.trees / f"tree-{number}")
                channel.send(("tree", number))

    asyncio.run(import_all())


def render_trees(job: Work, channel: Connection) -> None:
    """Render whatever is visible, again and again, compare it with what its path info says, and say each pass."""

    async def render() -> None:
        async with open_store(job.path) as store:
            for passes in itertools.count():
                for path_info in (await store.visible_path_infos()).values():
                    await store.assert_renders(path_info)
                channel.send(("pass", passes))

    asyncio.run(render())


def read_blobs(job: Work, channel: Connection) -> None:
    """Read what is kept and what may be deleted, again and again, and say each pass."""

    async def read() -> None:
        async with open_store(job.path) as store:
            for passes in itertools.count():
                for number in range(job.first, job.first + job.count):
                    await store.assert_has(large_blob(number), *(blob.data for blob in small_blobs(number)))
                    await store.assert_right_if_there(large_blob(VICTIMS + number))
                channel.send(("pass", passes))

    asyncio.run(read())


def delete_and_compact(job: Work, channel: Connection) -> None:
    """Put blobs, delete them and give their space back, again and again."""

    async def delete() -> None:
        async with open_store(job.path) as store:
            for number in range(job.first, job.first + job.count):
                digest = await store.write(large_blob(VICTIMS + number))
                await store.services.blobs.put_many(small_blobs(VICTIMS + number))
                await store.services.blobs.delete(
                    [digest, *(blob.digest for blob in small_blobs(VICTIMS + number)[:4])]
                )
                channel.send(("freed", await store.services.blobs.compact()))

    asyncio.run(delete())


def run(job: Work, channel: Connection) -> None:
    """Work until something goes wrong, or it is killed."""

    def say(what: str, number: int) -> None:
        channel.send((what, number))

    with ending_at(job.last_call):
        asyncio.run(work(job, say))


class Child:
    """A process that works on a store."""

    def __init__(self, job: Work, function: Callable[[Work, Connection], None] = run) -> None:
        self._channel, theirs = _context.Pipe(duplex=False)
        self.process: ForkServerProcess = _context.Process(target=function, args=(job, theirs))
        self.process.start()
        theirs.close()

    def said(self, count: int | None = None) -> list[Said]:
        """What it says next: ``count`` times, or all of it if it ends before."""
        said: list[Said] = []
        try:
            while len(said) != count:
                said.append(self._channel.recv())
        except (EOFError, ConnectionResetError):
            pass
        return said

    def is_well(self) -> bool:
        """Whether it goes on: it says two things more, so that what it did for the second all came after this call."""
        while self._channel.poll():
            if not self.said(1):
                return False
        return len(self.said(2)) == 2

    def kill(self) -> list[Said]:
        """Kill it; what else it had said."""
        self.process.kill()
        return self.end()

    def end(self) -> list[Said]:
        """Wait for its end; what else it had said."""
        said = self.said()
        self._channel.close()
        self.process.join()
        return said
