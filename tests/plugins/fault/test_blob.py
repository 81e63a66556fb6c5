"""Blobs that go wrong on purpose, and what core makes of them."""

from __future__ import annotations

import pytest

from tvix_store.checked import CheckedBlobService
from tvix_store.digest import HashedBlob
from tvix_store.errors import CorruptObject, Unavailable
from tvix_store.testing.blob_access import read_blob, write_blob
from tvix_store.testing.fixtures import contents
from tvix_store_fault.blob import FaultBlobService
from tvix_store_fault.faults import FaultRates, Faults
from tvix_store_memory.blob import MemoryBlobService

pytestmark = pytest.mark.anyio

BLOB = HashedBlob(contents(70_000))


async def filled(rates: FaultRates, seed: int = 0) -> tuple[FaultBlobService, Faults]:
    """A service that has the blob and fails as often."""
    inner = MemoryBlobService()
    await inner.put_many([BLOB])
    faults = Faults("faulty", seed, rates)
    return FaultBlobService(inner, faults), faults


@pytest.mark.parametrize("rates", [FaultRates(corrupt_rate=1), FaultRates(truncate_rate=1)])
async def test_what_is_changed_is_found_by_core_and_kept_by_the_service(rates: FaultRates) -> None:
    service, faults = await filled(rates)
    checked = CheckedBlobService("checked", service)
    assert await read_blob(service, BLOB.digest) != BLOB.data
    assert list(await service.get_many([BLOB.digest])) != [BLOB.data]
    with pytest.raises(CorruptObject):
        await read_blob(checked, BLOB.digest)
    with pytest.raises(CorruptObject):
        await checked.get_many([BLOB.digest])
    faults.rates = FaultRates()
    assert await read_blob(checked, BLOB.digest) == BLOB.data


async def test_a_flipped_bit_is_one() -> None:
    service, _ = await filled(FaultRates(corrupt_rate=1))
    (changed,) = await service.get_many([BLOB.digest])
    assert changed is not None
    assert (int.from_bytes(changed) ^ int.from_bytes(BLOB.data)).bit_count() == 1


async def test_short_reads_give_the_right_bytes_until_one_fails() -> None:
    service, _ = await filled(FaultRates(short_read_rate=1))
    reader = await service.open_read(BLOB.digest)
    assert reader is not None
    pieces: list[bytes] = []

    async def read_all() -> None:
        while piece := await reader.read(1000):
            pieces.append(piece)

    with pytest.raises(Unavailable, match=r"in the middle"):
        await read_all()
    assert pieces
    assert all(len(piece) <= 1000 for piece in pieces)
    assert BLOB.data.startswith(b"".join(pieces))


async def test_what_was_sought_is_not_changed() -> None:
    service, _ = await filled(FaultRates(corrupt_rate=1, truncate_rate=1))
    reader = await service.open_read(BLOB.digest)
    assert reader is not None
    await reader.seek(60_000)
    assert await reader.read() == BLOB.data[60_000:]


async def test_a_lost_answer_is_that_of_a_call_that_was_made() -> None:
    service, faults = await filled(FaultRates(error_after_rate=1))
    other = HashedBlob(b"other")
    with pytest.raises(Unavailable, match=r"after it was done"):
        await service.put_many([other])
    with pytest.raises(Unavailable):
        await service.open_read(other.digest)
    faults.rates = FaultRates()
    assert await service.has(other.digest)


async def test_a_crash_breaks_what_is_open_and_healing_does_not_mend_it() -> None:
    service, faults = await filled(FaultRates())
    reader = await service.open_read(BLOB.digest)
    writer = await service.open_write()
    assert reader is not None
    await writer.write(b"half of it")
    faults.crash()
    with pytest.raises(Unavailable, match=r"faulty: has crashed"):
        await service.has(BLOB.digest)
    faults.heal()
    for call in (reader.read(), writer.write(b"more"), writer.close()):
        with pytest.raises(Unavailable, match=r"since this was opened"):
            await call
    assert await read_blob(service, BLOB.digest) == BLOB.data
    assert await write_blob(service, b"other") == HashedBlob(b"other").digest


async def test_a_list_fails_at_its_beginning_in_the_middle_or_at_its_end() -> None:
    service, _ = await filled(FaultRates(error_after_rate=1))
    n_listed: list[int] = []

    async def list_all() -> None:
        n_listed.append(0)
        async for _ in service.list():
            n_listed[-1] += 1

    for _ in range(50):
        with pytest.raises(Unavailable):
            await list_all()
    assert set(n_listed) == {0, 1}
