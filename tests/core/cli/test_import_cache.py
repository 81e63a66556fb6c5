"""``import --from``: closures out of binary caches, which Nix or ``export`` has written."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from compat.real_nix import RealNix
from fakes.program import MIXED, Program, Result
from tvix_store.cli.import_cache import Plan, Problem, take
from tvix_store.frontend import Services
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.nar_render import RenderingNarCalculation
from tvix_store.narinfo import NarInfo
from tvix_store.path_info import PathInfo
from tvix_store.signing import SecretKey
from tvix_store.store_path import StorePath
from tvix_store.testing.fixtures import PATH_INFO, store_path
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.directory import MemoryDirectoryService
from tvix_store_memory.path_info import MemoryPathInfoService

KEY, STRANGER = SecretKey.generate("cache.example.org-1"), SecretKey.generate("cache.example.org-1")
TRUSTED = ("--trusted-public-key", str(KEY.public))


class Cache:
    """A binary cache that a real Nix wrote of a closure.

    Args:
        folder: Where it is.
        nix: Whose closure.
        top: Refers to all the others, and is not content-addressed.
    """

    def __init__(self, folder: Path, nix: RealNix, top: str) -> None:
        self.folder = folder
        self.top = top
        self.nars = {path: nix.where(path) for path in nix.run("nix-store", "--store", nix.root, "-qR", top).split()}

    @property
    def others(self) -> list[str]:
        return [path for path in self.nars if path != self.top]

    def narinfo_file(self, path: str) -> Path:
        return self.folder / f"{StorePath.from_absolute(path).hash_part}.narinfo"

    def nar_file(self, path: str) -> Path:
        return self.folder / NarInfo.parse(self.narinfo_file(path).read_bytes()).url


@pytest.fixture(scope="module")
def written(nix_store: str, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("cache")
    nix = RealNix(folder / "nix")
    top = nix.add_closure()
    secret = folder / "secret"
    secret.touch(0o600)
    secret.write_text(str(KEY))
    nix.run("nix", "copy", "--store", nix.root, "--to", f"file://{folder}/cache?secret-key={secret}", top)
    return Cache(folder / "cache", nix, top)


@pytest.fixture
def cache(written: Cache, tmp_path: Path) -> Cache:
    """The same in a folder that a test may change."""
    copied = object.__new__(Cache)
    copied.folder = shutil.copytree(written.folder, tmp_path / "cache of this test")
    copied.top, copied.nars = written.top, written.nars
    return copied


@pytest.fixture
def into(program: Program, config: Path) -> Program:
    """``import --from`` into a store that outlives it."""
    return lambda *arguments: program("import", "--config", config, "--from", *arguments)


@pytest.fixture
def dump(program: Program, config: Path) -> Callable[[str], Result]:
    return lambda path: program("nar", "dump", "--config", config, path)


def dumped(path: Path) -> bytes:
    return subprocess.run(["nix-store", "--dump", path], check=True, capture_output=True).stdout


def test_a_closure_that_nix_wrote(cache: Cache, into: Program, dump: Callable[[str], Result]) -> None:
    result = into(cache.folder, *TRUSTED, cache.top)
    assert (result.code, result.err) == (0, "")
    assert sorted(result.lines) == sorted(cache.nars)
    assert result.lines[-1] == cache.top
    for path, place in cache.nars.items():
        assert dump(path).out == dumped(place)


@pytest.mark.parametrize("wanted", ["--all", "the hash part", "a file URL"])
def test_ways_to_say_what_is_wanted(cache: Cache, into: Program, wanted: str) -> None:
    folder = cache.folder.as_uri() if wanted == "a file URL" else cache.folder
    paths = ["--all"] if wanted == "--all" else [StorePath.from_absolute(cache.top).hash_part]
    assert sorted(into(folder, *TRUSTED, *paths).lines) == sorted(cache.nars)


def test_all_means_what_is_named_after_a_path(cache: Cache, into: Program) -> None:
    (cache.folder / "log.narinfo").write_text("no narinfo")
    assert sorted(into(cache.folder, *TRUSTED, "--all").lines) == sorted(cache.nars)


def test_what_is_there_is_passed_over(cache: Cache, into: Program) -> None:
    assert into(cache.folder, cache.others[0]).lines
    shutil.rmtree(cache.folder / "nar")
    assert into(cache.folder, cache.others[0]) == Result(0, b"", "")


def test_what_a_path_in_the_store_lacks_is_taken(
    cache: Cache, into: Program, program: Program, config: Path, tmp_path: Path
) -> None:
    """As after a proxy has been asked for a single path."""
    lonely = store_path("lonely")
    (tmp_path / lonely.base_name).mkdir()
    graph = tmp_path / "graph.json"
    nar = dumped(tmp_path / lonely.base_name)
    nar_hash = NixHash.of(HashAlgorithm.SHA256, nar).nix()
    entry = {"path": lonely.absolute(), "narHash": nar_hash, "narSize": len(nar), "references": [cache.others[0]]}
    graph.write_text(f"[{entry}]".replace("'", '"'))
    assert program("copy", "--config", config, graph, "--store-dir", tmp_path).code == 0
    assert cache.others[0] in into(cache.folder, lonely.absolute()).lines


def test_what_export_wrote_comes_back(cache: Cache, into: Program, program: Program, tmp_path: Path) -> None:
    other = ["--store", f"sqlite://{tmp_path}/other.sqlite"]
    assert into(cache.folder, *TRUSTED, "--all").code == 0
    export = ("export", "--to", tmp_path / "one", cache.top)
    assert program(*export, "--config", tmp_path / "store.toml").code == 0
    taken = program("import", "--from", tmp_path / "one", *TRUSTED, cache.top, *other)
    assert sorted(taken.lines) == sorted(cache.nars)
    assert program("export", "--to", tmp_path / "two", cache.top, *other).code == 0
    files = {file.relative_to(tmp_path / "one") for file in (tmp_path / "one").rglob("*") if file.is_file()}
    assert len(files) == 2 * len(cache.nars) + 1
    assert all((tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes() for file in files)


# --- what is not believed ---


@pytest.mark.parametrize("keys", [(), ("--trusted-public-keys", str(STRANGER.public))])
def test_what_nobody_trusted_has_signed_is_refused(
    cache: Cache, into: Program, dump: Callable[[str], Result], keys: tuple[str, ...]
) -> None:
    result = into(cache.folder, *keys, "--all")
    assert (result.code, sorted(result.lines)) == (1, sorted(cache.others))
    errors = [line for line in result.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert cache.top in errors[0]
    assert ("--no-check-signatures" in result.err) == (not keys)
    assert "no such path" in dump(cache.top).error()
    assert into(cache.folder, "--no-check-signatures", "--all") == Result(0, f"{cache.top}\n".encode(), "")


def test_a_wrong_nar_keeps_out_what_refers_to_it_and_nothing_else(cache: Cache, into: Program) -> None:
    leaf = next(path for path in cache.others if path.endswith("-one"))
    file = cache.nar_file(leaf)
    file.write_bytes(file.read_bytes()[:-20])
    result = into(cache.folder, *TRUSTED, "--all")
    assert result.code == 1
    assert leaf.removeprefix("/nix/store/") in result.err.splitlines()[0]
    assert result.lines == [path for path in cache.others if path.endswith("-nix.conf")]
    assert "is not stored, since" in result.err
    assert result.err.count("\n") == 3


def test_a_reference_that_nobody_has(cache: Cache, into: Program) -> None:
    leaf = next(path for path in cache.others if path.endswith("-one"))
    cache.narinfo_file(leaf).unlink()
    result = into(cache.folder, *TRUSTED, cache.top)
    assert result.code == 1
    assert f"refers to {leaf.removeprefix('/nix/store/')}, which neither" in result.err.splitlines()[0]
    assert cache.top not in result.lines


def test_a_circle(cache: Cache, into: Program) -> None:
    first, second = (NarInfo.parse(cache.narinfo_file(path).read_bytes()) for path in cache.others[:2])
    for here, there in ((first, second), (second, first)):
        metadata = replace(here.metadata, references=(there.metadata.store_path,))
        cache.narinfo_file(metadata.store_path.absolute()).write_bytes(replace(here, metadata=metadata).render())
    assert "in a circle" in into(cache.folder, "--no-check-signatures", cache.others[0]).error()


def test_paths_that_are_not_there(cache: Cache, into: Program) -> None:
    assert "no such path in" in into(cache.folder, MIXED).error()
    other_name = cache.others[0] + "x"
    assert f"{other_name}: no such path in" in into(cache.folder, other_name).error()
    assert "too short" in into(cache.folder, "abc").error()


def test_no_binary_cache(into: Program, tmp_path: Path) -> None:
    assert "it has no nix-cache-info" in into(tmp_path, "--all").error()
    assert "is no folder" in into(tmp_path / "absent", MIXED).error()
    assert "for a cache in a folder" in into("http://localhost:1", "--all").error()
    assert "begins with none of http:, https:, file:" in into("ftp://localhost", MIXED).error(2)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--from", "x"],
        ["--from", "x", "--all", MIXED],
        ["--from", "x", "--name", "y", MIXED],
        ["--from", "x", *TRUSTED, "--no-check-signatures", MIXED],
        ["--all"],
        ["--no-check-signatures", "x"],
        [*TRUSTED, "x"],
    ],
)
def test_wrong_usage(program: Program, arguments: list[str]) -> None:
    result = program("import", *arguments)
    assert (result.code, result.out) == (2, b"")
    assert "Error: " in result.err


# --- when it ends early ---


def test_after_it_was_killed_it_goes_on(
    cache: Cache, into: Program, dump: Callable[[str], Result], config: Path
) -> None:
    file = cache.nar_file(cache.top)
    data = file.read_bytes()
    file.unlink()
    os.mkfifo(file)
    script = "import sys; from tvix_store.cli.main import main; main()"
    arguments: list[str | Path] = ["import", "--config", config, "--from", cache.folder, *TRUSTED, cache.top]
    with subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert sorted(process.stdout.readline().rstrip() for _ in cache.others) == sorted(cache.others)
        with file.open("wb", buffering=0) as pipe:  # once it reads
            pipe.write(data[: len(data) // 2])
            process.send_signal(signal.SIGKILL)
            process.wait()
    file.unlink()
    file.write_bytes(data)
    assert "no such path" in dump(cache.top).error()
    assert into(cache.folder, *TRUSTED, cache.top).lines == [cache.top]
    assert dump(cache.top).out == dumped(cache.nars[cache.top])


# --- order ---


class Recording(MemoryPathInfoService):
    """Knows the order of the puts."""

    def __init__(self) -> None:
        super().__init__()
        self.puts: list[str] = []

    async def put(self, path_info: PathInfo) -> PathInfo:
        self.puts.append(path_info.store_path.name)
        return await super().put(path_info)


class Waiting(MemoryPathInfoService):
    """Gives the path ``leaf`` once ``top`` has been asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.top_is_wanted = asyncio.Event()

    async def get(self, digest: bytes) -> PathInfo | None:
        if digest == store_path("top").digest:
            self.top_is_wanted.set()
        else:
            await self.top_is_wanted.wait()
        return await super().get(digest)


