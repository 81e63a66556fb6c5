"""The frontend while it starts, and when it is told to end just then. What it does later is in tests/e2e."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import select
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from e2e.fuse_mount import DEADLINE_S, clear, is_mounted, require_fuse
from plugins.grpc.loopback import memory_services
from tvix_store.errors import Unavailable
from tvix_store.limits import MIB
from tvix_store.resource import AsyncResource

pytest.importorskip("pyfuse3")

from tvix_store_fuse.daemon_thread import in_daemon_thread
from tvix_store_fuse.frontend import FuseFrontend, FuseOptions, end_pushing
from tvix_store_fuse.messages import store_notice
from tvix_store_fuse.mount_table import mounted_at
from tvix_store_fuse.mounting import Mount

pytestmark = pytest.mark.anyio

_DETACH = 2


@pytest.fixture
def place() -> Iterator[Path]:
    require_fuse()
    with TemporaryDirectory() as name:
        yield Path(name).resolve()
        clear(Path(name).resolve())


class Serving:
    """A frontend that serves, in this process."""

    def __init__(self, place: Path) -> None:
        options = FuseOptions(
            mount_point=place,
            allow_other=False,
            list_root=True,
            show_xattr=True,
            uid=0,
            gid=0,
            negative_s=1.0,
            path_s=60.0,
            timeout_s=60.0,
            cache_bytes=8 * MIB,
            prefetch_bytes=0,
            busy_s=0.0,
        )
        self.place = place
        self.addresses: list[str] = []
        self.is_ready = asyncio.Event()
        self.frontend = FuseFrontend("mount", memory_services(), options)
        self.task = asyncio.create_task(self.frontend.serve(self._ready))

    def _ready(self, address: str) -> None:
        self.addresses.append(address)
        self.is_ready.set()

    async def until_mounted(self) -> None:
        """Until it is mounted; the kernel's first request, which is there by then, is not answered."""
        while not is_mounted(self.place):  # noqa: ASYNC110 - step by step, so as to stop just then
            await asyncio.sleep(0)
        assert not self.is_ready.is_set()

    async def end(self) -> None:
        self.task.cancel()
        async with asyncio.timeout(DEADLINE_S):
            with contextlib.suppress(asyncio.CancelledError):
                await self.task
        assert self.task.cancelled()
        assert not is_mounted(self.place)


@asynccontextmanager
async def serving(place: Path) -> AsyncIterator[Serving]:
    """Ended by all means."""
    serving = Serving(place)
    try:
        yield serving
    finally:
        serving.task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Unavailable):
            await serving.task


async def test_it_can_be_used_when_it_is_ready(place: Path) -> None:
    async with serving(place) as frontend:
        await frontend.is_ready.wait()
        assert frontend.addresses == [str(place)]
        assert await asyncio.to_thread(os.listdir, place) == []
        await frontend.end()


async def test_the_kernel_reads_far_ahead_if_root_says_so(place: Path) -> None:
    async with serving(place) as frontend:
        await frontend.is_ready.wait()
        line = mounted_at(str(place))
        assert line is not None
        read_ahead = Path(f"/sys/class/bdi/{line.device}/read_ahead_kb")
        assert os.geteuid() != 0 or await asyncio.to_thread(read_ahead.read_text) == "1024\n"


@pytest.mark.parametrize("n_steps", range(4))
async def test_told_to_end_before_it_is_mounted(place: Path, n_steps: int) -> None:
    async with serving(place) as frontend:
        for _ in range(n_steps):
            await asyncio.sleep(0)
        await frontend.end()
        assert not frontend.is_ready.is_set()


async def test_told_to_end_before_the_kernel_was_answered(place: Path) -> None:
    async with serving(place) as frontend:
        await frontend.until_mounted()
        await frontend.end()
        assert not frontend.is_ready.is_set()


async def test_unmounted_before_the_kernel_was_answered(place: Path) -> None:
    async with serving(place) as frontend:
        await frontend.until_mounted()
        assert ctypes.CDLL(None).umount2(os.fsencode(place), _DETACH) == 0
        async with asyncio.timeout(DEADLINE_S):
            await frontend.task
        assert not frontend.is_ready.is_set()
        assert not is_mounted(place)


async def test_abandoned_before_the_kernel_was_answered(place: Path) -> None:
    async with serving(place) as frontend:
        await frontend.until_mounted()
        frontend.frontend.abandon()
        assert not is_mounted(place)
        frontend.frontend.abandon()


async def test_abandoned_before_it_is_mounted(place: Path) -> None:
    async with serving(place) as frontend:
        frontend.frontend.abandon()
        await frontend.end()


async def test_one_after_the_other(place: Path) -> None:
    for _ in range(3):
        async with serving(place) as frontend:
            await frontend.is_ready.wait()
            await frontend.end()


async def test_a_failed_mount_leaves_room_for_another(place: Path) -> None:
    async with serving(place / "nowhere") as failing:
        with pytest.raises(Unavailable, match="no such file or directory"):
            await failing.task
    async with serving(place) as frontend:
        await frontend.is_ready.wait()
        await frontend.end()


class Pushing(AsyncResource):
    """Pushes into a connection, in a thread, until that fails."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.is_waiting = asyncio.Event()
        self.failure: OSError | None = None

    async def aclose(self) -> None:
        def push() -> None:
            poll = select.poll()
            poll.register(self._fd, 0)
            poll.poll()  # until the connection is gone
            os.writev(self._fd, store_notice(7, b"data"))

        self.is_waiting.set()
        try:
            await asyncio.to_thread(push)
        except OSError as exc:
            self.failure = exc


async def test_pushing_has_ended_before_the_connection_is_closed(place: Path) -> None:
    mount = Mount.mount(str(place), allow_other=False)
    pushing = Pushing(mount.fd)
    ending = asyncio.create_task(end_pushing(pushing, mount))
    await pushing.is_waiting.wait()
    ending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await ending
    mount.close()
    assert pushing.failure is not None
    assert pushing.failure.errno != errno.EBADF


# Calls that may never come back.


async def test_what_a_call_gives_and_raises() -> None:
    assert await in_daemon_thread(int, "7", base=8) == 7
    with pytest.raises(ValueError, match="invalid literal"):
        await in_daemon_thread(int, "9", base=8)


async def test_a_call_that_is_not_waited_for_does_no_harm() -> None:
    may_go_on, has_gone = threading.Event(), threading.Event()

    def function() -> None:
        may_go_on.wait()
        has_gone.set()

    call = asyncio.create_task(in_daemon_thread(function))
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    may_go_on.set()
    assert await asyncio.to_thread(has_gone.wait, DEADLINE_S)


NEVER_BACK = """
import asyncio, os
from tvix_store_fuse.daemon_thread import in_daemon_thread

async def main():
    reading, _ = os.pipe()
    try:
        async with asyncio.timeout(0):
            await in_daemon_thread(os.read, reading, 1)
    except TimeoutError:
        print("ended")

asyncio.run(main())
"""


def test_a_call_that_never_comes_back_keeps_nothing_from_ending() -> None:
    command = [sys.executable, "-c", NEVER_BACK]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    assert (done.stdout, done.stderr) == ("ended\n", "")
