from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from tvix_store.checked import CheckedBlobService, CheckedDirectoryService
from tvix_store.content_address import ContentAddress
from tvix_store.content_address_check import check_content_address
from tvix_store.errors import DanglingReference, InvalidObject
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.limits import MIB
from tvix_store.nar_ingest import ingest_nar
from tvix_store.path_info import PathInfo
from tvix_store.store_path import StorePath
from tvix_store.testing.fixtures import contents
from tvix_store.testing.minimal import MinimalBlobService, MinimalDirectoryService
from vectors import nix_store_paths as vectors
from vectors.nar import TREES, Dir, File, Tree, encode

pytestmark = pytest.mark.anyio

DEP = StorePath.from_base_name(vectors.DEP_NAR_PATH)
SELF = StorePath.from_base_name(f"{vectors.SELF_HASH_PART}-{vectors.SELF_NAME}")


class Store:
    """Two services, and path infos of what is put into them."""

    def __init__(self) -> None:
        self.minimal = MinimalBlobService(), MinimalDirectoryService()
        self.blobs = CheckedBlobService("blobs", self.minimal[0])
        self.directories = CheckedDirectoryService("directories", self.minimal[1])

    async def put(self, tree: Tree, ca: str | None, *references: StorePath, path: StorePath = DEP) -> PathInfo:
        async def pieces() -> AsyncIterator[bytes]:
            yield encode(tree)

        ingested = await ingest_nar(pieces(), self.blobs, self.directories)
        return PathInfo(
            store_path=path,
            node=ingested.node,
            nar_size=ingested.nar.size,
            nar_sha256=ingested.nar.sha256,
            references=references,
            ca=None if ca is None else ContentAddress.parse(ca),
        )

    async def check(self, path_info: PathInfo) -> None:
        await check_content_address(path_info, self.blobs, self.directories)

    async def is_refused(self, path_info: PathInfo, reason: str) -> None:
        with pytest.raises(InvalidObject, match=f"^path info {path_info.store_path}: its contents .*: {reason}"):
            await self.check(path_info)

    def clear(self) -> None:
        self.minimal[0].blobs.clear()
        self.minimal[1].directories.clear()


@pytest.fixture
def store() -> Store:
    return Store()


def other(path_info: PathInfo) -> PathInfo:
    """With a content address of the same kind that is another one."""
    assert path_info.ca is not None
    digest = bytes((path_info.ca.hash.digest[0] ^ 1,)) + path_info.ca.hash.digest[1:]
    ca = ContentAddress(path_info.ca.method, NixHash(path_info.ca.hash.algorithm, digest))
    return replace(path_info, ca=ca)


@pytest.mark.parametrize(("name", "algorithm", "digest"), vectors.NAR_DIGESTS)
async def test_nar(store: Store, name: str, algorithm: str, digest: str) -> None:
    path_info = await store.put(TREES[name], f"fixed:r:{algorithm}:{digest}")
    await store.check(path_info)
    await store.is_refused(other(path_info), f"they have {path_info.ca}")


@pytest.mark.parametrize("algorithm", HashAlgorithm)
async def test_flat(store: Store, algorithm: HashAlgorithm) -> None:
    for data in (b"", b"Hello World!", contents(5 * MIB + 1)):
        digest = hashlib.new(algorithm.value, data).hexdigest()
        path_info = await store.put(File(data), f"fixed:{algorithm}:{digest}")
        await store.check(path_info)
        await store.is_refused(other(path_info), f"they have {path_info.ca}")


async def test_text(store: Store) -> None:
    digest = hashlib.sha256(vectors.DEP_CONTENTS).hexdigest()
    path_info = await store.put(File(vectors.DEP_CONTENTS), f"text:sha256:{digest}", SELF)
    await store.check(path_info)
    await store.is_refused(other(path_info), "they have text:sha256:")


@pytest.mark.parametrize("method", ["fixed:sha256", "text:sha256"])
@pytest.mark.parametrize(
    ("name", "kind"), [("exec", "an executable one"), ("link", "a symlink"), ("empty-dir", "a directory")]
)
async def test_only_a_plain_file_is_hashed_as_one(store: Store, method: str, name: str, kind: str) -> None:
    digest = hashlib.sha256(vectors.FILE_CONTENTS.get(name, b"")).hexdigest()
    path_info = await store.put(TREES[name], f"{method}:{digest}")
    await store.is_refused(path_info, f"it is for a file that is not executable, they are {kind}")


async def test_contents_that_refer_to_themselves_are_hashed_modulo_that(store: Store) -> None:
    tree = File(vectors.SELF_CONTENTS)
    path_info = await store.put(tree, vectors.SELF_CA, DEP, SELF, path=SELF)
    await store.check(path_info)
    await store.is_refused(other(path_info), f"they have {vectors.SELF_CA}")


async def test_without_the_reference_nothing_is_modulo(store: Store) -> None:
    tree = File(vectors.SELF_CONTENTS)
    path_info = await store.put(tree, vectors.SELF_CA, DEP, path=SELF)
    await store.is_refused(path_info, "they have fixed:r:sha256:")
    await store.check(await store.put(tree, f"fixed:r:sha256:{vectors.SELF_NAR_DIGEST}", DEP, path=SELF))


async def test_self_references_are_found_anywhere_in_a_large_tree(store: Store) -> None:
    hash_part = SELF.hash_part.encode()
    files = {b"%d" % i: File(contents(700_000, i)[: i * 99_991] + hash_part + contents(700_000)) for i in range(7)}
    nar = encode(Dir(files))
    offsets: list[int] = []
    while (found := nar.find(hash_part, offsets[-1] + 32 if offsets else 0)) >= 0:
        offsets.append(found)
    assert len(offsets) == 7
    blanked = nar.replace(hash_part, bytes(32)) + b"".join(b"|%d" % offset for offset in offsets)
    path_info = await store.put(Dir(files), f"fixed:r:sha256:{hashlib.sha256(blanked).hexdigest()}", SELF, path=SELF)
    await store.check(path_info)
    await store.is_refused(other(path_info), "they have")


async def test_without_content_address_there_is_nothing_to_check(store: Store) -> None:
    await store.check(await store.put(TREES["mixed"], None))


async def test_nothing_is_read_where_the_hash_of_the_nar_is_known(store: Store) -> None:
    path_info = await store.put(TREES["mixed"], f"fixed:r:sha256:{hashlib.sha256(encode(TREES['mixed'])).hexdigest()}")
    store.clear()
    await store.check(path_info)
    await store.is_refused(other(path_info), "they have")


@pytest.mark.parametrize("ca", ["fixed:r:sha1", "fixed:sha1"])
async def test_contents_that_are_missing(store: Store, ca: str) -> None:
    path_info = await store.put(TREES["hello"], f"{ca}:{'0' * 40}")
    store.clear()
    with pytest.raises(DanglingReference):
        await store.check(path_info)
