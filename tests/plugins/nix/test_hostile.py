"""Upstreams that lie: there is no path info, nobody gets a whole NAR, and the error names path and reason."""

from __future__ import annotations

import asyncio
import lzma
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web

from plugins.nix.binary_caches import CacheFiles, RealCache, path_named
from plugins.nix.upstream_server import Store, UpstreamServer
from tvix_store.content_address import ContentAddress
from tvix_store.errors import ConfigError, CorruptObject, DanglingReference, InvalidObject, LimitExceeded, StoreError
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.path_info import PathMetadata, Signature
from tvix_store.signing import SecretKey
from tvix_store.store_path import StorePath
from tvix_store.trust import Untrusted
from tvix_store_nix.narinfos import NarInfoPolicy

pytestmark = pytest.mark.anyio

Change = Callable[[CacheFiles, StorePath], None]


def narinfo(**changes: Any) -> Change:
    return lambda files, path: files.change_narinfo(path, lambda narinfo: replace(narinfo, **changes))


def metadata(**changes: Any) -> Change:
    return lambda files, path: files.change_metadata(path, lambda metadata: replace(metadata, **changes))


def nar(change: Callable[[bytes], bytes]) -> Change:
    """Another NAR, whose hash and size as a file are right."""

    def apply(files: CacheFiles, path: StorePath) -> None:
        files.change_nar(path, lambda data: lzma.compress(change(lzma.decompress(data))))
        data = files[files.nar_name(path)]
        narinfo(file_hash=NixHash.of(HashAlgorithm.SHA256, data), file_size=len(data))(files, path)

    return apply


def file(change: Callable[[bytes], bytes], *, is_stated: bool = False) -> Change:
    """Another file; if it is stated, its hash and size are right."""

    def apply(files: CacheFiles, path: StorePath) -> None:
        files.change_nar(path, change)
        data = files[files.nar_name(path)]
        if is_stated:
            narinfo(file_hash=NixHash.of(HashAlgorithm.SHA256, data), file_size=len(data))(files, path)

    return apply


def flip_middle(data: bytes) -> bytes:
    """In the middle of the contents of a file."""
    middle = len(data) // 4
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


NAR_LIES = {
    "another NAR hash": (metadata(nar_sha256=bytes(32), ca=None), "NarHash is sha256:0000"),
    "another file hash": (narinfo(file_hash=NixHash.of(HashAlgorithm.SHA512, b"")), "FileHash is sha512:"),
    "a smaller file": (narinfo(file_size=1000), "goes on behind 1000 bytes"),
    "a larger file": (narinfo(file_size=1 << 30), "FileSize is 1073741824"),
    "a smaller NAR": (metadata(nar_size=1000), "more than 1000 bytes"),
    "a larger NAR": (metadata(nar_size=1 << 30), "NarSize is 1073741824"),
    "another compression": (narinfo(compression="zstd"), "zstd stream"),
    "no compression": (narinfo(compression="none"), "the NAR at nar/"),
    "an unknown compression": (narinfo(compression="rar"), "'rar' is none of"),
    "a flipped bit": (nar(flip_middle), "NarHash is"),
    "a truncated NAR": (nar(lambda data: data[:-100_000]), "the NAR at nar/"),
    "a NAR with an end of its own": (nar(lambda data: data + bytes(8)), "bytes of content"),
    "a truncated file": (file(lambda data: data[:-1000]), "truncated"),
    "a truncated file that is stated": (file(lambda data: data[:-1000], is_stated=True), "truncated"),
    "garbage": (file(lambda data: b"garbage" * 100, is_stated=True), "xz stream is corrupt"),
    "garbage behind it": (file(lambda data: data + b"garbage", is_stated=True), "goes on behind its end"),
    "an empty file": (file(lambda data: b""), "truncated"),
    "another content address": (
        metadata(ca=ContentAddress.parse(f"fixed:r:sha256:{'0' * 52}")),
        "content address",
    ),
}


@pytest.mark.parametrize(("lie", "reason"), NAR_LIES.values(), ids=NAR_LIES)
async def test_a_wrong_nar_is_never_referred_to(
    real: RealCache, server: UpstreamServer, store: Store, lie: Change, reason: str
) -> None:
    lie(server.files, real.tree)
    with pytest.raises(CorruptObject, match=reason) as raised:
        await store.path_infos.get(real.tree.digest)
    assert str(real.tree) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("lie", "reason"), NAR_LIES.values(), ids=NAR_LIES)
async def test_nobody_gets_a_whole_nar_that_is_wrong(
    real: RealCache, server: UpstreamServer, store: Store, lie: Change, reason: str
) -> None:
    lie(server.files, real.tree)
    n_bytes = 0
    with pytest.raises(CorruptObject, match=reason):  # noqa: PT012 - some of them may come before that
        stream = await store.path_infos.open_nar(real.tree.digest)
        assert stream is not None
        async for piece in stream.pieces:
            n_bytes += len(piece)
    assert n_bytes < server.files.narinfo(real.tree).metadata.nar_size  # as announced


