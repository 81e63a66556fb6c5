"""How long narinfos are remembered."""

from __future__ import annotations

import asyncio

import pytest

from plugins.nix.binary_caches import CacheFiles, RealCache, path_named
from tvix_store.errors import Unavailable
from tvix_store_nix.file_upstream import FileUpstream
from tvix_store_nix.narinfos import NarInfoPolicy, NarInfos

pytestmark = pytest.mark.anyio


class CountingUpstream(FileUpstream):
    """Counts what is read; fails while it is ``broken``."""

    def __init__(self, real: RealCache) -> None:
        super().__init__("upstream", "file:///nowhere")
        self.files = CacheFiles.of(real.written("xz"))
        self.read_names: list[str] = []
        self.is_broken = False

    async def read(self, name: str, max_bytes: int) -> bytes | None:
        self.read_names.append(name)
        await asyncio.sleep(0)
        if self.is_broken:
            raise Unavailable("not now")
        return self.files.get(name)

    def count(self, digest_name: str) -> int:
        return self.read_names.count(f"{digest_name}.narinfo")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def upstream(real: RealCache) -> CountingUpstream:
    return CountingUpstream(real)


def made(upstream: CountingUpstream, clock: Clock, **policy: float) -> NarInfos:
    options = NarInfoPolicy(
        negative_ttl_s=policy.get("negative_ttl_s", 30), max_remembered_bytes=int(policy.get("max_bytes", 1 << 24))
    )
    return NarInfos("upstream", upstream, options, clock)


async def test_what_is_there_is_remembered_for_a_minute(
    real: RealCache, upstream: CountingUpstream, clock: Clock
) -> None:
    narinfos = made(upstream, clock)
    for seconds, count in ((0, 1), (59, 1), (2, 2)):
        clock.now += seconds
        assert await narinfos.get(real.tree.digest) == upstream.files.narinfo(real.tree)
        assert upstream.count(real.tree.hash_part) == count


async def test_what_is_not_there_is_remembered_as_long_as_configured(upstream: CountingUpstream, clock: Clock) -> None:
    narinfos = made(upstream, clock, negative_ttl_s=5)
    path = path_named("absent")
    for seconds, count in ((0, 1), (4, 1), (2, 2)):
        clock.now += seconds
        assert await narinfos.get(path.digest) is None
        assert upstream.count(path.hash_part) == count


async def test_what_has_come_meanwhile_is_found(real: RealCache, upstream: CountingUpstream, clock: Clock) -> None:
    narinfos = made(upstream, clock, negative_ttl_s=5)
    files = CacheFiles(upstream.files)
    upstream.files.clear()
    assert await narinfos.get(real.tree.digest) is None
    upstream.files.update(files)
    assert await narinfos.get(real.tree.digest) is None
    clock.now += 6
    assert await narinfos.get(real.tree.digest) is not None


async def test_many_who_ask_at_once_cause_one_request(
    real: RealCache, upstream: CountingUpstream, clock: Clock
) -> None:
    narinfos = made(upstream, clock)
    asked = [real.tree.digest, path_named("absent").digest] * 50
    await asyncio.gather(*(narinfos.get(digest) for digest in asked))
    assert sorted(upstream.read_names) == sorted(
        ["nix-cache-info", f"{real.tree.hash_part}.narinfo", f"{path_named('absent').hash_part}.narinfo"]
    )


async def test_failures_are_not_remembered(real: RealCache, upstream: CountingUpstream, clock: Clock) -> None:
    narinfos = made(upstream, clock)
    await narinfos.get(real.referred.digest)
    upstream.is_broken = True
    with pytest.raises(Unavailable):
        await narinfos.get(real.tree.digest)
    upstream.is_broken = False
    assert await narinfos.get(real.tree.digest) is not None


async def test_what_is_remembered_is_bounded(real: RealCache, upstream: CountingUpstream, clock: Clock) -> None:
    narinfos = made(upstream, clock, max_bytes=3 * 512)
    paths = [path_named("absent").digest[:-1] + bytes([number]) for number in range(10)]
    for digest in paths:
        await narinfos.get(digest)
    upstream.read_names.clear()
    for digest in paths[-3:]:
        await narinfos.get(digest)
    assert upstream.read_names == []
    await narinfos.get(paths[0])
    assert len(upstream.read_names) == 1
    assert await narinfos.get(real.tree.digest) is not None
