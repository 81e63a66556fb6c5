"""The frontend: mounts the store, serves it until it is unmounted or told to end, and leaves no mount behind."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from tvix_store.errors import Unavailable
from tvix_store.frontend import Frontend, Services
from tvix_store.resource import AsyncResource
from tvix_store_fuse.contents import Contents
from tvix_store_fuse.daemon_thread import in_daemon_thread
from tvix_store_fuse.filesystem import FilesystemOptions, StoreFilesystem
from tvix_store_fuse.mount_table import users
from tvix_store_fuse.mounting import Mount, find_mount_point
from tvix_store_fuse.prefetch import Prefetch
from tvix_store_fuse.protocol import Protocol
from tvix_store_fuse.session import Session

__all__ = ["FuseFrontend", "FuseOptions", "end_pushing"]

logger = logging.getLogger(__name__)

_TRY_AGAIN_S = 0.2
_LOOK_S = 2.0
_FIND_S = 10.0


@dataclass(frozen=True, slots=True)
class FuseOptions:
    """What the configuration says; see there."""

    mount_point: Path
    allow_other: bool
    list_root: bool
    show_xattr: bool
    uid: int
    gid: int
    negative_s: float
    path_s: float
    timeout_s: float
    cache_bytes: int
    prefetch_bytes: int
    busy_s: float


class FuseFrontend(Frontend):
    """Shows the store under a directory.

    Args:
        name: Of the entry.
        services: What is shown; not closed with this.
        options: Where and how.
    """

    def __init__(self, name: str, services: Services, options: FuseOptions) -> None:
        self._name = name
        self._services = services
        self._options = options
        self._mount: Mount | None = None

    async def serve(self, ready: Callable[[str], None]) -> None:
        """Serve until the filesystem is unmounted by somebody, or until cancelled, which unmounts it.

        One that is in use when this is cancelled is served until it is not used any more, for a time that is
        configured, and then detached.

        Raises:
            Unavailable: It cannot be mounted, or the connection to the kernel broke.
        """
        options = self._options
        async with AsyncExitStack() as stack:
            contents = await stack.enter_async_context(
                Contents(self._services.blobs, cache_bytes=options.cache_bytes, timeout_s=options.timeout_s)
            )
            filesystem = await stack.enter_async_context(
                StoreFilesystem(
                    self._services,
                    contents,
                    FilesystemOptions(
                        list_root=options.list_root,
                        show_xattr=options.show_xattr,
                        negative_s=options.negative_s,
                        path_s=options.path_s,
                        timeout_s=options.timeout_s,
                    ),
                )
            )
            prefetch = await stack.enter_async_context(Prefetch(filesystem, contents, options.prefetch_bytes))
            where = await _found(options.mount_point)
            mount = self._mount = Mount.mount(where, allow_other=options.allow_other)
            stack.callback(mount.close)
            protocol = Protocol(
                mount.path,
                filesystem,
                uid=options.uid,
                gid=options.gid,
                reads=prefetch.reads,
                lists=prefetch.lists,
            )
            stack.callback(protocol.complaints.tell_rest)
            session = await stack.enter_async_context(Session(mount.fd, protocol))
            prefetch.push_with(session.push)
            stack.push_async_callback(end_pushing, prefetch, mount)
            session.start()
            try:
                if await session.wait_initialised():
                    mount.raise_read_ahead()
                    ready(mount.path)
                await session.wait_ended()
                await self._note_end(mount)
            except asyncio.CancelledError:
                await self._unmount(mount, session)
                raise
            finally:
                logger.debug("%s: requests: %s; files pushed: %d", mount.path, session.counted(), prefetch.n_pushed)

    def abandon(self) -> None:
        mount = self._mount
        if mount is not None and mount.is_mounted:
            mount.detach()
            if not mount.is_mounted:
                logger.warning("%s: was in use, and is detached: what is open there can be read no more", mount.path)

    async def _note_end(self, mount: Mount) -> None:
        """The connection is gone. That leaves a mount which nobody serves if it was not unmounting that ended it."""
        try:
            async with asyncio.timeout(_LOOK_S):
                is_left = await in_daemon_thread(lambda: mount.is_left)
        except TimeoutError:
            is_left = False  # another one is in its place already, and is busy
        if is_left:
            logger.warning(
                "%s: the connection was aborted, as by umount -f; what is open there can be read no more", mount.path
            )
            mount.clear()
        else:
            logger.info("%s: unmounted", mount.path)

    async def _unmount(self, mount: Mount, session: Session) -> None:
        """Unmount as soon as nobody uses it, and detach it when that takes too long."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.busy_s
        is_told = False
        while True:
            is_gone = await asyncio.to_thread(mount.unmount)
            left_s = deadline - loop.time()
            if await _ends(session, max(0.0, min(_TRY_AGAIN_S, left_s))):
                await self._note_end(mount)
                return
            if left_s <= 0:
                logger.warning("%s: still in use, and is detached: what is open there can be read no more", mount.path)
                mount.detach()  # now, since it also fails what is being pushed, which the end waits for
                return
            if not is_told:
                is_told = True
                by = "" if is_gone else await asyncio.to_thread(users, mount.path)
                logger.warning(
                    "%s: in use by %s; waiting for at most %g s, a second signal detaches it at once",
                    mount.path,
                    by or "somebody",
                    self._options.busy_s,
                )


async def end_pushing(prefetch: AsyncResource, mount: Mount) -> None:
    """Close what pushes, and wait for its thread whatever happens: the connection is closed after this.

    Once it is, its number may be that of another file, into which nothing may be written.
    """
    closing = asyncio.create_task(prefetch.aclose())
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        mount.detach()  # which fails what is being pushed
        await closing
        raise


async def _found(path: Path) -> str:
    """The mount point.

    Raises:
        Unavailable: Nothing can be mounted there.
    """
    try:
        async with asyncio.timeout(_FIND_S):
            return await in_daemon_thread(find_mount_point, path)
    except TimeoutError as exc:
        raise Unavailable(f"cannot mount {path}: what is mounted there does not answer within {_FIND_S:g} s") from exc


async def _ends(session: Session, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await session.ended.wait()
    except TimeoutError:
        return session.ended.is_set()
    return True