async def test_a_healed_upstream_is_believed_at_once(real: RealCache, server: UpstreamServer, store: Store) -> None:
    sound = CacheFiles(server.files)
    metadata(nar_sha256=bytes(32), ca=None)(server.files, real.tree)
    with pytest.raises(CorruptObject):
        await store.path_infos.get(real.tree.digest)
    server.files.update(sound)
    assert await store.nar_of(await store.path_infos.get(real.tree.digest)) == real.nar


async def test_a_narinfo_is_not_remembered_once_its_nar_was_wrong(
    real: RealCache, server: UpstreamServer, store: Store
) -> None:
    """The upstream has compressed everything anew, between the narinfo and the NAR."""
    assert await store.path_infos.get_metadata(real.tree.digest) is not None
    server.files.clear()
    server.files.update(CacheFiles.of(real.written("zstd")))
    with pytest.raises(DanglingReference):
        await store.path_infos.open_nar(real.tree.digest)
    assert await store.streamed(real.tree.digest) == real.nar


async def test_a_small_nar_that_is_wrong_fails_before_the_first_byte(
    real: RealCache, server: UpstreamServer, store: Store
) -> None:
    metadata(nar_sha256=bytes(32), ca=None)(server.files, real.referred)
    with pytest.raises(CorruptObject, match="NarHash is"):
        await store.path_infos.open_nar(real.referred.digest)


async def test_a_nar_that_is_not_there_is_no_absent_path(real: RealCache, server: UpstreamServer, store: Store) -> None:
    del server.files[server.files.nar_name(real.tree)]
    for ask in (store.path_infos.get, store.path_infos.open_nar):
        with pytest.raises(DanglingReference, match=f"{real.tree}.*does not exist"):
            await ask(real.tree.digest)


async def test_an_endless_file_is_given_up(real: RealCache, server: UpstreamServer, store: Store) -> None:
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        nothing = lzma.compress(b"") * 1000
        try:
            while True:
                await response.write(nothing)
        finally:
            ended.set_result(None)

    narinfo(file_hash=None, file_size=None)(server.files, real.tree)
    server.instead[server.files.nar_name(real.tree)] = answer
    with pytest.raises(CorruptObject, match="goes on behind"):
        await store.path_infos.get(real.tree.digest)
    await ended


async def test_a_bomb_is_stopped(real: RealCache, server: UpstreamServer, store: Store) -> None:
    bomb = lzma.compress(real.nar + bytes(1 << 25))
    server.files[server.files.nar_name(real.tree)] = bomb
    narinfo(file_hash=None, file_size=len(bomb))(server.files, real.tree)
    with pytest.raises(CorruptObject, match=f"more than {len(real.nar)} bytes"):
        await store.path_infos.get(real.tree.digest)


# narinfos


async def test_an_endless_narinfo_is_given_up(real: RealCache, server: UpstreamServer, store: Store) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"Sig: \n" * 10_000)

    server.instead[f"{real.tree.hash_part}.narinfo"] = answer
    with pytest.raises(LimitExceeded, match="longer than 2097152 bytes"):
        await store.path_infos.get_metadata(real.tree.digest)


@pytest.mark.parametrize("data", [b"", b"<html>not here</html>\n", b"StorePath: /nix/store/x\n", b"\xff\xfe", bytes(9)])
async def test_garbage_is_no_narinfo(real: RealCache, server: UpstreamServer, store: Store, data: bytes) -> None:
    server.files[f"{real.tree.hash_part}.narinfo"] = data
    with pytest.raises(InvalidObject, match=f"{real.tree.hash_part}.narinfo: narinfo"):
        await store.path_infos.get_metadata(real.tree.digest)


async def test_a_narinfo_of_another_path_is_refused(real: RealCache, server: UpstreamServer, store: Store) -> None:
    server.files[f"{real.tree.hash_part}.narinfo"] = server.files[f"{real.referred.hash_part}.narinfo"]
    for ask in (store.path_infos.get, store.path_infos.get_metadata, store.path_infos.open_nar):
        with pytest.raises(InvalidObject, match=f"it is about another path, {real.referred}"):
            await ask(real.tree.digest)


async def test_a_nar_of_more_than_is_allowed_is_not_fetched(real: RealCache, server: UpstreamServer) -> None:
    async with Store(server.url, NarInfoPolicy(max_nar_bytes=len(real.nar) - 1)) as store:
        with pytest.raises(LimitExceeded, match=f"{real.tree} has {len(real.nar)} bytes"):
            await store.path_infos.get(real.tree.digest)
    assert server.nar_requests() == 0


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://host/x", "http://host:port/", "a b", "http://[::1/x", "nix:x"]
)
async def test_urls_that_lead_where_they_must_not(
    real: RealCache, server: UpstreamServer, store: Store, url: str
) -> None:
    narinfo(url=url)(server.files, real.tree)
    with pytest.raises(CorruptObject, match="URL"):
        await store.path_infos.get(real.tree.digest)
    assert server.nar_requests() == 0


