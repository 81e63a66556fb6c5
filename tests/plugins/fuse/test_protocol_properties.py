"""The protocol, asked anything: whatever comes, what goes out is a reply that the kernel takes."""

from __future__ import annotations

import asyncio
import errno
import logging
import math
import struct

from hypothesis import example, given, settings
from hypothesis import strategies as st

from plugins.fuse.kernel import OPCODES, Kernel, read_in
from plugins.fuse.stores import base_name, opened
from tvix_store_fuse.inodes import ROOT
from tvix_store_fuse.messages import lifetime
from tvix_store_fuse.protocol import Protocol
from vectors.nar import Dir, File, Link

NAMES = {number: name for name, number in OPCODES.items()}
ANSWERED = sorted(set(OPCODES.values()) - {2, 36, 41, 42})
TREE = Dir({b"dir": Dir({b"below": File(b"b")}), b"file": File(b"Hello World!"), b"link": Link(b"to")})
EDGES = (0, 1, 2, 3, 4095, 4096, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)

numbers = st.one_of(st.sampled_from(EDGES), st.integers(0, 2**64 - 1), st.integers(0, 20))
sizes = st.one_of(st.sampled_from([0, 159, 160, 4096, 2**32 - 1]), st.integers(0, 2**32 - 1), st.integers(0, 1000))
bodies = st.one_of(
    st.binary(max_size=120),
    st.lists(numbers, max_size=12).map(lambda found: struct.pack(f"={len(found)}Q", *found)),
    st.builds(read_in, numbers, sizes),
    st.sampled_from([base_name("tree") + b"\0", b"dir\0", b"file\0", b".\0", b"..\0", b"\0", b"file"]),
)


@given(st.lists(st.tuples(st.sampled_from(ANSWERED) | st.integers(0, 2**32 - 1), numbers, bodies), max_size=12))
@example([(OPCODES["BATCH_FORGET"], 0, struct.pack("=II", 2**32 - 1, 0)), (OPCODES["GETATTR"], ROOT, b"")])
@settings(max_examples=300, deadline=None)
def test_anything_has_a_reply_that_the_kernel_takes(requests: list[tuple[int, int, bytes]]) -> None:
    async def ask_all() -> None:
        async with opened(list_root=True) as store:
            await store.put("tree", TREE)
            kernel = Kernel(Protocol("mnt", store.filesystem))
            await kernel.entries((await kernel.lookup(ROOT, base_name("tree"))).nodeid)
            for opcode, node, body in requests:
                answer = await kernel.raw(opcode, node, body)
                if opcode in (2, 36, 41, 42):
                    assert answer is None
                    continue
                assert answer is not None
                assert answer[0] in (0, *REFUSALS), NAMES.get(opcode)
                if opcode in (OPCODES["READ"], OPCODES["READDIR"], OPCODES["READDIRPLUS"]) and len(body) >= 40:
                    (asked,) = struct.unpack_from("=I", body, 16)
                    assert len(answer[1]) <= min(asked, 2**20)

    logging.disable(logging.ERROR)
    try:
        asyncio.run(ask_all())
    finally:
        logging.disable(logging.NOTSET)


REFUSALS = {
    errno.EINVAL,
    errno.EISDIR,
    errno.ENODATA,
    errno.ENOSYS,
    errno.ENOTDIR,
    errno.EPROTO,
    errno.ERANGE,
    errno.EROFS,
    errno.ESTALE,
}


@settings(max_examples=100, deadline=None)
@given(
    names=st.sets(st.binary(min_size=1, max_size=255).filter(lambda n: not {0, 47} & {*n} and n not in (b".", b".."))),
    windows=st.lists(st.integers(0, 2000), max_size=40),
    plus=st.booleans(),
)
def test_windows_of_any_sizes_give_each_name_once(names: set[bytes], windows: list[int], plus: bool) -> None:
    async def list_all() -> None:
        async with opened() as store:
            await store.put("tree", Dir({name: Link(b"t") for name in sorted(names)}))
            kernel = Kernel(Protocol("mnt", store.filesystem))
            tree = (await kernel.lookup(ROOT, base_name("tree"))).nodeid
            found: list[bytes] = []
            position = 0
            for size in [*windows, *[max(416, size) for size in windows], *[4096] * 2000]:
                error, _ = await kernel.ask("READDIR", tree, read_in(position, size))  # enters nothing
                if error == errno.EINVAL and size < 416:
                    continue
                window = await (kernel.window if plus else kernel.plain_window)(tree, position, max(size, 416))
                if not window:
                    break
                found += [entry.name for entry in window]
                position = window[-1].off
            assert found == [b".", b"..", *sorted(names)]
            looked_up = {number: store.filesystem.inodes.get(number).n_lookups for number in kernel.n_lookups}  # type: ignore[union-attr]
            assert looked_up == kernel.n_lookups

    asyncio.run(list_all())


@given(st.floats(0, allow_nan=False))
@example(math.nextafter(1.0, 0))
@example(math.nextafter(2.0**32 - 1, 0))
def test_any_lifetime_can_be_written(seconds: float) -> None:
    whole, ns = lifetime(seconds)
    assert 0 <= whole < 2**32
    assert 0 <= ns < 1_000_000_000
    assert whole + ns / 1e9 <= seconds + 1e-6
