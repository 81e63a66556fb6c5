"""Where the bytes of a NAR come from: the tree of a node, or the path that is still being fetched."""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing

from tvix_store import nixbase32
from tvix_store.digest import B3Digest
from tvix_store.errors import CorruptObject, DanglingReference
from tvix_store.nar_render import check_present, render_nar
from tvix_store.path_info import PathMetadata
from tvix_store.wire import encode_node
from tvix_store_http.nar_copies import CopyLost, CopyPart
from tvix_store_http.sending import Nar
from tvix_store_http.site import Site
from tvix_store_http.trees import SharedTree

__all__ = ["NodeNar", "PathNar", "TreeNar", "etag_of"]


def etag_of(nar_sha256: bytes) -> str:
    """The entity tag of a NAR whose hash is known."""
    return f'"{nixbase32.encode(nar_sha256)}"'


class TreeNar(Nar):
    """The NAR of a tree, rendered.

    Args:
        site: Where the contents are.
        shared: What to render.
        etag: For its NAR.

    Raises:
        LimitExceeded: The tree cannot be a NAR.
    """

    def __init__(self, site: Site, shared: SharedTree, etag: str) -> None:
        super().__init__(etag, shared.tree.nar_size())
        self._site = site
        self._shared = shared

    async def open(self, start: int, end: int) -> AsyncGenerator[bytes] | None:
        await check_present(self._shared.tree, self._site.services.blobs, start=start, end=end)
        return self._pieces(start, end)

    async def _pieces(self, start: int, end: int) -> AsyncGenerator[bytes]:
        """The rendered NAR; until it is closed, the tree stays shared."""
        blobs, budget = self._site.services.blobs, self._site.budget
        async with aclosing(render_nar(self._shared.tree, blobs, start=start, end=end, budget=budget)) as pieces:
            async for piece in pieces:
                yield piece


class NodeNar(TreeNar):
    """The NAR of a node that a client has named; nobody has promised that its contents are there."""

    def __init__(self, site: Site, shared: SharedTree) -> None:
        tag = base64.urlsafe_b64encode(B3Digest.of(encode_node(shared.tree.root)).raw).rstrip(b"=").decode()
        super().__init__(site, shared, f'"{tag}"')

    async def open(self, start: int, end: int) -> AsyncGenerator[bytes] | None:
        try:
            return await super().open(start, end)
        except DanglingReference:
            return None


class PathNar(Nar):
    """The NAR of a store path, which may have to be fetched first, and is passed on meanwhile.

    Args:
        site: Where it is looked up.
        metadata: What is known of it.
    """

    def __init__(self, site: Site, metadata: PathMetadata) -> None:
        super().__init__(etag_of(metadata.nar_sha256), metadata.nar_size)
        self._site = site
        self._metadata = metadata

    async def open(self, start: int, end: int) -> AsyncGenerator[bytes] | CopyPart | None:
        copies, nar_sha256 = self._site.copies, self._metadata.nar_sha256
        part = copies.find(nar_sha256, self.size, start, end, self._render)
        if part is None:
            stream = await self._site.services.path_infos.open_nar(self._metadata.store_path.digest)
            if stream is not None:
                if stream.size == self.size:
                    return _clipped(stream.pieces, start, end)
                await stream.pieces.aclose()
                raise self._wrong(stream.size)
            if start == 0 and end == self.size:
                part = copies.begin(nar_sha256, self.size, self._render)
        if part is not None:
            try:
                await part.file(start)
            except CopyLost:
                part.close()
            except BaseException:
                part.close()
                raise
            else:
                return part
        return await self._render(start, end)

    async def _render(self, start: int, end: int) -> AsyncGenerator[bytes] | None:
        path_info = await self._site.services.path_infos.get(self._metadata.store_path.digest)
        if path_info is None or path_info.nar_sha256 != self._metadata.nar_sha256:
            return None
        nar = TreeNar(self._site, await self._site.trees.load(path_info.node), self.etag)
        if nar.size != self.size:
            raise self._wrong(nar.size)
        return await nar.open(start, end)

    def _wrong(self, size: int) -> CorruptObject:
        return CorruptObject(f"{self._metadata.store_path}: a NAR of {size} bytes, its path info says {self.size}")


async def _clipped(pieces: AsyncGenerator[bytes], start: int, end: int) -> AsyncGenerator[bytes]:
    """What lies from ``start`` up to ``end`` of a stream. One that is wanted to its end is read to its end."""
    position = 0
    async with aclosing(pieces):
        async for piece in pieces:
            first = max(0, start - position)
            last = end - position
            position += len(piece)
            if last < len(piece):
                if first < last:
                    yield piece[first:last]
                return
            if first < len(piece):
                yield piece[first:] if first else piece
