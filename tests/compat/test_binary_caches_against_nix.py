"""Our narinfos, keys and signatures against those of a real Nix, which writes binary caches and reads ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compat.real_nix import NixFailed, RealNix
from tvix_store.binary_cache import BinaryCache
from tvix_store.cache_info import CacheInfo
from tvix_store.cli.copy import copy_closure, parse_reference_graph
from tvix_store.compression import SUFFIXES
from tvix_store.frontend import Services
from tvix_store.nar_render import RenderingNarCalculation
from tvix_store.narinfo import NarInfo
from tvix_store.path_closure import path_closure
from tvix_store.path_info import PathInfo
from tvix_store.signing import SecretKey
from tvix_store.trust import is_content_addressed, signed_by
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio

KEY = SecretKey.generate("cache.example.org-1")
STRANGER = SecretKey.generate("stranger-1")


@pytest.fixture
def nix(nix_store: str, tmp_path: Path) -> RealNix:
    return RealNix(tmp_path / "nix")


@pytest.fixture
def path(nix: RealNix) -> str:
    """A path with references that needs a signature."""
    return nix.add_closure()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    file = tmp_path / "key.secret"
    file.touch(0o600)
    file.write_text(str(KEY))
    return file


def narinfos(cache: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in cache.glob("*.narinfo")}


async def exported(nix: RealNix, path: str, cache: BinaryCache) -> None:
    """Write what Nix has into our store, and from there into a binary cache."""
    blobs, directories = MemoryBlobService(), MemoryDirectoryService()
    calculation = RenderingNarCalculation(blobs, directories)
    services = Services(blobs, directories, MemoryPathInfoService(), calculation)
    wanted = parse_reference_graph(nix.graph(path))
    copied = [path_info async for path_info in copy_closure(services, wanted, nix.where("/nix/store"))]
    told: list[PathInfo] = []
    closure = await path_closure(services.path_infos, [info for info in copied if info.store_path.absolute() == path])
    await cache.add(services, closure, lambda path_info, _: told.append(path_info))
    assert told == closure
    assert len(closure) == 4


@pytest.mark.parametrize("compression", SUFFIXES)
def test_narinfos_of_nix_are_written_again_as_they_were(
    nix: RealNix, path: str, key_file: Path, compression: str, tmp_path: Path
) -> None:
    url = f"file://{tmp_path}/cache?compression={compression}&secret-key={key_file}"
    nix.run("nix", "copy", "--store", nix.root, "--to", url, path)
    documents = narinfos(tmp_path / "cache")
    assert len(documents) == 4
    for document in documents.values():
        narinfo = NarInfo.parse(document)
        assert narinfo.render() == document
        assert narinfo.compression == compression
        assert narinfo.url.endswith(f".nar{SUFFIXES[compression]}")
        assert narinfo.metadata.signatures == (KEY.sign(narinfo.metadata),)
        assert signed_by(narinfo.metadata, [KEY.public]) is KEY.public
        assert is_content_addressed(narinfo.metadata) is (narinfo.metadata.store_path.name != "by-its-inputs")
    assert CacheInfo.parse((tmp_path / "cache" / "nix-cache-info").read_bytes()) == CacheInfo("/nix/store")


@pytest.mark.parametrize("compression", SUFFIXES)
async def test_nix_takes_what_we_export_and_signed(nix: RealNix, path: str, compression: str, tmp_path: Path) -> None:
    await exported(nix, path, BinaryCache(tmp_path / "cache", compression=compression, keys=[KEY]))
    into = tmp_path / "into"
    command = ("nix", "copy", "--from", f"file://{tmp_path}/cache", "--to", into, path)
    with pytest.raises(NixFailed, match="lacks a valid signature"):
        nix.run(*command, "--option", "trusted-public-keys", str(STRANGER.public))
    nix.run(*command, "--option", "trusted-public-keys", str(KEY.public))
    assert len(json.loads(nix.run("nix", "path-info", "--store", into, "--json", "-r", path))) == 4
    taken, given = (root / path.removeprefix("/") / "bin" / "x" for root in (into, nix.root))
    assert taken.read_bytes() == given.read_bytes()


async def test_nix_verifies_and_signs_what_we_export(nix: RealNix, path: str, key_file: Path, tmp_path: Path) -> None:
    await exported(nix, path, BinaryCache(tmp_path / "cache", keys=[STRANGER], write_listings=True))
    url = f"file://{tmp_path}/cache"
    verify = ("nix", "store", "verify", "--store", url, "--recursive", "--sigs-needed", "1", path)
    nix.run(*verify, "--option", "trusted-public-keys", str(STRANGER.public))
    assert "./bin/x\n" in nix.run("nix", "store", "ls", "--store", url, "--recursive", path)
    nix.run("nix", "store", "sign", "--store", url, "--key-file", key_file, "--recursive", path)
    for document in narinfos(tmp_path / "cache").values():
        metadata = NarInfo.parse(document).metadata
        assert set(metadata.signatures) == {KEY.sign(metadata), STRANGER.sign(metadata)}
    nix.run(*verify, "--option", "trusted-public-keys", str(KEY.public))


async def test_listings_are_those_of_nix(nix: RealNix, path: str, tmp_path: Path) -> None:
    await exported(nix, path, BinaryCache(tmp_path / "ours", write_listings=True))
    nix.run("nix", "copy", "--store", nix.root, "--to", f"file://{tmp_path}/theirs?write-nar-listing=1", path)
    ours, theirs = (
        {file.name: json.loads(file.read_bytes()) for file in (tmp_path / folder).glob("*.ls")}
        for folder in ("ours", "theirs")
    )
    assert len(ours) == 4
    assert ours == theirs
