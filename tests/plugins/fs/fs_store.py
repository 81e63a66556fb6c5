"""What the tests of the pack store share: opening one, finding where an object lies, and damaging it."""

from __future__ import annotations

from pathlib import Path

from tvix_store.capabilities import Durability
from tvix_store.digest import B3Digest
from tvix_store_fs import index
from tvix_store_fs.blob import FsBlobService
from tvix_store_fs.index import Place
from tvix_store_fs.store import MAX_PACK_BYTES, PackStore


async def open_service(
    path: Path,
    *,
    durability: Durability = Durability.COMMIT,
    max_pack_bytes: int = MAX_PACK_BYTES,
    avg_chunk_size: int | None = None,
) -> FsBlobService:
    """A pack store at ``path``; closing the service closes it."""
    store = await PackStore.open(
        "test", str(path), durability=durability, max_pack_bytes=max_pack_bytes, avg_chunk_size=avg_chunk_size
    )
    return FsBlobService("test", store)


async def placed(store: PackStore, digest: B3Digest) -> Place:
    """Where the frame is that holds a piece."""
    (frame,) = await store.read(index.frames_of, [digest.raw])
    assert frame is not None, f"{digest} is no piece"
    return (await store.read(index.places, [frame]))[frame]


def flip(path: Path, position: int, bit: int = 0) -> None:
    """Change one bit of a file."""
    with path.open("r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ (1 << bit)]))


def pack_sizes(path: Path) -> dict[str, int]:
    """The packs of the store at ``path``, by name, and the lengths of the files."""
    return {file.name: file.stat().st_size for file in sorted((path / "packs").iterdir())}


def pack_path(path: Path, number: int = 1) -> Path:
    """The pack with this number of the store at ``path``."""
    return path / "packs" / f"{number:08}.pack"
