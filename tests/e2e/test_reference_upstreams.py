"""Paths of an upstream binary cache: what the reference takes and refuses, and what is done differently here."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import hashlib
import tomllib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.composed import Composed, composed
from plugins.nix.binary_caches import CacheFiles
from plugins.nix.upstream_server import UpstreamServer, status
from tvix_store.content_address import ContentAddress, ContentAddressMethod
from tvix_store.errors import ConfigError, CorruptObject, InvalidObject, Unavailable, Unsupported
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.narinfo import NarInfo
from tvix_store.path_info import PathInfo, PathMetadata
from tvix_store.registry import Registry
from tvix_store.signing import SecretKey
from tvix_store.store_path import StorePath, store_path_for_ca
from tvix_store.testing.fixtures import PATH_INFO, store_path
from tvix_store.testing.path_info_suite import list_path_infos
from vectors.castore_nars import NARS
from vectors.compositions import EXAMPLE
from vectors.nar import encode
from vectors.nix_keys import KEYS

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


class Upstream:
    """A binary cache on a server, with paths that were made up for it."""

    def __init__(self, server: UpstreamServer, key: SecretKey) -> None:
        self.server = server
        self.key = key
        self.nar = encode(NARS["demo"][0])

    def add(self, name: str, **metadata: object) -> StorePath:
        """A path with ``nar``, in a narinfo that is signed."""
        path = store_path(name)
        described = PathMetadata(
            store_path=path,
            nar_size=len(self.nar),
            nar_sha256=hashlib.sha256(self.nar).digest(),
            references=(path,),
        )
        described = self.key.signed(replace(described, **metadata))  # type: ignore[arg-type]
        self.server.files["nar/one.nar"] = self.nar
        self.server.files[f"{path.hash_part}.narinfo"] = NarInfo(described, "nar/one.nar", "none").render()
        return path

    def change(self, path: StorePath, **changes: object) -> None:
        self.server.files.change_narinfo(path, lambda narinfo: replace(narinfo, **changes))  # type: ignore[arg-type]

    def composition(self, more: str = "", near: str = "") -> str:
        upstream = f'type = "nix", base_url = "{self.server.url}", retries = 0{more}'
        if near:
            upstream = f'type = "cache", near = "{near}", far = "upstream" }}\nupstream = {{ {upstream}'
        return f"""
