"""Store paths as a static binary cache: a folder that Nix reads as ``file://``, or that any web server serves."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import secrets
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tvix_store.budget import ByteBudget
from tvix_store.cache_info import CacheInfo
from tvix_store.compression import SUFFIXES, compressed
from tvix_store.errors import CorruptObject, InvalidObject, OutOfSpace, StoreError, Unavailable
from tvix_store.frontend import Services
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.limits import MIB
from tvix_store.nar_listing import listing
from tvix_store.nar_render import Tree, check_present, load_tree, render_nar
from tvix_store.narinfo import NarInfo
from tvix_store.path_info import PathInfo
from tvix_store.resource import task_group
from tvix_store.signing import SecretKey
from tvix_store.store_path import STORE_DIR

__all__ = ["BinaryCache"]

_NARS_AT_ONCE = 4
_AHEAD_BYTES = 64 * MIB
_CACHE_INFO = "nix-cache-info"
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class _NarFile:
    """A NAR in the folder: as a narinfo says it."""

    url: str
    hash: NixHash
    size: int


class BinaryCache:
    """A binary cache in a folder, to which store paths are added.

    What is visible is whole: files get their names when they are complete and on disk, and a narinfo comes after the
    NAR and after the narinfos of what its path refers to. Several may write to one folder at the same time.

    Args:
        folder: Where; made if it is not there.
        compression: Of the NARs; a key of ``compression.SUFFIXES``.
        keys: Each signs what is added.
        write_listings: Whether there is a listing beside each narinfo, too.
        store_dir: The store directory of the paths.

    Raises:
        InvalidObject: There is no such compression.
    """

    def __init__(
        self,
        folder: Path,
        *,
        compression: str = "zstd",
        keys: Sequence[SecretKey] = (),
        write_listings: bool = False,
        store_dir: str = STORE_DIR,
    ) -> None:
        if compression not in SUFFIXES:
            raise InvalidObject(f"compression {compression!r} is none of {', '.join(SUFFIXES)}")
        self.folder = folder
        self._compression = compression
        self._keys = tuple(keys)
        self._write_listings = write_listings
        self._store_dir = store_dir

    async def add(
        self, services: Services, path_infos: Sequence[PathInfo], done: Callable[[PathInfo, bool], None]
    ) -> None:
        """Write what is not there yet. A path counts as there if its narinfo is, and a NAR of the size it says.

        Args:
            services: Where the contents are.
            path_infos: What to write, references first.
            done: Told of each path, in their order, when it is there, and whether it was written now.

        Raises:
            DanglingReference: Contents are missing.
            CorruptObject: Contents do not have the hash or the size that their path info says.
            InvalidObject: The folder holds a binary cache for another store directory.
            Unavailable: A file cannot be written.
        """
        await asyncio.to_thread(self._start)
        budget = ByteBudget(_AHEAD_BYTES)
        by_nar: dict[tuple[bytes, int], asyncio.Task[_NarFile]] = {}
        under_way: deque[tuple[PathInfo, asyncio.Task[_NarFile] | None]] = deque()

        async def finish() -> None:
            path_info, task = under_way.popleft()
            if task is not None:
                await self._publish(services, path_info, await task)
            done(path_info, task is not None)

        async with task_group() as group:
            for path_info in path_infos:
                task = None
                if not await asyncio.to_thread(self._is_there, path_info):
                    # Store paths that differ in their names only have one NAR.
                    nar = (path_info.nar_sha256, path_info.nar_size)
                    task = by_nar.get(nar)
                    if task is None:
                        task = by_nar[nar] = group.create_task(self._write_nar(services, path_info, budget))
                under_way.append((path_info, task))
                if len(under_way) == _NARS_AT_ONCE:
                    await finish()
            while under_way:
                await finish()
        await asyncio.to_thread(self._finish)

    def _path(self, path_info: PathInfo, suffix: str) -> Path:
        return self.folder / f"{path_info.store_path.hash_part}{suffix}"

    def _is_there(self, path_info: PathInfo) -> bool:
        """Whether there is a narinfo, and the NAR that it names; a power cut may have taken one of them."""
        path = self._path(path_info, ".narinfo")
        with _translated(path):
            try:
                narinfo = NarInfo.parse(path.read_bytes(), self._store_dir)
                size = (self.folder / narinfo.url).stat().st_size
            except (FileNotFoundError, InvalidObject):
                return False
        return narinfo.file_size in (None, size)

    def _start(self) -> None:
        """Make the folder, and see that it is not for another store directory."""
        info = self.folder / _CACHE_INFO
        with _translated(info):
            (self.folder / "nar").mkdir(parents=True, exist_ok=True)
            if info.exists():
                store_dir = CacheInfo.parse(info.read_bytes()).store_dir
                if store_dir not in (None, self._store_dir):
                    raise InvalidObject(f"{info}: the cache is for paths in {store_dir}, not in {self._store_dir}")
                return
        _write(info, CacheInfo(self._store_dir, want_mass_query=True).render())

    def _finish(self) -> None:
        """See the names on disk, too."""
        for folder in (self.folder / "nar", self.folder):
            with _translated(folder):
                descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)

    async def _write_nar(self, services: Services, path_info: PathInfo, budget: ByteBudget) -> _NarFile:
        tree = await load_tree(path_info.node, services.directories)
        await check_present(tree, services.blobs)
        nars = self.folder / "nar"
        file = _PartialFile(nars)  # not in a thread: a call that is cancelled would leave it behind
        try:
            async with (
                aclosing(_whole(tree, services, path_info, budget)) as nar,
                aclosing(compressed(nar, self._compression)) as pieces,
            ):
                async for piece in pieces:
                    await asyncio.to_thread(file.write, piece)
            file_hash = NixHash(HashAlgorithm.SHA256, file.hasher.digest())
            name = f"{file_hash.nixbase32()}.nar{SUFFIXES[self._compression]}"
            await asyncio.to_thread(file.keep, nars / name)
        finally:
            file.discard()
        return _NarFile(f"nar/{name}", file_hash, file.n_bytes)

    async def _publish(self, services: Services, path_info: PathInfo, nar: _NarFile) -> None:
        if self._write_listings:
            tree = await load_tree(path_info.node, services.directories)
            await asyncio.to_thread(lambda: _write(self._path(path_info, ".ls"), listing(tree)))
        await asyncio.to_thread(self._write_narinfo, path_info, nar)

    def _write_narinfo(self, path_info: PathInfo, nar: _NarFile) -> None:
        for key in self._keys:
            path_info = key.signed(path_info, self._store_dir)
        narinfo = NarInfo(path_info, nar.url, self._compression, nar.hash, nar.size)
        _write(self._path(path_info, ".narinfo"), narinfo.render(self._store_dir))


async def _whole(tree: Tree, services: Services, path_info: PathInfo, budget: ByteBudget) -> AsyncGenerator[bytes]:
    """The NAR of a path; ends only if it is what the path info says."""
    hasher = hashlib.sha256()
    n_bytes = 0
    async with aclosing(render_nar(tree, services.blobs, budget=budget)) as pieces:
        async for piece in pieces:
            await asyncio.to_thread(hasher.update, piece)
            n_bytes += len(piece)
            yield piece
    if (hasher.digest(), n_bytes) != (path_info.nar_sha256, path_info.nar_size):
        expected, actual = (
            f"{NixHash(HashAlgorithm.SHA256, sha256)} and {size} bytes"
            for sha256, size in ((path_info.nar_sha256, path_info.nar_size), (hasher.digest(), n_bytes))
        )
        raise CorruptObject(
            f"{path_info.store_path}: its NAR has {actual}, the path info says {expected}",
            expected=path_info.nar_sha256.hex(),
            actual=hasher.hexdigest(),
        )


class _PartialFile:
    """A file that gets its name when it is complete; until then its name begins with a dot.

    Args:
        folder: Where it is going to be.

    Attributes:
        n_bytes: How long it is so far.
        hasher: Of what it holds so far, SHA-256.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / f".{secrets.token_hex(8)}.partial"
        self.n_bytes = 0
        self.hasher = hashlib.sha256()
        # A write may go on in its thread after the call was cancelled, and must not meet another file's descriptor.
        self._lock = threading.Lock()
        with _translated(self._path):
            self._file = self._path.open("xb", buffering=0)

    def write(self, data: bytes) -> None:
        """Append."""
        self.hasher.update(data)
        view = memoryview(data)
        with self._lock, _translated(self._path):
            while view:
                view = view[self._file.write(view) :]
        self.n_bytes += len(data)

    def keep(self, path: Path) -> None:
        """See what was written on disk, and give the file its name."""
        with self._lock, _translated(path):
            os.fsync(self._file.fileno())
            self._path.rename(path)

    def discard(self) -> None:
        """Remove the file, unless it was kept."""
        with self._lock:
            self._file.close()
            self._path.unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    file = _PartialFile(path.parent)
    try:
        file.write(data)
        file.keep(path)
    finally:
        file.discard()


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Errors of the file system as ours, naming the file."""
    try:
        yield
    except OSError as exc:
        kind: type[StoreError] = OutOfSpace if exc.errno in _NO_SPACE else Unavailable
        raise kind(f"{exc.filename or path}: {exc.strerror or exc}") from exc