@pytest.mark.parametrize("store_dir", ["/gnu/store", "/nix/store/"])
async def test_a_cache_of_another_store_directory_is_refused(
    real: RealCache, server: UpstreamServer, store: Store, store_dir: str
) -> None:
    server.files["nix-cache-info"] = f"StoreDir: {store_dir}\n".encode()
    with pytest.raises(ConfigError, match=f"upstream: nix-cache-info.*{store_dir}"):
        await store.path_infos.get_metadata(real.tree.digest)


async def test_a_cache_without_an_info_is_fine(real: RealCache, server: UpstreamServer, store: Store) -> None:
    del server.files["nix-cache-info"]
    assert await store.path_infos.get_metadata(real.tree.digest) is not None
    assert await store.path_infos.get_metadata(real.referred.digest) is not None
    assert server.count("nix-cache-info") == 1


# Trust


def input_addressed(files: CacheFiles, path: StorePath, key: SecretKey | None) -> None:
    """Make it a path for which only signatures stand: one by ``key``."""

    def change(metadata: PathMetadata) -> PathMetadata:
        metadata = replace(metadata, ca=None, signatures=())
        return metadata if key is None else metadata.with_signatures(key.sign(metadata))

    files.change_metadata(path, change)


def forged(files: CacheFiles, path: StorePath, real: RealCache) -> None:
    """Signed by the right name over something else."""
    input_addressed(files, path, real.secret_key)
    files.change_metadata(path, lambda metadata: replace(metadata, references=(path_named("other"),)))


async def refusal(server: UpstreamServer, policy: NarInfoPolicy, path: StorePath) -> StoreError:
    async with Store(server.url, policy) as store:
        for ask in (store.path_infos.get_metadata, store.path_infos.open_nar, store.path_infos.get):
            with pytest.raises(Untrusted, match=str(path)) as raised:
                await ask(path.digest)
    assert server.nar_requests() == 0
    return raised.value


async def test_what_is_not_signed_is_refused(real: RealCache, server: UpstreamServer) -> None:
    input_addressed(server.files, real.tree, None)
    await refusal(server, NarInfoPolicy([real.public_key]), real.tree)


async def test_what_another_signed_is_refused(real: RealCache, server: UpstreamServer) -> None:
    input_addressed(server.files, real.tree, SecretKey.generate("test-1"))
    await refusal(server, NarInfoPolicy([real.public_key]), real.tree)


async def test_what_was_changed_after_it_was_signed_is_refused(real: RealCache, server: UpstreamServer) -> None:
    forged(server.files, real.tree, real)
    await refusal(server, NarInfoPolicy([real.public_key]), real.tree)


async def test_nothing_is_signed_well_enough_for_no_keys(real: RealCache, server: UpstreamServer) -> None:
    input_addressed(server.files, real.tree, real.secret_key)
    await refusal(server, NarInfoPolicy([]), real.tree)


@pytest.mark.parametrize("keys", [None, "right"])
async def test_what_is_signed_well_is_let_through(real: RealCache, server: UpstreamServer, keys: str | None) -> None:
    input_addressed(server.files, real.tree, real.secret_key)
    policy = NarInfoPolicy(None if keys is None else [real.public_key])
    async with Store(server.url, policy) as store:
        assert await store.nar_of(await store.path_infos.get(real.tree.digest)) == real.nar


async def test_without_keys_nothing_has_to_be_signed(real: RealCache, server: UpstreamServer, store: Store) -> None:
    input_addressed(server.files, real.tree, None)
    assert await store.nar_of(await store.path_infos.get(real.tree.digest)) == real.nar


async def test_a_content_address_stands_for_itself(real: RealCache, server: UpstreamServer) -> None:
    metadata(signatures=(Signature("odd_key", bytes(64)),))(server.files, real.referring)
    async with Store(server.url, NarInfoPolicy([])) as store:
        path_info = await store.path_infos.get(real.referring.digest)
    assert path_info is not None
    assert path_info.references == (real.referred,)


async def test_contents_must_have_the_content_address(real: RealCache, server: UpstreamServer) -> None:
    """The NAR fits the narinfo, and the path follows from the content address, but they are not about each other."""
    other = server.files.narinfo(real.referring)
    server.files.change_narinfo(
        real.referred,
        lambda narinfo: replace(
            other, metadata=replace(other.metadata, store_path=real.referred, references=(), ca=narinfo.metadata.ca)
        ),
    )
    async with Store(server.url, NarInfoPolicy([])) as store:
        assert await store.path_infos.get_metadata(real.referred.digest) is not None
        for ask in (store.path_infos.get, store.path_infos.open_nar):
            with pytest.raises(CorruptObject, match=f"{real.referred}.*content address"):
                await ask(real.referred.digest)
