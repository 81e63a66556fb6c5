"""A real Nix that reads from the binary cache."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from plugins.http.nix_client import Nix, NixFailed
from plugins.http.reading import Upstream, memory_services, nar_url, put_tree, reading, serving
from tvix_store.frontend import Services
from tvix_store.path_info import PathInfo
from tvix_store.signing import SecretKey
from tvix_store.testing.fixtures import contents
from vectors.nar import TREES, Dir, File, Link, encode, materialise, read_back

pytestmark = pytest.mark.anyio

KEY = SecretKey.generate("cache.example-1")
OTHER_KEY = SecretKey.generate("cache.example-1")

LEAF = Dir({b"data": File(contents(3_000_000)), b"run": File(b"#!/bin/sh\n", True)})
MIDDLE = File(b"in the middle", True)
TOP = Dir({b"empty": Dir({}), b"link": Link(b"data"), b"text": File(b"on top")})

TRUSTED = ("--option", "trusted-public-keys", str(KEY.public))


async def put_closure(services: Services, key: SecretKey | None = KEY) -> tuple[PathInfo, PathInfo, PathInfo]:
    leaf = await put_tree(services, "leaf", LEAF, key=key)
    middle = await put_tree(services, "middle", MIDDLE, [leaf], key=key)
    top = await put_tree(services, "top", TOP, [leaf, middle], key=key, deriver=middle.store_path)
    return leaf, middle, top


def absolute(path_info: PathInfo) -> str:
    return path_info.store_path.absolute()


@pytest.mark.parametrize("nar_url", ["nar-hash", "snix-castore", "tvix-castore"])
async def test_a_closure_is_substituted(nix: Nix, nar_url: str) -> None:
    services = memory_services()
    closure = await put_closure(services)
    async with serving(services, nar_url=nar_url) as url:
        await nix.substitute(url, absolute(closure[2]), *TRUSTED)
    for path_info, tree in zip(closure, (LEAF, MIDDLE, TOP), strict=True):
        assert read_back(nix.read(absolute(path_info))) == tree
    references = await nix.run("nix-store", "--store", nix.store, "-qR", absolute(closure[2]))
    assert set(references.decode().split()) == set(map(absolute, closure))
    await nix.run("nix-store", "--store", nix.store, "--verify", "--check-contents")


async def test_every_sample_tree_arrives(nix: Nix) -> None:
    services = memory_services()
    paths = {name: await put_tree(services, f"tree-{i}", tree, key=KEY) for i, (name, tree) in enumerate(TREES.items())}
    async with serving(services) as url:
        for path_info in paths.values():
            await nix.substitute(url, absolute(path_info), *TRUSTED)
    for name, path_info in paths.items():
        assert read_back(nix.read(absolute(path_info))) == TREES[name]


@pytest.mark.parametrize("key", [None, OTHER_KEY], ids=["unsigned", "signed by another key of that name"])
async def test_an_untrusted_path_is_refused(nix: Nix, key: SecretKey | None) -> None:
    services = memory_services()
    leaf, _, _ = await put_closure(services, key)
    async with serving(services) as url:
        with pytest.raises(NixFailed, match=r"signature|trusted"):
            await nix.substitute(url, absolute(leaf), *TRUSTED)
    assert not nix.read(absolute(leaf)).exists()


async def test_a_path_that_is_elsewhere_is_passed_on(nix: Nix) -> None:
    upstream = Upstream()
    metadata = upstream.add("leaf", encode(LEAF))
    signed = metadata.with_signatures(KEY.sign(metadata))
    upstream.metadata[metadata.store_path.digest] = signed
    async with serving(memory_services(path_infos=upstream), nar_url="snix-castore") as url:
        await nix.substitute(url, metadata.store_path.absolute(), *TRUSTED)
    assert read_back(nix.read(metadata.store_path.absolute())) == LEAF
    assert upstream.opened == upstream.closed == 1


async def test_zstd_is_understood(nix: Nix) -> None:
    services = memory_services()
    leaf, _, _ = await put_closure(services)
    async with serving(services, encodings=("zstd",)) as url:
        await nix.substitute(url, absolute(leaf), *TRUSTED)
    assert read_back(nix.read(absolute(leaf))) == LEAF


async def test_path_info_tells_all_there_is(nix: Nix) -> None:
    services = memory_services()
    closure = await put_closure(services)
    async with serving(services) as url:
        out = await nix.run("nix", "path-info", "--store", url, "--json", "-r", absolute(closure[2]))
    found = {item["path"]: item for item in json.loads(out)}
    assert set(found) == set(map(absolute, closure))
    top = found[absolute(closure[2])]
    assert top["narSize"] == top["downloadSize"] == closure[2].nar_size
    assert top["deriver"] == f"{absolute(closure[1])}.drv"
    assert top["signatures"] == [str(signature) for signature in closure[2].signatures]


async def test_nix_looks_into_paths(nix: Nix, tmp_path: Path) -> None:
    services = memory_services()
    leaf, _, _ = await put_closure(services)
    async with serving(services) as url:
        names = await nix.run("nix", "store", "ls", "--store", url, "-R", absolute(leaf))
        assert names.decode().split() == ["./data", "./run"]
        data = await nix.run("nix", "store", "cat", "--store", url, f"{absolute(leaf)}/run")
        assert data == b"#!/bin/sh\n"
        assert await nix.run("nix", "store", "dump-path", "--store", url, absolute(leaf)) == encode(LEAF)


async def test_nix_verifies_the_cache(nix: Nix) -> None:
    services = memory_services()
    closure = await put_closure(services)
    async with serving(services) as url:
        await nix.run("nix", "store", "verify", "--store", url, *TRUSTED, "-r", absolute(closure[2]))


async def test_a_copy_takes_the_closure(nix: Nix) -> None:
    services = memory_services()
    closure = await put_closure(services)
    async with serving(services) as url:
        await nix.run("nix", "copy", "--from", url, "--to", nix.store, *TRUSTED, absolute(closure[2]))
    assert read_back(nix.read(absolute(closure[1]))) == MIDDLE


async def test_what_is_not_there_is_said_so(nix: Nix) -> None:
    async with serving(memory_services()) as url:
        with pytest.raises(NixFailed, match=r"don't know how to build|not valid|does not exist"):
            await nix.substitute(url, "/nix/store/00000000000000000000000000000000-x", *TRUSTED)


async def test_a_download_that_breaks_off_is_resumed(nix: Nix) -> None:
    upstream = Upstream()
    metadata = upstream.add("leaf", encode(LEAF))
    upstream.metadata[metadata.store_path.digest] = metadata.with_signatures(KEY.sign(metadata))
    upstream.fail_once_after = 2_000_000
    async with serving(memory_services(path_infos=upstream)) as url:
        await nix.substitute(url, metadata.store_path.absolute(), *TRUSTED)
    assert read_back(nix.read(metadata.store_path.absolute())) == LEAF
    assert upstream.opened == 2


async def test_ranges_are_slices_of_what_nix_dumps(nix: Nix, tmp_path: Path) -> None:
    services = memory_services()
    leaf, _, _ = await put_closure(services)
    dump = await nix.run("nix-store", "--dump", materialise(LEAF, tmp_path / "leaf"))
    edges = [0, 1, 8, 96, 3_000_000, 3_000_500, len(dump) - 1]
    async with reading(services) as client:
        for start, end in itertools.combinations([*edges, len(dump)], 2):
            answer = await client.get(nar_url(leaf), Range=f"bytes={start}-{end - 1}")
            assert answer.body == dump[start:end]
