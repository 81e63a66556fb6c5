"""Store paths as a folder that is a binary cache at every moment."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.full_disk import limited_files
from tvix_store.binary_cache import BinaryCache
from tvix_store.compression import SUFFIXES, decompressed
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, DanglingReference, InvalidObject, OutOfSpace, Unavailable
from tvix_store.frontend import Services
from tvix_store.ingest import ingest_path
from tvix_store.limits import SMALL_BLOB_BYTES
from tvix_store.nar_render import RenderingNarCalculation
from tvix_store.narinfo import NarInfo
from tvix_store.path_info import PathInfo
from tvix_store.signing import SecretKey
from tvix_store.store_path import StorePath
from tvix_store.testing.fixtures import store_path
from tvix_store.trust import signed_by
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService
from vectors.nar import TREES, Tree, encode, materialise

pytestmark = pytest.mark.anyio

KEY = SecretKey.generate("key")


class Blobs(MemoryBlobService):
    """Waits before it answers, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def get_many(
        self, digests: Sequence[B3Digest], *, max_blob_bytes: int = SMALL_BLOB_BYTES
    ) -> Sequence[bytes | None]:
        self.asked.set()
        await self.may_answer.wait()
        return await super().get_many(digests, max_blob_bytes=max_blob_bytes)


