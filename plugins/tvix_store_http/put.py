"""The small files that clients put beside NARs: narinfos, which make a path visible, and nix-cache-info."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from weakref import WeakValueDictionary

from aiohttp import web

from tvix_store import nixbase32
from tvix_store.cache_info import MAX_CACHE_INFO_BYTES, CacheInfo
from tvix_store.content_address_check import check_content_address
from tvix_store.errors import CorruptObject, InvalidObject
from tvix_store.ingest import Ingested
from tvix_store.nar_calculation import NarDigest
from tvix_store.narinfo import MAX_NARINFO_BYTES, NarInfo
from tvix_store.nixbase32 import shown
from tvix_store.path_info import NAR_SHA256_BYTES, PathInfo
from tvix_store.signing import in_signing_order
from tvix_store.store_path import DIGEST_SIZE
from tvix_store.trust import Untrusted, check_trusted, is_content_addressed
from tvix_store_http.body import expecting, read_body
from tvix_store_http.castore_url import parse_node
from tvix_store_http.credentials import refused
from tvix_store_http.errors import answer
from tvix_store_http.narinfo import HASH_PART
from tvix_store_http.site import Site
from tvix_store_http.uploads import whole_tree

__all__ = ["routes"]

_UPLOAD_URL = re.compile(rf"nar/([01][{nixbase32.ALPHABET}]{{51}})\.nar(?:\.[a-z0-9]{{1,8}})?")
_CASTORE_URL = re.compile(r"nar/(?:snix|tvix)-castore/([A-Za-z0-9_-]+)")


def routes(site: Site) -> list[web.RouteDef]:
    """Takes narinfos and nix-cache-info for ``site``."""
    idle_s = site.options.upload_idle_s
    locks: WeakValueDictionary[bytes, asyncio.Lock] = WeakValueDictionary()

    async def put_narinfo(request: web.Request) -> web.StreamResponse:
        if (refusal := refused(site, request)) is not None:
            return refusal
        digest = nixbase32.decode_fixed(request.match_info["digest"], DIGEST_SIZE)
        narinfo = NarInfo.parse(await read_body(request, MAX_NARINFO_BYTES, idle_s), site.options.store_dir)
        path = narinfo.metadata.store_path
        if path.digest != digest:
            raise InvalidObject(f"the narinfo is of {path}, and this is the place of another path")
        # Of two that add signatures at the same time, the second has to see what the first has put.
        async with locks.setdefault(digest, asyncio.Lock()):
            try:
                await _publish(site, narinfo)
            except Untrusted as exc:
                return answer(403, str(exc))
            except _ConflictError as exc:
                return answer(409, str(exc))
        return web.Response(status=200)

    async def put_cache_info(request: web.Request) -> web.StreamResponse:
        if (refusal := refused(site, request)) is not None:
            return refusal
        info = CacheInfo.parse(await read_body(request, MAX_CACHE_INFO_BYTES, idle_s))
        if info.store_dir not in (None, site.options.store_dir):
            return answer(409, f"the StoreDir of this binary cache is {site.options.store_dir}")
        return web.Response(status=200)

    expect = expecting(site)
    return [
        web.put(f"/{{digest:{HASH_PART}}}.narinfo", put_narinfo, expect_handler=expect),
        web.put("/nix-cache-info", put_cache_info, expect_handler=expect),
    ]


class _ConflictError(InvalidObject):
    """What is stored under this path already is something else, and better attested."""


async def _publish(site: Site, narinfo: NarInfo) -> None:
    """Make a path visible whose NAR is there.

    Raises:
        InvalidObject: The NAR is not there, or the narinfo is not right about it.
    """
    metadata, services, store_dir = narinfo.metadata, site.services, site.options.store_dir
    existing = await _existing(site, metadata.store_path.digest)
    ingested = await _contents(site, narinfo, existing)
    if metadata.nar_size != ingested.nar.size:
        raise InvalidObject(
            f"{metadata.store_path}: NarSize {metadata.nar_size}, but the NAR has {ingested.nar.size} bytes"
        )
    await _check_file(site, narinfo)
    if await whole_tree(ingested.node, services) is None:
        assert site.state is not None
        await site.state.forget(ingested.nar.sha256)
        raise _unknown(narinfo)
    path_info = PathInfo.of(metadata, ingested.node)
    if metadata.ca is not None:
        if not is_content_addressed(metadata, store_dir):
            raise InvalidObject(f"{metadata.store_path}: does not follow from CA {metadata.ca}")
        await check_content_address(path_info, services.blobs, services.directories)
    path_info = _merged(path_info, existing)
    if site.options.require_signatures:
        check_trusted(path_info, site.options.public_keys, store_dir)
    if path_info != existing:
        try:
            await services.path_infos.put(path_info)
        finally:  # it may be there also if this was cancelled
            site.narinfos.forget(path_info.store_path.hash_part.encode())
    assert site.state is not None
    await site.state.publish(ingested)


async def _existing(site: Site, digest: bytes) -> PathInfo | None:
    try:
        return await site.services.path_infos.get(digest)
    except CorruptObject:  # the put heals it
        return None


async def _contents(site: Site, narinfo: NarInfo, existing: PathInfo | None) -> Ingested:
    """The contents that the narinfo speaks of: those whose NAR has this hash, wherever it is known from."""
    nar_sha256 = narinfo.metadata.nar_sha256
    assert site.state is not None
    if (ingested := await site.state.nar(nar_sha256)) is not None:
        return ingested
    if existing is not None and existing.nar_sha256 == nar_sha256:
        return Ingested(existing.node, NarDigest(existing.nar_size, nar_sha256))
    if (ingested := await _named_by_url(site, narinfo)) is not None:
        return ingested
    if (ingested := await _of_other_path(site, nar_sha256)) is not None:
        return ingested
    await _check_file(site, narinfo)  # it may say what is wrong
    raise _unknown(narinfo)


async def _named_by_url(site: Site, narinfo: NarInfo) -> Ingested | None:
    """As ``_contents``, for a URL that has the root of the contents in it, as this program may have written it."""
    match = _CASTORE_URL.fullmatch(narinfo.url.partition("?")[0])  # urlsplit would refuse some
    if match is None:
        return None
    node = parse_node(match[1])
    if await whole_tree(node, site.services) is None:
        return None
    nar = await site.services.nar_calculation.calculate_nar(node)
    if nar.sha256 != narinfo.metadata.nar_sha256:
        actual = nixbase32.encode(nar.sha256)
        raise InvalidObject(f"{narinfo.metadata.store_path}: the NarHash of what URL names is sha256:{actual}")
    return Ingested(node, nar)


async def _of_other_path(site: Site, nar_sha256: bytes) -> Ingested | None:
    """As ``_contents``, for the contents of another path; HEAD may have said that they need not be sent."""
    digest = site.nar_names.seen(nar_sha256) or await site.catalog.digest_by_nar(nar_sha256)
    other = None if digest is None else await _existing(site, digest)
    if other is None or other.nar_sha256 != nar_sha256:
        return None
    return Ingested(other.node, NarDigest(other.nar_size, nar_sha256))


async def _check_file(site: Site, narinfo: NarInfo) -> None:
    """Check what the narinfo says of the file that it names, as far as that was uploaded here."""
    path = narinfo.metadata.store_path
    match = _UPLOAD_URL.fullmatch(narinfo.url)
    if match is None or site.state is None:
        return
    upload = await site.state.upload(nixbase32.decode_fixed(match[1], NAR_SHA256_BYTES))
    if upload is None:
        return
    if upload.ingested.nar.sha256 != narinfo.metadata.nar_sha256:
        actual = nixbase32.encode(upload.ingested.nar.sha256)
        raise InvalidObject(f"{path}: NarHash is not that of {narinfo.url}, which is sha256:{actual}")
    if narinfo.file_hash is not None and narinfo.file_hash.digest != upload.file_sha256:
        raise InvalidObject(f"{path}: FileHash is not that of {narinfo.url}")
    if narinfo.file_size not in (None, upload.file_size):
        raise InvalidObject(
            f"{path}: FileSize {narinfo.file_size}, but {narinfo.url} was {upload.file_size} bytes long"
        )


def _merged(path_info: PathInfo, existing: PathInfo | None) -> PathInfo:
    """What is to be stored: no signature is lost, unless those who gave it have signed what replaces it.

    Raises:
        _ConflictError: A signature would be lost.
    """
    if existing is None:
        return path_info
    if in_signing_order(existing).fingerprint() == in_signing_order(path_info).fingerprint():
        # Signatures may be over the order of the references there is; new ones are over the sorted ones.
        merged = existing.with_signatures(*path_info.signatures)
        return replace(
            merged, node=path_info.node, ca=existing.ca or path_info.ca, deriver=existing.deriver or path_info.deriver
        )
    lost = {signature.name for signature in existing.signatures} - {
        signature.name for signature in path_info.signatures
    }
    if lost:
        raise _ConflictError(
            f"{path_info.store_path}: is there already with other contents or references, signed by "
            f"{shown(', '.join(sorted(lost)))}"
        )
    return path_info


def _unknown(narinfo: NarInfo) -> InvalidObject:
    nar_sha256 = nixbase32.encode(narinfo.metadata.nar_sha256)
    return InvalidObject(
        f"{narinfo.metadata.store_path}: a NAR with NarHash sha256:{nar_sha256} was not uploaded, or has gone since"
    )
