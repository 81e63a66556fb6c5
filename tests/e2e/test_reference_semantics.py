"""What combinators of the reference do on real services: what is kept here, and what is done differently."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.composed import METADATA, Composed, composed
from plugins.grpc.loopback import memory_services, serving
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.directory import DirectoryService
from tvix_store.errors import CorruptObject, DanglingReference, Unavailable
from tvix_store.limits import MIB
from tvix_store.nodes import FileNode
from tvix_store.registry import Registry
from tvix_store.signing import SecretKey
from tvix_store.testing.blob_access import list_blobs, read_blob, write_blob
from tvix_store.testing.directory_uploads import list_directories, recursive, upload
from tvix_store.testing.fixtures import (
    DIRECTORY_A,
    DIRECTORY_B,
    DIRECTORY_D,
    HELLOWORLD_BLOB,
    PATH_INFO,
    PATH_INFO_SIGNED,
    SIGNATURE,
    contents,
    store_path,
)
from tvix_store.testing.path_info_suite import list_path_infos, path_info
from tvix_store_memory.blob import MemoryBlobService
from vectors.castore_nars import NARS
from vectors.nix_keys import KEYS

pytestmark = pytest.mark.anyio

HELLO = HashedBlob(HELLOWORLD_BLOB.data)
LARGE = contents(3 * MIB)
CLOSURE = (DIRECTORY_A, DIRECTORY_B, DIRECTORY_D)
ROOT = B3Digest.of(DIRECTORY_D.encode())
DIGEST = PATH_INFO.store_path.digest


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.load()


def sides(table: str, root: str) -> str:
    """``near`` in memory, ``far`` in a database, and what is made of them."""
    return f"""
        [{table}]
        root = {{ {root} }}
        near = {{ type = "memory" }}
        far = {{ type = "sqlite", is_temporary = true }}
    """


# combined, blobs


@pytest.fixture
async def combined(registry: Registry) -> AsyncIterator[Composed]:
    root = 'type = "combined", near = "near", far = "far"'
    async with composed(sides("blobservices", root) + METADATA, registry) as store:
        yield store


async def test_combined_reads_both_sides_and_leaves_near_as_it_is(combined: Composed) -> None:
    root, near, far = [await combined.blobs(name) for name in ("root", "near", "far")]
    await near.put_many([HELLO])
    digest = await write_blob(far, LARGE)
    assert await root.has_many([HELLO.digest, digest, B3Digest.of(b"absent")]) == [True, True, False]
    assert await read_blob(root, HELLO.digest) == HELLO.data
    assert await read_blob(root, digest) == LARGE
    assert await root.open_read(B3Digest.of(b"absent")) is None
    assert await list_blobs(near) == [HELLO.digest]


async def test_combined_writes_near_alone(combined: Composed) -> None:
    digest = await write_blob(await combined.blobs(), b"new")
    assert await list_blobs(await combined.blobs("near")) == [digest]
    assert await list_blobs(await combined.blobs("far")) == []


async def test_chunks_that_are_near_are_not_fetched_after_a_seek(combined: Composed) -> None:
    root, near, far = [await combined.blobs(name) for name in ("root", "near", "far")]
    digest = await write_blob(far, LARGE)
    chunks = await far.chunks(digest)
    assert chunks
    last = LARGE[-chunks[-1].size :]
    await near.put_many([HashedBlob(last)])
    combined.asked["far"].calls.clear()
    reader = await root.open_read(digest)
    assert reader is not None
    async with reader:
        await reader.seek(len(LARGE) - len(last))
        assert await reader.read(100) == last[:100]
    assert "get_many" not in combined.asked["far"].methods
    assert "reader.read" not in combined.asked["far"].methods


async def test_from_its_beginning_a_blob_is_far_s_own_stream(combined: Composed) -> None:
    """There, it would be read by its chunks."""
    digest = await write_blob(await combined.blobs("far"), LARGE)
    assert await read_blob(await combined.blobs(), digest) == LARGE
    assert combined.asked["far"].methods.count("open_read") == 1
    assert "chunks" not in combined.asked["far"].methods


async def test_chunks_come_through_combined_and_through_a_daemon_in_front_of_it(
    registry: Registry, combined: Composed, tmp_path: Path
) -> None:
    far = await combined.blobs("far")
    digest = await write_blob(far, LARGE)
    assert len(await far.chunks(digest) or ()) > 1
    assert await (await combined.blobs()).chunks(digest) == await far.chunks(digest)
    url = f"grpc+unix://{tmp_path}/sock"
    async with (
        serving(await combined.services(), tmp_path / "sock"),
        composed(f'[blobservices.root]\ntype = "grpc"\nurl = "{url}"', registry) as client,
    ):
        assert await (await client.blobs()).chunks(digest) == await far.chunks(digest)


# cache, blobs: there is none there


@pytest.mark.parametrize(("write", "near", "far"), [("near", True, False), ("far", False, True), ("both", True, True)])
async def test_a_cache_of_blobs_fills_near_and_puts_where_it_is_told_to(
    registry: Registry, write: str, near: bool, far: bool
) -> None:
    root = f'type = "cache", near = "near", far = "far", write = "{write}"'
    async with composed(sides("blobservices", root), registry) as store:
        cache = await store.blobs()
        digest = await write_blob(await store.blobs("far"), LARGE)
        assert await read_blob(cache, digest) == LARGE
        assert await list_blobs(await store.blobs("near")) == [digest]
        await cache.put_many([HELLO])
        assert await (await store.blobs("near")).has(HELLO.digest) is near
        assert await (await store.blobs("far")).has(HELLO.digest) is far


# cache, directories


@pytest.fixture
async def directories(registry: Registry) -> AsyncIterator[Composed]:
    root = 'type = "cache", near = "near", far = "far"'
    async with composed(sides("directoryservices", root), registry) as store:
        yield store


async def three(store: Composed) -> list[DirectoryService]:
    return [await store.directories(name) for name in ("root", "near", "far")]


async def test_directories_are_taken_from_near_else_from_far(directories: Composed) -> None:
    root, near, far = await three(directories)
    await near.put(DIRECTORY_A)
    await upload(far, *CLOSURE)
    directories.asked["far"].calls.clear()
    assert await root.get(B3Digest.of(DIRECTORY_A.encode())) == DIRECTORY_A
    assert directories.asked["far"].calls == []
    assert await root.get(ROOT) == DIRECTORY_D
    assert await near.get(ROOT) == DIRECTORY_D
    assert await root.get(B3Digest.of(b"absent")) is None


async def test_a_directory_is_kept_without_what_is_below_it(directories: Composed) -> None:
    """There, all that is below it comes with it."""
    root, near, far = await three(directories)
    await upload(far, *CLOSURE)
    assert await root.get(ROOT) == DIRECTORY_D
    assert await list_directories(near) == [ROOT]
    assert set(await recursive(root, ROOT)) == set(CLOSURE)  # near lacks some, which there is an error
    assert len(await list_directories(near)) == len(CLOSURE)


async def test_a_tree_is_kept_as_a_whole(directories: Composed) -> None:
    root, near, far = await three(directories)
    await upload(far, *CLOSURE)
    assert set(await recursive(root, ROOT)) == set(CLOSURE)
    assert await recursive(near, ROOT) == await recursive(far, ROOT)
    directories.asked["far"].calls.clear()
    assert set(await recursive(root, ROOT)) == set(CLOSURE)
    assert directories.asked["far"].calls == []


async def test_an_absent_tree_is_an_empty_stream(directories: Composed) -> None:
    """There, it is an error."""
    assert await recursive(await directories.directories(), ROOT) == []


async def test_directories_can_be_put_and_listed_through_the_cache(directories: Composed) -> None:
    """There, all of it is unimplemented."""
    root, near, far = await three(directories)
    await root.put(DIRECTORY_A)
    await root.put_many([DIRECTORY_B])
    await upload(root, *CLOSURE)
    assert set(await list_directories(root)) == {B3Digest.of(directory.encode()) for directory in CLOSURE}
    assert set(await recursive(near, ROOT)) == set(CLOSURE)
    assert await list_directories(far) == []


async def test_a_directory_that_nobody_has_is_dangling_and_not_the_end(directories: Composed) -> None:
    root, near, _ = await three(directories)
    await near.put(DIRECTORY_B)
    with pytest.raises(DanglingReference):
        await recursive(root, B3Digest.of(DIRECTORY_B.encode()))


# cache, path infos


@pytest.fixture
async def path_infos(registry: Registry) -> AsyncIterator[Composed]:
    root = 'type = "cache", near = "near", far = "far"'
    async with composed(sides("pathinfoservices", root), registry) as store:
        yield store


async def test_path_infos_are_taken_from_far_and_kept_near(path_infos: Composed) -> None:
    root, near, far = [await path_infos.path_infos(name) for name in ("root", "near", "far")]
    await far.put(PATH_INFO)
    assert await root.get(DIGEST) == PATH_INFO
    assert await near.get(DIGEST) == PATH_INFO
    path_infos.asked["far"].calls.clear()
    assert await root.get(DIGEST) == PATH_INFO
    assert path_infos.asked["far"].calls == []


async def test_absence_is_asked_for_each_time(path_infos: Composed) -> None:
    root = await path_infos.path_infos()
    await path_infos.path_infos("far")
    for _ in range(2):
        assert await root.get(DIGEST) is None
    assert path_infos.asked["far"].methods == ["get", "get"]


async def test_near_that_cannot_be_filled_fails_the_read(path_infos: Composed) -> None:
    root, far = await path_infos.path_infos(), await path_infos.path_infos("far")
    await far.put(PATH_INFO)
    path_infos.asked["near"].failure = Unavailable("no")
    path_infos.asked["near"].failing = ("put", "put_many")
    with pytest.raises(Unavailable, match="no"):
        await root.get(DIGEST)


async def test_those_who_ask_at_the_same_time_ask_far_once(path_infos: Composed) -> None:
    """There, each asks."""
    root, far = await path_infos.path_infos(), await path_infos.path_infos("far")
    await far.put(PATH_INFO)
    assert await asyncio.gather(*(root.get(DIGEST) for _ in range(10))) == [PATH_INFO] * 10
    assert path_infos.asked["far"].methods.count("get") == 1


@pytest.mark.parametrize(("write", "near", "far"), [("near", True, False), ("far", False, True), ("both", True, True)])
async def test_path_infos_can_be_put_and_listed_through_the_cache(
    registry: Registry, write: str, near: bool, far: bool
) -> None:
    """There, both are unimplemented."""
    root = f'type = "cache", near = "near", far = "far", write = "{write}"'
    async with composed(sides("pathinfoservices", root), registry) as store:
        cache = await store.path_infos()
        assert await cache.put(PATH_INFO) == PATH_INFO
        assert await list_path_infos(cache) == [PATH_INFO]
        assert (await (await store.path_infos("near")).get(DIGEST) is not None) is near
        assert (await (await store.path_infos("far")).get(DIGEST) is not None) is far


# keyfile-signing

DO_NOT_USE = next(secret for secret, _ in KEYS if secret.startswith("do.not.use:"))


@pytest.fixture
async def signing(registry: Registry, tmp_path: Path) -> AsyncIterator[Composed]:
    (tmp_path / "key").write_text(f"  {DO_NOT_USE}\n\n")
    (tmp_path / "key").chmod(0o600)
    text = f"""
        [pathinfoservices.root]
        type = "keyfile-signing"
        inner = "inner"
        keyfile = "{tmp_path}/key"
        [pathinfoservices.inner]
        type = "sqlite"
        is_temporary = true
    """
    async with composed(text, registry) as store:
        await store.path_infos()
        (tmp_path / "key").unlink()  # it is read once
        yield store


async def test_what_is_put_is_signed_behind_what_is_there(signing: Composed) -> None:
    root, inner = await signing.path_infos(), await signing.path_infos("inner")
    assert await root.put(PATH_INFO) == PATH_INFO_SIGNED
    assert await inner.get(DIGEST) == PATH_INFO_SIGNED
    other = replace(path_info(1), signatures=(replace(SIGNATURE, name="other"),))
    assert [signature.name for signature in (await root.put(other)).signatures] == ["other", "do.not.use"]


async def test_what_is_there_already_is_not_signed(signing: Composed) -> None:
    root, inner = await signing.path_infos(), await signing.path_infos("inner")
    await inner.put(PATH_INFO)
    assert await root.get(DIGEST) == PATH_INFO
    assert await list_path_infos(root) == [PATH_INFO]


async def test_to_put_back_what_came_out_adds_no_signature(signing: Composed) -> None:
    """There, it is added again."""
    root = await signing.path_infos()
    assert await root.put(await root.put(PATH_INFO)) == PATH_INFO_SIGNED


async def test_references_that_are_not_sorted_are_signed_in_both_orders(signing: Composed) -> None:
    """There, as they are; which Nix does not verify."""
    given = replace(PATH_INFO, references=tuple(sorted([store_path("a"), store_path("b")], reverse=True)))
    stored = await (await signing.path_infos()).put(given)
    assert stored.references == given.references
    public = SecretKey.parse(DO_NOT_USE).public
    by_nix, by_reference = stored.signatures
    assert public.verify(given.fingerprint(), by_reference)
    assert not public.verify(given.fingerprint(), by_nix)
    assert public.verify(replace(given, references=tuple(sorted(given.references))).fingerprint(), by_nix)


@pytest.mark.parametrize("secret", [secret for secret, _ in KEYS])
async def test_keys_as_nix_makes_them_and_several_of_them(registry: Registry, tmp_path: Path, secret: str) -> None:
    """There, one key, in whose name an underscore is refused."""
    files = [tmp_path / "one", tmp_path / "two"]
    for file, text in zip(files, (secret, str(SecretKey.generate("second"))), strict=True):
        file.touch(0o600)
        file.write_text(text)
    entry = {"type": "keyfile-signing", "inner": "memory://", "keyfile": [str(file) for file in files]}
    async with composed({"pathinfoservices": {"root": entry}}, registry) as store:
        stored = await (await store.path_infos()).put(PATH_INFO)
    assert [signature.name for signature in stored.signatures] == [secret.partition(":")[0], "second"]


async def test_a_cache_answers_with_what_near_stored(registry: Registry, tmp_path: Path) -> None:
    """There, with what far gave."""
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_text(DO_NOT_USE)
    text = f"""
        [pathinfoservices]
        root = {{ type = "cache", near = "signing", far = "far" }}
        signing = {{ type = "keyfile-signing", inner = "memory://", keyfile = "{tmp_path}/key" }}
        far = {{ type = "memory" }}
    """
    async with composed(text, registry) as store:
        await (await store.path_infos("far")).put(PATH_INFO)
        assert await (await store.path_infos()).get(DIGEST) == PATH_INFO_SIGNED


# What goes through combinators


@pytest.mark.parametrize(
    "root",
    [
        'type = "cache", near = "memory://", far = "far"',
        'type = "keyfile-signing", inner = "far", keyfile = "{folder}/key"',
    ],
    ids=["cache", "keyfile-signing"],
)
async def test_nars_are_calculated_where_the_contents_are(registry: Registry, tmp_path: Path, root: str) -> None:
    """There, all contents come here first."""
    (tmp_path / "key").write_text(DO_NOT_USE)
    (tmp_path / "key").chmod(0o600)
    far = memory_services()
    await far.blobs.put_many([HELLO])
    async with serving(far, tmp_path / "sock") as url:
        text = f"""