class Store:
    """Paths with the contents of the sample trees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.blobs, directories = Blobs(), MemoryDirectoryService()
        calculation = RenderingNarCalculation(self.blobs, directories)
        self.services = Services(self.blobs, directories, MemoryPathInfoService(), calculation)

    async def path(self, name: str, tree: Tree, references: Sequence[StorePath] = ()) -> PathInfo:
        path = materialise(tree, self.folder / name)
        ingested = await ingest_path(path, self.services.blobs, self.services.directories)
        return await self.services.path_infos.put(
            PathInfo(
                store_path=store_path(name),
                node=ingested.node,
                nar_size=ingested.nar.size,
                nar_sha256=ingested.nar.sha256,
                references=tuple(references),
            )
        )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "trees").mkdir()
    return Store(tmp_path / "trees")


def nothing_told(path_info: PathInfo, written: bool) -> None:
    """For those who do not listen."""


def narinfo(folder: Path, path_info: PathInfo) -> NarInfo:
    return NarInfo.parse((folder / f"{path_info.store_path.hash_part}.narinfo").read_bytes())


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("compression", SUFFIXES)
async def test_a_path_is_written_in_every_compression(store: Store, tmp_path: Path, compression: str) -> None:
    path_info = await store.path("mixed", TREES["mixed"])
    cache = BinaryCache(tmp_path / "cache", compression=compression)
    await cache.add(store.services, [path_info], nothing_told)
    written = narinfo(cache.folder, path_info)
    data = (cache.folder / written.url).read_bytes()
    assert replace(path_info, signatures=()) == PathInfo.of(written.metadata, path_info.node)
    assert written.compression == compression
    assert (written.file_size, written.file_hash and written.file_hash.digest) == (
        len(data),
        hashlib.sha256(data).digest(),
    )
    assert written.file_hash is not None
    assert written.url == f"nar/{written.file_hash.nixbase32()}.nar{SUFFIXES[compression]}"

    async def pieces() -> AsyncIterator[bytes]:
        yield data

    async with aclosing(decompressed(pieces(), compression)) as nar:
        assert b"".join([piece async for piece in nar]) == encode(TREES["mixed"])


async def test_the_folder_says_what_it_is(store: Store, tmp_path: Path) -> None:
    await BinaryCache(tmp_path / "a" / "cache").add(store.services, [], nothing_told)
    assert (tmp_path / "a" / "cache" / "nix-cache-info").read_text() == "StoreDir: /nix/store\nWantMassQuery: 1\n"
    with pytest.raises(InvalidObject, match="the cache is for paths in /nix/store, not in /gnu/store"):
        await BinaryCache(tmp_path / "a" / "cache", store_dir="/gnu/store").add(store.services, [], nothing_told)


async def test_all_of_it_can_be_read_by_others(store: Store, tmp_path: Path) -> None:
    await BinaryCache(tmp_path / "cache").add(store.services, [await store.path("a", TREES["link"])], nothing_told)
    assert all((tmp_path / "cache" / name).stat().st_mode & 0o444 == 0o444 for name in files(tmp_path / "cache"))


async def test_keys_sign_and_listings_are_written(store: Store, tmp_path: Path) -> None:
    path_info = await store.path("mixed", TREES["mixed"])
    cache = BinaryCache(tmp_path / "cache", keys=[KEY], write_listings=True)
    await cache.add(store.services, [path_info], nothing_told)
    assert signed_by(narinfo(cache.folder, path_info).metadata, [KEY.public]) is KEY.public
    listing = json.loads((cache.folder / f"{path_info.store_path.hash_part}.ls").read_bytes())
    assert listing["root"]["type"] == "directory"


async def test_what_is_there_is_passed_over(store: Store, tmp_path: Path) -> None:
    one, two = await store.path("one", TREES["mixed"]), await store.path("two", TREES["hello"])
    cache = BinaryCache(tmp_path / "cache")
    told: list[tuple[str, bool]] = []

    def done(path_info: PathInfo, written: bool) -> None:
        told.append((path_info.store_path.name, written))

    await cache.add(store.services, [one], done)
    (nar,) = (cache.folder / "nar").iterdir()
    before = nar.stat().st_ino
    await cache.add(store.services, [one, two], done)
    assert told == [("one", True), ("one", False), ("two", True)]
    assert nar.stat().st_ino == before


@pytest.mark.parametrize("damage", [Path.unlink, Path.touch, lambda path: os.truncate(path, 10)])
@pytest.mark.parametrize("pattern", ["*.narinfo", "nar/*"])
async def test_what_was_lost_or_cut_is_written_again(
    store: Store, tmp_path: Path, pattern: str, damage: Callable[[Path], None]
) -> None:
    path_info = await store.path("mixed", TREES["mixed"])
    cache = BinaryCache(tmp_path / "cache")
    told: list[bool] = []
    await cache.add(store.services, [path_info], nothing_told)
    before = {name: (cache.folder / name).read_bytes() for name in files(cache.folder)}
    (victim,) = cache.folder.glob(pattern)
    damage(victim)
    await cache.add(store.services, [path_info], lambda _, written: told.append(written))
    assert told == [damage is not Path.touch]
    assert {name: (cache.folder / name).read_bytes() for name in files(cache.folder)} == before


async def test_one_nar_is_written_once(store: Store, tmp_path: Path) -> None:
    paths = [await store.path(name, TREES["complicated"]) for name in "abcdef"]
    cache = BinaryCache(tmp_path / "cache")
    await cache.add(store.services, paths, nothing_told)
    assert len({narinfo(cache.folder, path_info).url for path_info in paths}) == 1
    assert len(list((cache.folder / "nar").iterdir())) == 1


async def test_narinfos_come_references_first_and_after_their_nars(store: Store, tmp_path: Path) -> None:
    trees = list(TREES.values())
    paths: list[PathInfo] = []
    for number in range(12):
        paths.append(await store.path(str(number), trees[number], [path.store_path for path in paths]))
    cache = BinaryCache(tmp_path / "cache")

    def done(path_info: PathInfo, written: bool) -> None:
        assert written
        for reference in path_info.references:
            assert (cache.folder / f"{reference.hash_part}.narinfo").exists()
        assert (cache.folder / narinfo(cache.folder, path_info).url).exists()

    await cache.add(store.services, paths, done)
    assert len(files(cache.folder)) == 1 + 2 * 12


async def test_contents_that_are_not_as_said_are_not_written(store: Store, tmp_path: Path) -> None:
    path_info = await store.path("mixed", TREES["mixed"])
    cache = BinaryCache(tmp_path / "cache")
    for wrong in (replace(path_info, nar_size=1), replace(path_info, nar_sha256=bytes(32))):
        with pytest.raises(CorruptObject, match=f"{path_info.store_path}: its NAR has sha256:.* the path info says"):
            await cache.add(store.services, [wrong], nothing_told)
    assert files(cache.folder) == {"nix-cache-info"}


async def test_missing_contents_leave_nothing_behind(store: Store, tmp_path: Path) -> None:
    good, torn = await store.path("good", TREES["link"]), await store.path("torn", TREES["hello"])
    store.blobs.contents.clear()
    cache = BinaryCache(tmp_path / "cache")
    with pytest.raises(DanglingReference, match=r"blob .* does not exist"):
        await cache.add(store.services, [torn, good], nothing_told)
    assert not list(cache.folder.glob("*.narinfo"))
    assert not list((cache.folder / "nar").glob(".*"))


async def test_a_cancelled_export_leaves_nothing_half_written(store: Store, tmp_path: Path) -> None:
    path_info = await store.path("mixed", TREES["mixed"])
    store.blobs.may_answer.clear()
    cache = BinaryCache(tmp_path / "cache")
    task = asyncio.create_task(cache.add(store.services, [path_info], nothing_told))
    await store.blobs.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert files(cache.folder) == {"nix-cache-info"}
    store.blobs.may_answer.set()
    await cache.add(store.services, [path_info], nothing_told)
    assert narinfo(cache.folder, path_info).metadata.nar_size == path_info.nar_size


async def test_two_may_write_to_one_folder(store: Store, tmp_path: Path) -> None:
    paths = [await store.path(name, tree) for name, tree in TREES.items()]
    caches = [BinaryCache(tmp_path / "cache") for _ in range(2)]
    async with asyncio.TaskGroup() as group:
        for cache in caches:
            group.create_task(cache.add(store.services, paths, nothing_told))
    assert all(
        narinfo(tmp_path / "cache", path_info).metadata.nar_sha256 == path_info.nar_sha256 for path_info in paths
    )
    assert not [name for name in files(tmp_path / "cache") if ".partial" in name]


async def test_a_folder_that_cannot_be_written_is_named(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable, match=rf"{tmp_path}/file.*: Not a directory"):
        await BinaryCache(tmp_path / "file" / "cache").add(store.services, [], nothing_told)


async def test_a_full_disk_is_out_of_space(store: Store, tmp_path: Path) -> None:
    path_info = await store.path("mixed", TREES["mixed"])
    cache = BinaryCache(tmp_path / "cache", compression="none")
    await cache.add(store.services, [], nothing_told)
    with limited_files(1000), pytest.raises(OutOfSpace, match="File too large"):
        await cache.add(store.services, [path_info], nothing_told)
    assert files(cache.folder) == {"nix-cache-info"}


def test_a_compression_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidObject, match="compression 'lzo' is none of none, xz"):
        BinaryCache(tmp_path, compression="lzo")
