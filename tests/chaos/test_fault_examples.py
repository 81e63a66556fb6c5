"""What the examples of faults say that happens, happens: with real processes, which are killed, stopped or filled."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from chaos.daemon import Daemon, opened, over
from fakes.full_disk import limited_files
from tvix_store.composition import Composition
from tvix_store.config import Kind
from tvix_store.digest import B3Digest
from tvix_store.errors import DanglingReference, OutOfSpace, Unavailable
from tvix_store.frontend import Services
from tvix_store.ingest import ingest_path
from tvix_store.limits import KIB, MIB
from tvix_store.nar_render import RenderingNarCalculation
from tvix_store.path_info import PathInfo
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig
from tvix_store.testing.fixtures import contents, store_path
from tvix_store_fault.path_info import FaultPathInfoService

pytestmark = pytest.mark.anyio

EXAMPLES = Path(__file__).parents[2] / "examples" / "faults"


def example(name: str, folder: Path, **replaced: str) -> Path:
    """An example in a folder of the test's own."""
    text = (EXAMPLES / f"{name}.toml").read_text()
    for old, new in {"/var/lib/tvix-store": str(folder), "/run/tvix-store": str(folder), **replaced}.items():
        assert old in text
        text = text.replace(old, new)
    config = folder / f"{name}.toml"
    config.write_text(text)
    return config


@pytest.fixture
def far(tmp_path: Path) -> Iterator[Daemon]:
    with Daemon(example("far", tmp_path)) as daemon:
        yield daemon


def tree(folder: Path, name: str, n_files: int = 8) -> Path:
    """Files of 100 KiB that do not compress."""
    root = folder / name
    root.mkdir()
    for number in range(n_files):
        (root / f"{number}").write_bytes(contents(100 * KIB, 1000 * len(name) + number))
    return root


async def imported(path: Path, services: Services, happens: Callable[[], object] | None = None) -> PathInfo:
    """Import a path; something ``happens`` when a part of it has been stored."""
    n_parts = 0

    def advance(*, files: int, n_bytes: int) -> None:
        nonlocal n_parts
        n_parts += 1
        if happens is not None and n_parts == 1:
            happens()

    ingested = await ingest_path(path, services.blobs, services.directories, advance)
    assert happens is None or n_parts > 1, "it was over already"
    nar = ingested.nar
    return await services.path_infos.put(
        PathInfo(store_path=store_path(path.name), node=ingested.node, nar_size=nar.size, nar_sha256=nar.sha256)
    )


async def assert_whole(services: Services, path_info: PathInfo) -> None:
    """All of it can be read from there: its NAR is made here."""
    assert await services.path_infos.get(path_info.store_path.digest) == path_info
    nar = await RenderingNarCalculation(services.blobs, services.directories).calculate_nar(path_info.node)
    assert (nar.size, nar.sha256) == (path_info.nar_size, path_info.nar_sha256)


def at(folder: Path, name: str) -> StoreConfig:
    return over(f"grpc+unix://{folder}/{name}.sock")


@pytest.mark.parametrize("name", sorted(path.stem for path in EXAMPLES.glob("*.toml")))
def test_an_example_can_be_run_and_is_told_of(name: str) -> None:
    registry = Registry.load()
    config = StoreConfig.load(EXAMPLES / f"{name}.toml", registry)
    config.check(registry)
    assert config.entries[Kind.FRONTEND]
    assert f"({name}.toml)" in (EXAMPLES / "README.md").read_text()


async def test_a_mirror_half_that_is_killed_during_an_import_is_filled_when_it_is_back(
    far: Daemon, tmp_path: Path
) -> None:
    source = tree(tmp_path, "imported", n_files=200)  # more than fits one batch
    with Daemon(example("mirror", tmp_path)):
        async with opened(at(tmp_path, "near")) as services, opened(at(tmp_path, "far")) as back:
            path_info = await imported(source, services, happens=far.kill)
            await assert_whole(services, path_info)
            with Daemon(tmp_path / "far.toml"):
                for turn in count():
                    if await _is_whole(back, path_info):
                        break
                    await assert_whole(services, path_info)  # what one of them is asked for and lacks is repaired
                    if turn % 2:  # so that the one which is asked first next time is not always the same
                        with suppress(Unavailable):  # nobody has it, and one of them does not answer yet
                            await services.blobs.has(B3Digest.of(b"absent"))


async def _is_whole(services: Services, path_info: PathInfo) -> bool:
    try:
        await assert_whole(services, path_info)
    except (AssertionError, DanglingReference, Unavailable):
        return False
    return True


async def test_a_far_side_that_stands_still_does_not_keep_what_is_near(far: Daemon, tmp_path: Path) -> None:
    async with opened(at(tmp_path, "far")) as services:
        known = await imported(tree(tmp_path, "known"), services)
        other = await imported(tree(tmp_path, "other"), services)
    with Daemon(example("slow-far", tmp_path)):
        async with opened(at(tmp_path, "near")) as services:
            await assert_whole(services, known)
            far.pause()
            await assert_whole(services, known)
            with pytest.raises(Unavailable, match=r"patient: .* 2\.?0? s"):
                await services.path_infos.get(other.store_path.digest)
            far.go_on()
            while not await _is_whole(services, other):
                pass


async def test_those_who_wait_for_the_slow_far_side_share_one_call(tmp_path: Path) -> None:
    document = tomllib.loads(example("slow-far", tmp_path).read_text())
    document["pathinfoservices"]["far"] = {"type": "fault", "inner": "memory", "latency_s": 0.01}
    document["pathinfoservices"]["memory"] = {"type": "memory"}
    registry = Registry.load()
    async with Composition(StoreConfig.parse(document, registry, "test"), registry) as composition:
        (entry,) = [entry for entry in await composition.entries() if entry.config.type == "fault"]
        service = getattr(entry.service, "inner", None)
        assert isinstance(service, FaultPathInfoService)
        path_infos = (await composition.services()).path_infos
        digest = store_path("absent").digest
        assert await asyncio.gather(*(path_infos.get(digest) for _ in range(8))) == [None] * 8
        assert service.faults.calls["get"] == 1


async def test_a_full_disk_near_does_not_keep_what_is_far(far: Daemon, tmp_path: Path) -> None:
    async with opened(at(tmp_path, "far")) as services:
        path_info = await imported(tree(tmp_path, "large", n_files=40), services)
    with limited_files(2 * MIB):
        near = Daemon(example("full-near", tmp_path))
    with near:
        async with opened(at(tmp_path, "near")) as services:
            await assert_whole(services, path_info)
            await assert_whole(services, path_info)
        near.logged("File too large")


async def test_a_full_disk_near_is_one_error_if_it_is_not_to_be_passed_over(far: Daemon, tmp_path: Path) -> None:
    async with opened(at(tmp_path, "far")) as services:
        path_info = await imported(tree(tmp_path, "large", n_files=40), services)
    replaced = {"skip_near_errors = true": "skip_near_errors = false"}
    with limited_files(2 * MIB):
        near = Daemon(example("full-near", tmp_path, **replaced))
    with near:
        async with opened(at(tmp_path, "near")) as services:
            with pytest.raises(OutOfSpace):
                await assert_whole(services, path_info)
