"""Three services of different types in one composition keep the promises, path infos being in a second process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tvix_store.blob import BlobService
from tvix_store.composition import Composition
from tvix_store.directory import DirectoryService
from tvix_store.frontend import Services
from tvix_store.ingest import ingest_path
from tvix_store.path_info import PathInfoService
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig
from tvix_store.testing import BlobServiceSuite, DirectoryServiceSuite, PathInfoServiceSuite

_FAR = """
[blobservices.root]
type = "memory"
[directoryservices.root]
type = "memory"
[pathinfoservices.root]
type = "sqlite"
path = "{directory}/far.sqlite"
[frontends.grpc]
type = "grpc"
listen = "{directory}/far.sock"
"""

_NEAR = """
[blobservices.root]
type = "sqlite"
path = "{tmp_path}/blobs.sqlite"
[directoryservices.root]
type = "memory"
[pathinfoservices.root]
type = "grpc"
url = "grpc+unix://{directory}/far.sock"
"""


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store in a process of its own; the directory that its socket and its database are in."""
    directory = tmp_path_factory.mktemp("far")
    config = directory / "far.toml"
    config.write_text(_FAR.format(directory=directory))
    command = [str(Path(sys.executable).with_name("tvix-store")), "run", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("ready" in line for line in process.stderr), "the far store did not start"
        yield directory
        process.terminate()


class _Composed:
    @pytest.fixture
    async def services(self, far: Path, tmp_path: Path) -> AsyncIterator[Services]:
        config = tmp_path / "near.toml"
        config.write_text(_NEAR.format(tmp_path=tmp_path, directory=far))
        registry = Registry.load()
        async with Composition(StoreConfig.load(config, registry), registry) as composition:
            yield await composition.services()


class TestBlobsInSqlite(_Composed, BlobServiceSuite):
    @pytest.fixture
    async def service(self, services: Services) -> BlobService:
        return services.blobs


class TestDirectoriesInMemory(_Composed, DirectoryServiceSuite):
    @pytest.fixture
    async def service(self, services: Services) -> DirectoryService:
        return services.directories


class TestPathInfosInASecondProcess(_Composed, PathInfoServiceSuite):
    @pytest.fixture
    async def service(self, services: Services, far: Path) -> PathInfoService:
        """Emptied through the file, which the far process has open as well: nobody deletes over the network."""
        url = f"sqlite://{far}/far.sqlite"
        registry = Registry.load()
        config = StoreConfig.from_urls("memory://", "memory://", url, registry, "test")
        async with Composition(config, registry) as composition:
            path_infos = (await composition.services()).path_infos
            await path_infos.delete([path_info.store_path.digest async for path_info in path_infos.list()])
        return services.path_infos


@pytest.mark.anyio
class TestAll(_Composed):
    async def test_the_nar_of_what_the_far_store_does_not_have_is_calculated_here(
        self, services: Services, tmp_path: Path
    ) -> None:
        tree = tmp_path / "tree"
        tree.mkdir()
        (tree / "file").write_bytes(b"contents")
        ingested = await ingest_path(tree, services.blobs, services.directories)
        assert await services.nar_calculation.calculate_nar(ingested.node) == ingested.nar
