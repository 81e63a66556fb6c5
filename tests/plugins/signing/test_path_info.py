"""What is put is signed once by each key, and nothing else about it changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tvix_store.errors import Unavailable
from tvix_store.path_info import PathInfo
from tvix_store.signing import SecretKey, in_signing_order
from tvix_store.testing.fixtures import PATH_INFO, PATH_INFO_FULL, PATH_INFO_SIGNED, SIGNATURE, store_path
from tvix_store.trust import signed_by
from tvix_store_memory.path_info import MemoryPathInfoService
from tvix_store_signing.path_info import SigningPathInfoService
from vectors.nix_keys import KEYS

pytestmark = pytest.mark.anyio

ONE, TWO = SecretKey.generate("one"), SecretKey.generate("two")


class Journalled(MemoryPathInfoService):
    """Remembers the batches it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Sequence[PathInfo]] = []

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        self.batches.append(path_infos)
        return await super().put_many(path_infos)


@pytest.fixture
def inner() -> Journalled:
    return Journalled()


@pytest.fixture
def service(inner: Journalled) -> SigningPathInfoService:
    return SigningPathInfoService(inner, [ONE, TWO])


async def test_each_key_signs_behind_what_is_there(service: SigningPathInfoService, inner: Journalled) -> None:
    stored = await service.put(PATH_INFO_FULL)
    assert [signature.name for signature in stored.signatures] == [SIGNATURE.name, "one", "two"]
    assert replace(stored, signatures=PATH_INFO_FULL.signatures) == PATH_INFO_FULL
    for key in (ONE, TWO):
        assert signed_by(stored, [key.public]) is key.public
    assert await inner.get(stored.store_path.digest) == stored


async def test_a_signature_is_there_once(service: SigningPathInfoService) -> None:
    once = await service.put(PATH_INFO)
    assert await service.put(once) == once
    assert list(await service.put_many([once])) == [once]


async def test_the_signature_is_the_one_of_the_reference(inner: Journalled) -> None:
    key = next(SecretKey.parse(secret) for secret, _ in KEYS if secret.startswith("do.not.use:"))
    service = SigningPathInfoService(inner, [key])
    assert await service.put(PATH_INFO) == PATH_INFO_SIGNED
    assert await service.put(PATH_INFO_SIGNED) == PATH_INFO_SIGNED


async def test_references_in_another_order_are_signed_in_both(inner: Journalled) -> None:
    given = replace(PATH_INFO, references=(*sorted([store_path("a"), store_path("b")], reverse=True), store_path("a")))
    stored = await SigningPathInfoService(inner, [ONE]).put(given)
    assert stored.references == given.references
    by_nix, by_snix = stored.signatures
    assert ONE.public.verify(in_signing_order(given).fingerprint(), by_nix)
    assert ONE.public.verify(given.fingerprint(), by_snix)


async def test_a_batch_stays_one(service: SigningPathInfoService, inner: Journalled) -> None:
    given = [replace(PATH_INFO, store_path=store_path(f"path-{number}")) for number in range(5)]
    stored = await service.put_many(given)
    assert [list(batch) for batch in inner.batches] == [list(stored)]
    assert all(signed_by(path_info, [TWO.public]) for path_info in stored)


async def test_what_was_there_is_not_signed_by_reading_it(service: SigningPathInfoService, inner: Journalled) -> None:
    await inner.put(PATH_INFO)
    assert await service.get(PATH_INFO.store_path.digest) == PATH_INFO
    assert [path_info async for path_info in service.list()] == [PATH_INFO]


async def test_a_failure_of_the_inner_service_is_passed_on() -> None:
    class Failing(MemoryPathInfoService):
        async def put(self, path_info: PathInfo) -> PathInfo:
            raise Unavailable("disk gone")

    service = SigningPathInfoService(Failing(), [ONE])
    with pytest.raises(Unavailable, match="disk gone"):
        await service.put(PATH_INFO)
    with pytest.raises(Unavailable, match="disk gone"):
        await service.put_many([PATH_INFO])


async def test_the_inner_service_stays_open() -> None:
    class Closing(MemoryPathInfoService):
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    inner = Closing()
    async with SigningPathInfoService(inner, [ONE]):
        pass
    assert not inner.closed
