"""A whole store in one folder, blobs in packs and the rest in SQLite; what tests put there, and whether it is there."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from plugins.fs.fs_store import open_service
from tvix_store.capabilities import Durability
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
from tvix_store.cli.import_ import import_path
from tvix_store.commit_point import CommitPointPathInfoService
from tvix_store.completeness import missing_contents
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import DanglingReference
from tvix_store.frontend import Services
from tvix_store.limits import MIB
from tvix_store.nar_dump import dump_path
from tvix_store.nar_render import RenderingNarCalculation
from tvix_store.path_info import PathInfo
from tvix_store.testing.blob_access import read_blob, verify_blobs
from tvix_store.testing.fixtures import contents
from tvix_store_fs.blob import FsBlobService
from tvix_store_sqlite.database import Database
from tvix_store_sqlite.directory import SqliteDirectoryService
from tvix_store_sqlite.path_info import SqlitePathInfoService

PACK_BYTES = 4 * MIB
"""Small, so that there are several packs soon."""


@dataclass(frozen=True, slots=True)
class Store:
    """An open store: the services as a composition hands them out, and the blob service behind them."""

    services: Services
    fs: FsBlobService

    async def write(self, data: bytes) -> B3Digest:
        """Put a blob through a writer."""
        async with await self.services.blobs.open_write() as writer:
            for start in range(0, len(data), 1 * MIB):
                await writer.write(data[start : start + 1 * MIB])
            return await writer.close()

    async def import_tree(self, tree: Path) -> PathInfo:
        """Import what is at ``tree`` as ``tvix-store import`` does."""
        return await import_path(self.services, tree, tree.name, _ignore)

    async def assert_has(self, *blobs: bytes) -> None:
        """These blobs read back, checked."""
        for data in blobs:
            found = await read_blob(self.services.blobs, B3Digest.of(data))
            assert found == data, f"{len(data)} bytes were put and {found and len(found)} are there"

    async def assert_right_if_there(self, data: bytes) -> None:
        """A blob that somebody may be deleting reads back, or is absent."""
        with contextlib.suppress(DanglingReference):  # deleted midway
            assert await read_blob(self.services.blobs, B3Digest.of(data)) in (data, None)

    async def visible_path_infos(self) -> dict[str, PathInfo]:
        """The path infos by name, after a look whether everything that they refer to is there."""
        path_infos = self.services.path_infos
        missing = [str(found.damage()) async for found in missing_contents(self.services, path_infos.list())]
        assert missing == []
        return {path_info.store_path.name: path_info async for path_info in path_infos.list()}

    async def assert_renders(self, path_info: PathInfo) -> None:
        """Its contents make the NAR that it states."""
        nar = await self.services.nar_calculation.calculate_nar(path_info.node)
        assert (nar.size, nar.sha256) == (path_info.nar_size, path_info.nar_sha256)

    async def assert_clean(self) -> None:
        """Verifying finds nothing."""
        damages = await verify_blobs(self.fs)
        assert not damages, "; ".join(map(str, damages[:3]))


def _ignore(*, files: int, n_bytes: int) -> None:
    pass


@asynccontextmanager
async def open_store(
    path: Path,
    *,
    durability: Durability = Durability.COMMIT,
    others: Durability = Durability.COMMIT,
    max_pack_bytes: int = PACK_BYTES,
) -> AsyncIterator[Store]:
    """The store at ``path``.

    Args:
        path: Of its folder.
        durability: Of the blobs.
        others: Durability of directories and path infos.
        max_pack_bytes: Packs that are longer are not appended to.
    """
    async with await Database.open(str(path / "store.sqlite"), durability=others) as database:
        fs = await open_service(path / "blobs", durability=durability, max_pack_bytes=max_pack_bytes)
        async with CheckedBlobService("blobs", fs) as blobs:
            directories = CheckedDirectoryService("directories", SqliteDirectoryService("directories", database))
            path_infos = CheckedPathInfoService("path-infos", SqlitePathInfoService("path-infos", database))
            committing = CommitPointPathInfoService(path_infos, blobs, directories)
            yield Store(Services(blobs, directories, committing, RenderingNarCalculation(blobs, directories)), fs)


def small_blobs(number: int) -> list[HashedBlob]:
    """A batch: tiny ones, one that compresses, one of several chunks, and one that all batches have."""
    own = [contents(size, number) for size in (20, 500, 20_000, 700_000)]
    return [HashedBlob(data) for data in (*own, b"%d is a number\n" % number * 3000, contents(30_000))]


def large_blob(number: int) -> bytes:
    """A blob that is stored while it is written; two numbers that follow each other have most chunks in common."""
    return contents(2 * MIB, number // 2) + contents(600_000, 1000 + number)


def make_tree(path: Path, number: int) -> Path:
    """Files below ``path``, of which some are in all trees, and a large one."""
    tree = path / f"tree-{number}"
    if not tree.exists():
        (tree / "deep" / "er").mkdir(parents=True)
        for file in range(8):
            (tree / f"own-{file}").write_bytes(contents(100 + 5000 * file, 2000 + 10 * number + file))
            (tree / "deep" / f"common-{file}").write_bytes(contents(7000, file))
        (tree / "deep" / "er" / "large").write_bytes(large_blob(3000 + number))
        (tree / "link").symlink_to("deep/er/large")
    return tree


def nar_sha256(tree: Path) -> bytes:
    """Of what is on the disk."""
    hasher = sha256()
    for piece in dump_path(tree):
        hasher.update(piece)
    return hasher.digest()