[blobservices.root]
type = "memory"
[directoryservices.root]
type = "memory"
[pathinfoservices]
root = {{ {root.format(folder=tmp_path)} }}
far = {{ type = "grpc", url = "{url}" }}
"""
        async with composed(text, registry) as store:
            services = await store.services()
            nar = await services.nar_calculation.calculate_nar(FileNode(HELLO.digest, len(HELLO.data), False))
            assert not await services.blobs.has(HELLO.digest)
    assert (nar.size, nar.sha256.hex()) == NARS["helloworld"][1:]


async def test_what_a_remote_store_sends_is_compared_with_what_was_asked_for(
    registry: Registry, tmp_path: Path
) -> None:
    """There, it is believed."""
    wrong = MemoryBlobService()
    wrong.contents[HELLO.digest.raw] = b"something else"
    far = replace(memory_services(), blobs=wrong)
    url = f"grpc+unix://{tmp_path}/sock"
    async with (
        serving(far, tmp_path / "sock"),
        composed(f'[blobservices.root]\ntype = "grpc"\nurl = "{url}"', registry) as store,
    ):
        with pytest.raises(CorruptObject):
            await read_blob(await store.blobs(), HELLO.digest)


async def test_a_path_info_takes_the_place_of_the_one_before(registry: Registry, tmp_path: Path) -> None:
    for url in ("memory://", f"sqlite://{tmp_path}/x.sqlite"):
        async with composed(
            {"pathinfoservices": {"root": {"type": "cache", "near": url, "far": "memory://"}}}, registry
        ) as store:
            root = await store.path_infos()
            await root.put(PATH_INFO_SIGNED)
            await root.put(PATH_INFO)
            assert await root.get(DIGEST) == PATH_INFO
