"""``DIGEST.narinfo``, and the answer to it that comes from memory."""

from __future__ import annotations

from email.utils import formatdate

from aiohttp import web

from tvix_store import nixbase32
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.narinfo import NarInfo
from tvix_store.path_info import OUTPUT_HASH_BYTES, PathInfo, PathMetadata
from tvix_store_http.castore_url import castore_url
from tvix_store_http.errors import not_found
from tvix_store_http.site import Site, SiteOptions

__all__ = ["HASH_PART", "narinfo_of", "response_head", "routes"]

HASH_PART = f"[{nixbase32.ALPHABET}]{{{nixbase32.encoded_length(OUTPUT_HASH_BYTES)}}}"
"""Pattern of the first part of a store path's base name."""

_HEADERS = {"Content-Type": "text/x-nix-narinfo", "Cache-Control": "public, max-age=60"}
"""Signatures may be added, so that proxies should not keep it for long."""


def routes(site: Site) -> list[web.RouteDef]:
    """Serves the narinfos of ``site``."""

    async def get(request: web.Request) -> web.Response:
        name = request.match_info["digest"]
        generation = site.narinfos.generation
        metadata = await site.services.path_infos.get_metadata(nixbase32.decode_fixed(name, OUTPUT_HASH_BYTES))
        if metadata is None:
            return not_found()
        site.nar_names.note(metadata)
        body = narinfo_of(metadata, site.options)
        site.narinfos.keep(name.encode(), response_head(len(body)) + body, generation)
        return web.Response(body=body, headers=_HEADERS)

    return [web.get(f"/{{digest:{HASH_PART}}}.narinfo", get)]


def narinfo_of(metadata: PathMetadata, options: SiteOptions) -> bytes:
    """The narinfo for a path. The file it names is the NAR itself, whatever way it goes over the wire.

    Raises:
        InvalidObject: It cannot be written as one.
    """
    if options.nar_url != "nar-hash" and isinstance(metadata, PathInfo):
        url = castore_url(options.nar_url, metadata.node, metadata.nar_size)
    else:  # a path whose contents are elsewhere has no node yet
        url = f"nar/{nixbase32.encode(metadata.nar_sha256)}.nar?hash={metadata.store_path.hash_part}"
    # Without FileHash, `nix store sign` makes Nix up to 2.34 abort.
    file_hash = NixHash(HashAlgorithm.SHA256, metadata.nar_sha256)
    return NarInfo(metadata, url, "none", file_hash, metadata.nar_size).render(options.store_dir)


def response_head(n_bytes: int) -> bytes:
    """What precedes a narinfo of ``n_bytes`` on the wire."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in _HEADERS.items())
    return f"HTTP/1.1 200 OK\r\n{fields}Content-Length: {n_bytes}\r\nDate: {formatdate(usegmt=True)}\r\n\r\n".encode()