[blobservices.root]
type = "memory"
[directoryservices.root]
type = "memory"
[pathinfoservices]
root = {{ {upstream} }}
"""

    @property
    def keys(self) -> str:
        return f', public_keys = ["{self.key.public}"]'


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with UpstreamServer.serving(CacheFiles()) as server:  # its URL has a path, without a slash at the end
        yield Upstream(server, SecretKey.generate("cache.example-1"))


async def nar_of(store: Composed, info: PathInfo | None) -> bytes:
    assert info is not None
    digest = await (await store.services()).nar_calculation.calculate_nar(info.node)
    assert (digest.size, digest.sha256) == (info.nar_size, info.nar_sha256)
    return digest.sha256


async def test_a_path_of_an_upstream_comes_with_its_contents(registry: Registry, upstream: Upstream) -> None:
    path = upstream.add("demo", deriver=store_path("demo.drv"))
    async with composed(upstream.composition(upstream.keys), registry) as store:
        info = await (await store.path_infos()).get(path.digest)
        assert info is not None
        assert (info.store_path, info.references, info.deriver) == (path, (path,), store_path("demo.drv"))
        assert [signature.name for signature in info.signatures] == ["cache.example-1"]
        assert (await nar_of(store, info)).hex() == NARS["demo"][2]
    assert {headers["User-Agent"].partition("/")[0] for headers in upstream.server.headers} == {"tvix-store"}


@pytest.mark.parametrize("code", [403, 404, 410])  # the last one not there
async def test_answers_that_say_absent(registry: Registry, upstream: Upstream, code: int) -> None:
    path = upstream.add("demo")
    upstream.server.instead[f"{path.hash_part}.narinfo"] = status(code)
    async with composed(upstream.composition(), registry) as store:
        assert await (await store.path_infos()).get(path.digest) is None


@pytest.mark.parametrize("code", [401, 500, 503])
async def test_other_answers_are_failures_and_no_narinfos(registry: Registry, upstream: Upstream, code: int) -> None:
    """There, the body of any of them is parsed."""
    path = upstream.add("demo")
    upstream.server.instead[f"{path.hash_part}.narinfo"] = status(code)
    async with composed(upstream.composition(), registry) as store:
        with pytest.raises(Unavailable):
            await (await store.path_infos()).get(path.digest)


async def test_a_path_that_was_not_asked_for_is_refused(registry: Registry, upstream: Upstream) -> None:
    """There, it is taken for the other one."""
    asked, other = store_path("asked"), upstream.add("other")
    files = upstream.server.files
    files[f"{asked.hash_part}.narinfo"] = files[f"{other.hash_part}.narinfo"]
    async with composed(upstream.composition(upstream.keys, near="memory://"), registry) as store:
        root = await store.path_infos()
        with pytest.raises(InvalidObject):
            await root.get(asked.digest)
        assert await list_path_infos(root) == []


@pytest.mark.parametrize("keys", ["", ", public_keys = []", f', public_keys = ["{KEYS[0][1]}"]'])
async def test_signatures_are_asked_for_where_keys_are_given(registry: Registry, upstream: Upstream, keys: str) -> None:
    path = upstream.add("demo")
    async with composed(upstream.composition(keys), registry) as store:
        root = await store.path_infos()
        if keys:
            with pytest.raises(InvalidObject):
                await root.get(path.digest)
        else:
            assert await root.get(path.digest) is not None


async def test_a_path_that_follows_from_its_contents_needs_no_signature(registry: Registry, upstream: Upstream) -> None:
    """There, it does."""
    nar_hash = NixHash(HashAlgorithm.SHA256, hashlib.sha256(upstream.nar).digest())
    ca = ContentAddress(ContentAddressMethod.NAR, nar_hash)
    path = store_path_for_ca("demo", ca)
    upstream.add("demo", store_path=path, ca=ca, references=())
    files = upstream.server.files
    files[f"{path.hash_part}.narinfo"] = files.pop(f"{store_path('demo').hash_part}.narinfo")
    files.change_metadata(path, lambda metadata: replace(metadata, signatures=()))
    async with composed(upstream.composition(", public_keys = []"), registry) as store:
        assert await (await store.path_infos()).get(path.digest) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"file_size": 1},  # neither is looked at there
        {"file_hash": NixHash(HashAlgorithm.SHA256, bytes(32))},
    ],
)
async def test_size_and_hash_of_the_file_are_checked(
    registry: Registry, upstream: Upstream, changes: dict[str, object]
) -> None:
    path = upstream.add("demo")
    upstream.change(path, **changes)
    async with composed(upstream.composition(), registry) as store:
        with pytest.raises(CorruptObject):
            await (await store.path_infos()).get(path.digest)


async def test_another_nar_than_was_announced_is_an_error(registry: Registry, upstream: Upstream) -> None:
    path = upstream.add("demo", nar_sha256=bytes(32))
    async with composed(upstream.composition(upstream.keys, near="memory://"), registry) as store:
        root = await store.path_infos()
        with pytest.raises(CorruptObject):
            await root.get(path.digest)
        assert await list_path_infos(root) == []


@pytest.mark.parametrize(
    ("compression", "compress"),
    [("bzip2", bz2.compress), ("", bz2.compress), ("gzip", gzip.compress), ("none", bytes)],
)
async def test_compressions(
    registry: Registry, upstream: Upstream, compression: str, compress: Callable[[bytes], bytes]
) -> None:
    path = upstream.add("demo")
    upstream.server.files["nar/one.nar"] = compress(upstream.nar)
    name = f"{path.hash_part}.narinfo"
    line = f"Compression: {compression}\n".encode() if compression else b""
    upstream.server.files[name] = upstream.server.files[name].replace(b"Compression: none\n", line)
    async with composed(upstream.composition(), registry) as store:
        await nar_of(store, await (await store.path_infos()).get(path.digest))


async def test_a_compression_that_is_not_known_is_an_error(registry: Registry, upstream: Upstream) -> None:
    path = upstream.add("demo")
    upstream.change(path, compression="lz4")
    async with composed(upstream.composition(), registry) as store:
        with pytest.raises(CorruptObject, match="'lz4' is none of none, xz"):
            await (await store.path_infos()).get(path.digest)


async def test_a_path_is_fetched_once_for_all_and_so_are_equal_nars(registry: Registry, upstream: Upstream) -> None:
    """There, each request fetches."""
    path, equal = upstream.add("demo"), upstream.add("equal")
    async with composed(upstream.composition(), registry) as store:
        root = await store.path_infos()
        found = await asyncio.gather(*(root.get(path.digest) for _ in range(10)))
        assert len({info.nar_sha256 for info in found if info is not None}) == 1
        assert await root.get(equal.digest) is not None
    assert upstream.server.nar_requests() == 1


async def test_nothing_is_put_into_an_upstream_or_listed(registry: Registry, upstream: Upstream) -> None:
    async with composed(upstream.composition(), registry) as store:
        root = await store.path_infos()
        with pytest.raises(Unsupported):
            await root.put(PATH_INFO)
        with pytest.raises(Unsupported):
            await list_path_infos(root)


async def test_a_cache_for_another_store_directory_is_refused(registry: Registry, upstream: Upstream) -> None:
    """There, it is not looked at."""
    path = upstream.add("demo")
    upstream.server.files["nix-cache-info"] = b"StoreDir: /elsewhere\n"
    async with composed(upstream.composition(), registry) as store:
        with pytest.raises(ConfigError):
            await (await store.path_infos()).get(path.digest)


async def test_the_example_keeps_what_its_upstream_has(registry: Registry, upstream: Upstream, tmp_path: Path) -> None:
    path = upstream.add("demo")
    document = tomllib.loads(EXAMPLE)
    document["blobservices"]["root"] = {"type": "fs", "path": f"{tmp_path}/blobs"}
    document["directoryservices"]["root"].update(type="sqlite", path=f"{tmp_path}/store.sqlite")
    document["pathinfoservices"]["local"].update(type="sqlite", path=f"{tmp_path}/store.sqlite")
    document["pathinfoservices"]["upstream"].update(
        base_url=upstream.server.url, public_keys=[str(upstream.key.public)]
    )
    async with composed(document, registry) as store:
        fetched = await (await store.path_infos()).get(path.digest)
    upstream.server.requests.clear()
    async with composed(document, registry) as store:
        assert await (await store.path_infos()).get(path.digest) == fetched
        await nar_of(store, fetched)
    assert upstream.server.requests == []
