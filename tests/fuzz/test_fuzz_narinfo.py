"""narinfo and nix-cache-info: never anything but InvalidObject, and what is taken says the same once written again."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from fuzz.held_memory import growth_of
from fuzz.mutations import damaged, fuzzing, mutants, named_samples
from tvix_store.cache_info import CacheInfo
from tvix_store.errors import InvalidObject
from tvix_store.limits import KIB
from tvix_store.narinfo import NarInfo
from tvix_store.store_path import MAX_NAME_LENGTH

WORDS = [
    *b"/ /nix/store/ .drv - : unknown-deriver \xc2\x85 sha1: sha256: sha512: sha256- md5: fixed: text: =".split(),
    *(b"Sig: ", b"References: ", b"CA: ", b"Deriver: ", b"NarSize: 1\n", b"FileSize: 0\n", b"Compression: \n"),
    *(b"\n", b"\n\n", b"\r\n", b": ", b" "),
]
"""What means something in narinfos."""


def parsed(data: bytes) -> NarInfo | None:
    """What the narinfo says; ``None`` if it was refused."""
    try:
        return NarInfo.parse(data)
    except InvalidObject as exc:
        assert len(str(exc).splitlines()) == 1  # noqa: PT017 - it need not be raised
        return None


def parsed_cache_info(data: bytes) -> CacheInfo | None:
    """As ``parsed``."""
    try:
        return CacheInfo.parse(data)
    except InvalidObject as exc:
        assert len(str(exc).splitlines()) == 1  # noqa: PT017 - it need not be raised
        return None


def check_narinfo(data: bytes) -> None:
    narinfo = parsed(data)
    if narinfo is None:
        return
    again = NarInfo.parse(narinfo.render())
    deriver = narinfo.metadata.deriver
    if deriver is not None and len(f"{deriver.name}.drv") > MAX_NAME_LENGTH:  # is not written
        narinfo = replace(narinfo, metadata=replace(narinfo.metadata, deriver=None))
    assert again == narinfo
    assert again.metadata.fingerprint() == narinfo.metadata.fingerprint()


def check_cache_info(data: bytes) -> None:
    info = parsed_cache_info(data)
    if info is not None:
        assert CacheInfo.parse(info.render()) == info


def test_samples_are_taken_or_refused_as_their_names_say() -> None:
    for name, data in named_samples("narinfo").items():
        assert (name, parsed(data) is not None) == (name, name.endswith(".taken"))
    for name, data in named_samples("cache-info").items():
        assert (name, parsed_cache_info(data) is not None) == (name, name.endswith(".taken"))


@fuzzing
@given(damaged("narinfo", WORDS))
def test_damaged_narinfos(data: bytes) -> None:
    check_narinfo(data)


@fuzzing
@given(st.binary(max_size=400) | damaged("cache-info"))
def test_other_bytes_as_narinfos(data: bytes) -> None:
    check_narinfo(data)


@fuzzing
@given(damaged("cache-info") | damaged("narinfo") | st.binary(max_size=400))
def test_damaged_cache_infos(data: bytes) -> None:
    check_cache_info(data)


def test_no_memory_is_kept() -> None:
    narinfos, cache_infos = mutants("narinfo"), mutants("cache-info")

    def run() -> None:
        check_narinfo(next(narinfos))
        check_cache_info(next(cache_infos))

    # CPython keeps some names that are looked up, up to 4,096 of them; one narinfo in ten would take more.
    assert growth_of(run, 500) < 64 * KIB
