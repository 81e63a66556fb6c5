"""The service in front of a real server with what a real Nix wrote."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from plugins.nix.binary_caches import METHODS, CacheFiles, RealCache, path_named
from plugins.nix.upstream_server import Store, UpstreamServer
from tvix_store.errors import Unsupported
from tvix_store.path_info import PathInfo
from tvix_store_nix.file_upstream import FileUpstream
from tvix_store_nix.narinfos import NarInfoPolicy

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("compression", METHODS)
async def test_a_path_comes_with_its_contents(real: RealCache, compression: str) -> None:
    policy = NarInfoPolicy(public_keys=[real.public_key])
    async with (
        UpstreamServer.serving(CacheFiles.of(real.written(compression))) as server,
        Store(server.url, policy) as store,
    ):
        path_info = await store.path_infos.get(real.tree.digest)
        assert await store.nar_of(path_info) == real.nar
        assert path_info is not None
        assert path_info == PathInfo.of(server.files.narinfo(real.tree).metadata, path_info.node)


@pytest.mark.parametrize("compression", METHODS)
async def test_a_folder_is_as_good_as_a_server(real: RealCache, compression: str) -> None:
    upstream = FileUpstream("upstream", f"file://{real.written(compression)}")
    async with Store(upstream, NarInfoPolicy(public_keys=[real.public_key])) as store:
        assert await store.nar_of(await store.path_infos.get(real.tree.digest)) == real.nar
        assert await store.path_infos.get(path_named("absent").digest) is None


async def test_references_come_as_they_are_listed(real: RealCache, store: Store) -> None:
    path_info = await store.path_infos.get(real.referring.digest)
    assert path_info is not None
    assert path_info.references == (real.referred,)


async def test_metadata_needs_no_nar(real: RealCache, server: UpstreamServer, store: Store) -> None:
    metadata = await store.path_infos.get_metadata(real.tree.digest)
    assert metadata == server.files.narinfo(real.tree).metadata
    assert server.nar_requests() == 0


async def test_an_absent_path_is_none_and_asked_for_once(server: UpstreamServer, store: Store) -> None:
    path = path_named("absent")
    assert await store.path_infos.get(path.digest) is None
    assert await store.path_infos.get_metadata(path.digest) is None
    assert await store.path_infos.open_nar(path.digest) is None
    assert server.count(f"{path.hash_part}.narinfo") == 1


async def test_a_nar_is_streamed_and_stored_by_one_fetch(real: RealCache, server: UpstreamServer, store: Store) -> None:
    assert await store.streamed(real.tree.digest) == real.nar
    assert await store.nar_of(await store.path_infos.get(real.tree.digest)) == real.nar
    assert server.nar_requests() == 1


async def test_two_hundred_clients_cause_one_request(real: RealCache, server: UpstreamServer, store: Store) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(store.streamed(real.tree.digest)) for _ in range(200)]
        got = group.create_task(store.path_infos.get(real.tree.digest))
    assert {task.result() for task in tasks} == {real.nar}
    assert await store.nar_of(got.result()) == real.nar
    assert (server.nar_requests(), len(server.requests)) == (1, 3)  # nix-cache-info, narinfo, NAR


async def test_a_nar_that_is_stored_is_not_streamed(real: RealCache, store: Store) -> None:
    await store.path_infos.get(real.tree.digest)
    assert await store.path_infos.open_nar(real.tree.digest) is None


async def test_equal_nars_are_fetched_once(real: RealCache, server: UpstreamServer, store: Store) -> None:
    twin = path_named("twin")
    narinfo = server.files.narinfo(real.tree)
    narinfo = replace(narinfo, metadata=replace(narinfo.metadata, store_path=twin, ca=None))
    server.files[f"{twin.hash_part}.narinfo"] = narinfo.render()
    one, other = [await store.path_infos.get(path.digest) for path in (real.tree, twin)]
    assert one is not None
    assert other is not None
    assert (one.node, other.store_path) == (other.node, twin)
    assert server.nar_requests() == 1


async def test_a_nar_whose_contents_are_gone_is_fetched_again(
    real: RealCache, server: UpstreamServer, store: Store
) -> None:
    await store.path_infos.get(real.tree.digest)
    await store.blobs.delete([digest async for digest in store.blobs.list()])
    assert await store.nar_of(await store.path_infos.get(real.tree.digest)) == real.nar
    assert server.nar_requests() == 2


async def test_many_paths_at_once(real: RealCache, server: UpstreamServer) -> None:
    paths = [real.tree, path_named("absent"), real.referring, real.referred, real.tree]
    async with Store(server.url, max_fetches=1) as store:
        found = await store.path_infos.get_many([path.digest for path in paths])
    assert [path_info and path_info.store_path for path_info in found] == [
        real.tree,
        None,
        real.referring,
        real.referred,
        real.tree,
    ]
    assert server.nar_requests() == 3


async def test_nothing_is_put_or_listed(real: RealCache, store: Store) -> None:
    path_info = await store.path_infos.get(real.tree.digest)
    assert path_info is not None
    with pytest.raises(Unsupported, match="binary cache"):
        await store.path_infos.put(path_info)
    with pytest.raises(Unsupported):
        [path_info async for path_info in store.path_infos.list()]
    assert (store.path_infos.capabilities.list, store.path_infos.capabilities.delete) == (False, False)


async def test_the_network_is_left_alone_until_something_is_asked_for(tmp_path: Path) -> None:
    async with Store("http://192.0.2.1:9"):
        pass