@pytest.fixture
def services() -> Services:
    blobs, directories = MemoryBlobService(), MemoryDirectoryService()
    return Services(blobs, directories, Recording(), RenderingNarCalculation(blobs, directories))


def puts(services: Services) -> list[str]:
    assert isinstance(services.path_infos, Recording)
    return services.path_infos.puts


@pytest.mark.anyio
async def test_paths_come_at_the_same_time_and_are_put_references_first(services: Services) -> None:
    cache = Waiting()
    leaf = replace(PATH_INFO, store_path=store_path("leaf"), references=())
    top = replace(PATH_INFO, store_path=store_path("top"), references=(leaf.store_path, store_path("top")))
    await cache.put_many([leaf, top])
    outcomes: list[PathInfo | Problem] = []
    await take(services, cache, Plan(missing=[leaf, top]), outcomes.append)
    assert puts(services) == ["leaf", "top"]
    assert outcomes == [leaf, top]


@pytest.mark.anyio
async def test_what_changes_while_it_is_taken_is_not_stored(services: Services) -> None:
    """It may refer to what nobody has looked for."""
    cache = MemoryPathInfoService()
    gone = replace(PATH_INFO, store_path=store_path("gone"), references=())
    changed = replace(PATH_INFO, store_path=store_path("changed"), references=())
    await cache.put(replace(changed, references=(store_path("unknown"),)))
    outcomes: list[PathInfo | Problem] = []
    await take(services, cache, Plan(missing=[gone, changed]), outcomes.append)
    assert puts(services) == []
    assert [isinstance(outcome, Problem) for outcome in outcomes] == [True, True]
