"""The session over a pair of sockets that keep the borders of messages, as the device does."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from fakes.services import Hang
from plugins.fuse.kernel import OPCODES, EntryOut, read_in, request, take_apart
from plugins.fuse.stores import Store, base_name, opened
from tvix_store.errors import Unavailable
from tvix_store_fuse.inodes import ROOT
from tvix_store_fuse.messages import Reply, reply
from tvix_store_fuse.protocol import Protocol
from tvix_store_fuse.session import Session
from vectors.nar import Dir, File

pytestmark = pytest.mark.anyio

TREE = Dir({b"file": File(b"Hello World!")})
PAGE = 4096
LONG = 100


class Line:
    """A session, and the other end of its connection."""

    def __init__(self, store: Store, ours: socket.socket, theirs: socket.socket) -> None:
        self.store = store
        self.protocol = Protocol("mnt", store.filesystem)
        self.session = Session(ours.fileno(), self.protocol)
        self.ours = ours
        self.kernel = theirs

    def send(self, name: str, unique: int, node: int, body: bytes = b"") -> None:
        self.kernel.send(request(OPCODES[name], unique, node, body))

    async def receive(self) -> bytes:
        return await asyncio.get_running_loop().sock_recv(self.kernel, 1 << 20)

    async def answer(self, unique: int) -> tuple[int, bytes]:
        return take_apart(await self.receive(), unique)

    def nothing_was_said(self) -> bool:
        try:
            self.kernel.recv(1)
        except BlockingIOError:
            return True
        return False

    async def turns(self, count: int = 5) -> None:
        """Let the event loop do what it can do by now."""
        for _ in range(count):
            await asyncio.sleep(0)

    def ask_for_hanging(self, unique: int) -> Hang:
        """A request that the store does not answer."""
        hang = Hang()
        self.store.path_infos.on_get = hang
        self.send("LOOKUP", unique, ROOT, base_name("tree") + b"\0")
        return hang


@asynccontextmanager
async def connected() -> AsyncIterator[Line]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.setblocking(False)
        async with opened() as store:
            await store.put("tree", TREE)
            line = Line(store, ours, theirs)
            async with line.session:
                line.session.start()
                yield line


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    async with connected() as line:
        yield line


async def test_request_is_answered(line: Line) -> None:
    line.send("GETATTR", 2, ROOT, bytes(16))
    error, body = await line.answer(2)
    assert (error, len(body)) == (0, 104)


async def test_error_is_answered(line: Line) -> None:
    line.send("OPEN", 2, ROOT, bytes(8))
    assert await line.answer(2) == (errno.ENOSYS, b"")


async def test_what_the_store_has_to_be_asked_for(line: Line) -> None:
    line.send("LOOKUP", 2, ROOT, base_name("tree") + b"\0")
    error, body = await line.answer(2)
    assert error == 0
    assert EntryOut.unpack(body).nodeid == 2


async def test_contents_in_pieces_are_one_message(line: Line) -> None:
    attributes = await line.store.find("tree", b"file")
    line.send("READ", 2, attributes.inode, read_in(0, PAGE))
    assert await line.answer(2) == (0, b"Hello World!")


async def test_several_requests_are_answered_in_one_turn(line: Line) -> None:
    for unique in range(2, 12, 2):
        line.send("STATFS", unique, ROOT)
    line.session._read_some()
    for unique in range(2, 12, 2):
        assert take_apart(line.kernel.recv(PAGE), unique)[0] == 0


async def test_more_requests_than_are_answered_in_one_turn(line: Line) -> None:
    uniques = range(2, 2 + 2 * LONG, 2)
    for unique in uniques:
        line.send("STATFS", unique, ROOT)
    assert [(await line.answer(unique))[0] for unique in uniques] == [0] * LONG
    assert line.session.n_requests[OPCODES["STATFS"]] == LONG


async def test_others_have_their_turn_between_requests(line: Line) -> None:
    for unique in range(2, 2 + 2 * LONG, 2):
        line.send("STATFS", unique, ROOT)
    line.session._read_some()
    assert 0 < line.session.n_requests[OPCODES["STATFS"]] < LONG


async def test_forget_is_not_answered(line: Line) -> None:
    attributes = await line.store.find("tree")
    line.send("FORGET", 2, attributes.inode, struct.pack("=Q", 1))
    line.send("STATFS", 4, ROOT)
    assert (await line.answer(4))[0] == 0
    assert line.store.filesystem.inodes.get(attributes.inode) is None


async def test_a_request_that_waits_does_not_hold_up_others(line: Line) -> None:
    hang = line.ask_for_hanging(2)
    line.send("STATFS", 4, ROOT)
    assert (await line.answer(4))[0] == 0
    await hang.called.wait()


# Interrupts


async def test_interrupt_ends_a_request(line: Line) -> None:
    await line.ask_for_hanging(2).called.wait()
    line.send("INTERRUPT", 3, 0, struct.pack("=Q", 2))
    assert await line.answer(2) == (errno.EINTR, b"")
    assert line.nothing_was_said()


async def test_interrupt_that_comes_with_its_request(line: Line) -> None:
    line.ask_for_hanging(2)
    line.send("INTERRUPT", 3, 0, struct.pack("=Q", 2))
    assert await line.answer(2) == (errno.EINTR, b"")


async def test_interrupt_of_one_leaves_the_others(line: Line) -> None:
    await line.ask_for_hanging(2).called.wait()
    line.store.path_infos.on_get = None
    await line.store.put("other", TREE)
    line.send("LOOKUP", 4, ROOT, base_name("other") + b"\0")
    line.send("INTERRUPT", 3, 0, struct.pack("=Q", 2))
    answers = [await line.receive(), await line.receive()]
    assert {answer[8] for answer in answers} == {2, 4}
    assert sorted(take_apart(answer, answer[8])[0] for answer in answers) == [0, errno.EINTR]


@pytest.mark.parametrize("body", [struct.pack("=Q", 2), struct.pack("=Q", 77), b"", bytes(7)])
async def test_interrupt_of_what_is_answered_already(line: Line, body: bytes) -> None:
    line.send("STATFS", 2, ROOT)
    line.send("INTERRUPT", 3, 0, body)
    line.send("STATFS", 4, ROOT)
    assert (await line.answer(2))[0] == 0
    assert (await line.answer(4))[0] == 0
    assert line.nothing_was_said()


# The beginning


def init_in(minor: int) -> bytes:
    return struct.pack("=4I", 7, minor, 131072, 0)


async def test_initialised(line: Line) -> None:
    waiting = asyncio.create_task(line.session.wait_initialised())
    line.send("STATFS", 2, ROOT)
    await line.receive()
    assert not line.session.initialised.is_set()
    line.send("INIT", 4, 0, init_in(40))
    assert (await line.answer(4))[0] == 0
    assert await waiting


async def test_a_kernel_that_is_too_old_is_an_end(line: Line) -> None:
    line.send("INIT", 2, 0, init_in(30))
    assert await line.answer(2) == (errno.EPROTO, b"")
    with pytest.raises(Unavailable, match="the kernel speaks another protocol"):
        await line.session.wait_initialised()


async def test_unmounted_before_it_was_initialised(line: Line) -> None:
    line.kernel.close()
    assert not await line.session.wait_initialised()


# The end


async def test_the_connection_is_closed(line: Line) -> None:
    line.kernel.close()
    await line.session.wait_ended()
    assert line.session.ended.is_set()


async def test_requests_before_the_end_are_served(line: Line) -> None:
    attributes = await line.store.find("tree")
    line.send("FORGET", 2, attributes.inode, struct.pack("=Q", 1))
    line.kernel.close()
    await line.session.wait_ended()
    assert line.store.filesystem.inodes.get(attributes.inode) is None


async def test_a_connection_that_breaks(line: Line) -> None:
    line.kernel.send(bytes(39))
    with pytest.raises(Unavailable, match="the connection to the kernel broke: a request was cut off"):
        await line.session.wait_ended()


async def test_a_connection_that_cannot_be_read() -> None:
    async with opened() as store:
        reading, writing = os.pipe()
        async with Session(writing, Protocol("mnt", store.filesystem)) as session:
            session.start()
            session._read_some()
            with pytest.raises(Unavailable, match="the connection to the kernel broke"):
                await session.wait_ended()
        os.close(reading)
        os.close(writing)


async def test_what_is_under_way_at_the_end_is_given_up(line: Line) -> None:
    hang = line.ask_for_hanging(2)
    await hang.called.wait()
    line.kernel.close()
    await line.session.wait_ended()
    await line.session.aclose()
    await line.turns()
    assert hang.cancelled


async def test_closing_gives_up_what_is_under_way() -> None:
    async with connected() as line:
        hang = line.ask_for_hanging(2)
        await hang.called.wait()
        await line.session.aclose()
        await line.turns()
        assert hang.cancelled
        assert line.nothing_was_said()


async def test_closing_gives_up_what_has_not_begun() -> None:
    async with connected() as line:
        line.ask_for_hanging(2)
        line.session._read_some()
        await line.session.aclose()
        assert line.session.ended.is_set()


async def test_after_closing_nothing_is_answered() -> None:
    async with connected() as line:
        await line.session.aclose()
        line.send("STATFS", 2, ROOT)
        await line.turns()
        assert line.nothing_was_said()
        assert not line.session.n_requests


# What the kernel does not take


async def test_a_reply_that_is_not_taken_is_an_error_for_who_asked(
    line: Line, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    huge = bytes(4 << 20)  # longer than the socket takes

    def too_long(header: object, request: bytes) -> Reply:
        return reply(2, [huge])

    monkeypatch.setattr(line.protocol, "answer", too_long)
    line.send("STATFS", 2, ROOT)
    assert await line.answer(2) == (errno.EIO, b"")
    assert f"the kernel did not take a reply of {len(huge) + 16} bytes" in caplog.text


# Pushing


async def test_push(line: Line) -> None:
    assert await asyncio.to_thread(line.session.push, 5, b"contents")
    length, code, unique = struct.unpack_from("=IiQ", data := await line.receive())
    assert (length, code, unique) == (len(data), 4, 0)
    assert struct.unpack_from("=QQII", data, 16) == (5, 0, 8, 0)
    assert data[40:] == b"contents"


async def test_push_that_is_not_taken(line: Line) -> None:
    line.kernel.close()
    assert not await asyncio.to_thread(line.session.push, 5, b"contents")


async def test_counted(line: Line) -> None:
    for name, unique in (("STATFS", 2), ("OPEN", 4), ("STATFS", 6), ("POLL", 8)):
        line.send(name, unique, ROOT)
        await line.receive()
    assert line.session.counted() == "STATFS 2, OPEN 1, 40 1"
