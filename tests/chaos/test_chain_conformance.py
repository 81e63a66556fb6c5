"""Deep chains keep what every service promises: memory over disk over another process, mirrors, and cached shards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from chaos.chains import BLOBS
from chaos.daemon import Daemon, opened, sqlite
from tvix_store.blob import BlobService
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.frontend import Services
from tvix_store.path_info import PathInfoService
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig
from tvix_store.testing import BlobServiceSuite, DirectoryServiceSuite, PathInfoServiceSuite

Entry = Mapping[str, Any]

_FAR = """
[blobservices.root]
type = "sqlite"
path = "{folder}/far.sqlite"
[directoryservices.root]
type = "sqlite"
path = "{folder}/far.sqlite"
[pathinfoservices.root]
type = "sqlite"
path = "{folder}/far.sqlite"
[frontends.grpc]
type = "grpc"
listen = "{folder}/far.sock"
"""


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of a store in a process of its own: its socket and its database."""
    folder = tmp_path_factory.mktemp("far")
    config = folder / "far.toml"
    config.write_text(_FAR.format(folder=folder))
    with Daemon(config):
        yield folder


async def _emptied(folder: Path) -> None:
    """Empty it through the file, which the far process has open as well: nobody deletes over the network."""
    async with opened(sqlite(folder / "far.sqlite")) as services:
        await services.blobs.delete([digest async for digest in services.blobs.list()])
        await services.directories.delete([digest async for digest in services.directories.list()])
        path_infos = [path_info async for path_info in services.path_infos.list()]
        await services.path_infos.delete([path_info.store_path.digest for path_info in path_infos])


def _disk(kind: str, path: Path) -> Entry:
    if kind == BLOBS:
        return {"type": "fs", "path": str(path), "durability": "none"}
    return {"type": "sqlite", "path": f"{path}.sqlite", "durability": "none"}


def _layers(kind: str, folder: Path, far: Path) -> Mapping[str, Entry]:
    return {
        "root": {"type": "cache", "near": "memory", "far": "layers", "write": "both"},
        "memory": {"type": "lru"},
        "layers": {"type": "cache", "near": "disk", "far": "remote", "write": "both"},
        "disk": _disk(kind, folder / "disk"),
        "remote": {"type": "grpc", "url": f"grpc+unix://{far}/far.sock"},
    }


def _mirror(kind: str, folder: Path) -> Mapping[str, Entry]:
    return {
        "root": {"type": "mirror", "replicas": ["one", "two"], "min_writes": 2},
        "one": _disk(kind, folder / "one"),
        "two": _disk(kind, folder / "two"),
    }


def _shards(kind: str, folder: Path) -> Mapping[str, Entry]:
    shards = ["a", "b", "c", "d"]
    shard: Entry = {"type": "shard", "shards": {name: name for name in shards}}
    return {
        "root": {"type": "cache", "near": "memory", "far": "shards", "write": "both"},
        "memory": {"type": "lru"},
        "shards": {**shard, "spool_dir": str(folder)} if kind == BLOBS else shard,
        **{name: _disk(kind, folder / name) for name in shards},
    }


def _config(entries_of: Any) -> StoreConfig:
    document = {kind: entries_of(kind) for kind in (BLOBS, "directoryservices", "pathinfoservices")}
    return StoreConfig.parse(document, Registry.load(), "test")


class _Layers:
    @pytest.fixture
    async def services(self, tmp_path: Path, far: Path) -> AsyncIterator[Services]:
        await _emptied(far)
        async with opened(_config(lambda kind: _layers(kind, tmp_path, far))) as services:
            await services.blobs.has(B3Digest.of(b"absent"))  # what a far store can do is known once it was asked
            yield services


class _Mirror:
    @pytest.fixture
    async def services(self, tmp_path: Path) -> AsyncIterator[Services]:
        async with opened(_config(lambda kind: _mirror(kind, tmp_path))) as services:
            yield services


class _Shards:
    @pytest.fixture
    async def services(self, tmp_path: Path) -> AsyncIterator[Services]:
        async with opened(_config(lambda kind: _shards(kind, tmp_path))) as services:
            yield services


class _Blobs(BlobServiceSuite):
    @pytest.fixture
    async def service(self, services: Services) -> BlobService:
        return services.blobs


class _Directories(DirectoryServiceSuite):
    @pytest.fixture
    async def service(self, services: Services) -> DirectoryService:
        return services.directories


class _PathInfos(PathInfoServiceSuite):
    @pytest.fixture
    async def service(self, services: Services) -> PathInfoService:
        return services.path_infos


class TestBlobsOfLayers(_Layers, _Blobs): ...


class TestDirectoriesOfLayers(_Layers, _Directories): ...


class TestPathInfosOfLayers(_Layers, _PathInfos): ...


class TestBlobsOfAMirror(_Mirror, _Blobs): ...


class TestDirectoriesOfAMirror(_Mirror, _Directories): ...


class TestPathInfosOfAMirror(_Mirror, _PathInfos): ...


class TestBlobsOfCachedShards(_Shards, _Blobs): ...


class TestDirectoriesOfCachedShards(_Shards, _Directories): ...


class TestPathInfosOfCachedShards(_Shards, _PathInfos): ...
