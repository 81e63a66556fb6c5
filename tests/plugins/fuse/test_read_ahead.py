from __future__ import annotations

from tvix_store.blob import BlobService, ChunkMeta
from tvix_store.digest import B3Digest
from tvix_store.limits import KIB, MIB
from tvix_store.testing.minimal import MinimalBlobService
from tvix_store_fuse.asking import Asking
from tvix_store_fuse.layouts import ChunkedLayout, Layout
from tvix_store_fuse.read_ahead import ReadAhead

READ = 128 * KIB
CHUNK = 64 * KIB


def layout(size: int, number: int = 0, chunk_bytes: int = CHUNK) -> ChunkedLayout:
    """A blob of so many bytes in chunks of the same length."""
    blobs: BlobService = MinimalBlobService()
    digest = B3Digest.of(b"%d" % number)
    return ChunkedLayout(Asking(blobs, 1.0), digest, size, [ChunkMeta(digest, chunk_bytes)] * (size // chunk_bytes))


class Started:
    """What a read-ahead has started, as bytes from and up to."""

    def __init__(self, max_bytes: int = 8 * MIB, budget_bytes: int = 1024 * MIB) -> None:
        self.ahead = ReadAhead(self._start, max_bytes, budget_bytes)
        self.batches: list[tuple[int, int]] = []

    def _start(self, layout: Layout, indices: range) -> None:
        self.batches.append((layout.start(indices.start), layout.start(indices.stop)))

    def read(self, layout: Layout, offset: int, size: int = READ) -> list[tuple[int, int]]:
        """What this read starts."""
        before = len(self.batches)
        self.ahead.note(layout, offset, min(offset + size, layout.size))
        return self.batches[before:]


def test_one_read_starts_nothing() -> None:
    assert Started().read(layout(64 * MIB), 0) == []


def test_a_second_one_that_follows_starts_half_a_mib() -> None:
    started, blob = Started(), layout(64 * MIB)
    started.read(blob, 0)
    assert started.read(blob, READ) == [(2 * READ, 2 * READ + 512 * KIB)]


def test_more_is_started_when_half_is_read_and_twice_as_much() -> None:
    started, blob = Started(), layout(64 * MIB)
    started.read(blob, 0)
    started.read(blob, READ)
    assert started.read(blob, 2 * READ) == []
    assert started.read(blob, 3 * READ) == []
    assert started.read(blob, 4 * READ) == [(6 * READ, 5 * READ + 1 * MIB)]


def test_what_is_started_follows_without_a_gap_and_never_twice() -> None:
    started, blob = Started(), layout(64 * MIB)
    for offset in range(0, 48 * MIB, READ):
        started.read(blob, offset)
    ends = [end for _, end in started.batches]
    assert [start for start, _ in started.batches] == [2 * READ, *ends[:-1]]


def test_it_keeps_within_its_bound_and_never_far_from_it() -> None:
    started, blob = Started(max_bytes=8 * MIB), layout(64 * MIB)
    ahead = []
    for offset in range(0, 48 * MIB, READ):
        started.read(blob, offset)
        ahead.append(started.batches[-1][1] - offset - READ if started.batches else 0)
    assert max(ahead) == 8 * MIB
    assert min(ahead[16 * MIB // READ :]) >= 4 * MIB - READ


def test_batches_are_of_two_mib_so_that_several_are_under_way() -> None:
    started, blob = Started(), layout(64 * MIB)
    for offset in range(0, 32 * MIB, READ):
        started.read(blob, offset)
    assert max(end - start for start, end in started.batches) == 2 * MIB
    assert len(started.batches) >= 16


def test_nothing_is_started_past_the_end() -> None:
    started, blob = Started(), layout(MIB)
    for offset in range(0, MIB, READ):
        started.read(blob, offset)
    assert started.batches == [(2 * READ, 6 * READ), (6 * READ, MIB)]


def test_reads_here_and_there_start_nothing() -> None:
    started, blob = Started(), layout(64 * MIB)
    for offset in (0, 5 * MIB, 60 * MIB, 20 * MIB, 30 * MIB, 2 * MIB):
        assert started.read(blob, offset) == []


def test_a_read_elsewhere_begins_anew() -> None:
    started, blob = Started(), layout(64 * MIB)
    for offset in range(0, 8 * MIB, READ):
        started.read(blob, offset)
    assert started.read(blob, 40 * MIB) == []
    assert started.read(blob, 40 * MIB + READ) == [(40 * MIB + 2 * READ, 40 * MIB + 2 * READ + 512 * KIB)]


def test_reads_that_arrive_out_of_order_count_as_reading_on() -> None:
    started, blob = Started(), layout(64 * MIB)
    assert started.read(blob, READ) == []
    assert started.read(blob, 0) == [(2 * READ, 2 * READ + 512 * KIB)]
    assert started.read(blob, 2 * READ) == []
    assert started.read(blob, 4 * READ) == [(6 * READ, 5 * READ + 1 * MIB)]


def test_reading_the_same_place_again_and_again_starts_no_more() -> None:
    started, blob = Started(), layout(64 * MIB)
    for _ in range(100):
        started.read(blob, 0)
    assert started.batches == [(READ, READ + 512 * KIB)]


def test_nothing_is_started_if_nothing_may_be() -> None:
    started, blob = Started(max_bytes=0), layout(64 * MIB)
    for offset in range(0, 8 * MIB, READ):
        assert started.read(blob, offset) == []


def test_all_blobs_together_keep_within_the_budget() -> None:
    started = Started(budget_bytes=1 * MIB)
    blobs = [layout(64 * MIB, number) for number in range(8)]
    ends: dict[int, int] = {}
    for offset in range(0, 8 * MIB, READ):
        for number, blob in enumerate(blobs):
            for _, end in started.read(blob, offset):
                ends[number] = end
            ahead = [max(ends.get(other, 0) - offset - READ, 0) for other in range(number + 1)]
            ahead += [max(ends.get(other, 0) - offset, 0) for other in range(number + 1, 8)]
            assert sum(ahead) <= 1 * MIB


def test_a_blob_that_nobody_reads_any_more_gives_its_budget_to_others() -> None:
    started = Started(budget_bytes=512 * KIB)
    left, other = layout(64 * MIB, 1), layout(256 * MIB, 2)
    started.read(left, 0)
    assert started.read(left, READ) != []
    started.read(other, 0)
    assert started.read(other, READ) == []
    for offset in range(2 * READ, 256 * MIB, READ):
        started.read(other, offset)
    assert started.batches[-1][1] == 256 * MIB


def test_a_blob_that_was_read_to_its_end_gives_its_budget_to_others() -> None:
    started = Started(budget_bytes=512 * KIB)
    first, second = layout(MIB, 1), layout(64 * MIB, 2)
    for offset in range(0, MIB, READ):
        started.read(first, offset)
    started.read(second, 0)
    assert started.read(second, READ) == [(2 * READ, 2 * READ + 512 * KIB)]


def test_few_blobs_are_remembered() -> None:
    started = Started()
    first = layout(64 * MIB, 0)
    started.read(first, 0)
    for number in range(1, 257):
        started.read(layout(64 * MIB, number), 0)
    assert started.read(first, READ) == []


def test_those_read_last_are_remembered() -> None:
    started = Started()
    first = layout(64 * MIB, 0)
    for number in range(1, 300):
        started.read(layout(64 * MIB, number), 0)
        started.read(first, 0)
    assert started.batches == [(READ, READ + 512 * KIB)]


def test_few_pieces_are_started_at_once_if_they_are_tiny() -> None:
    started, blob = Started(), layout(1 * MIB, chunk_bytes=16)
    started.read(blob, 0)
    assert started.read(blob, READ) == [(2 * READ, 2 * READ + 4096 * 16)]
