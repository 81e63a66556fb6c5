"""``mount``, with a frontend that only notes what it is to show; the tests of the plugin have real mounts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from fakes.program import GOOD, MIXED, Program, Toml
from tvix_store.cli import stores
from tvix_store.frontend import Frontend, Services

DEFAULTS = {"allow_other": False, "list_root": False, "show_xattr": True}


class UnmountedFrontend(Frontend):
    """What it shows is unmounted at once."""

    shown: list[SimpleNamespace]
    paths: list[str]

    def __init__(self, name: str, services: Services, options: SimpleNamespace) -> None:
        self.shown.append(options)
        self._services = services

    async def serve(self, ready: Callable[[str], None]) -> None:
        ready("nobody")
        self.paths.extend([info.store_path.absolute() async for info in self._services.path_infos.list()])


@pytest.fixture(autouse=True)
def frontend(monkeypatch: pytest.MonkeyPatch) -> type[UnmountedFrontend]:
    """The frontend that ``mount`` finds; ``shown`` and ``paths`` begin anew."""
    module = ModuleType("tvix_store_fuse.frontend")
    module.__dict__.update(FuseFrontend=UnmountedFrontend, FuseOptions=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "pyfuse3", ModuleType("pyfuse3"))
    monkeypatch.setitem(sys.modules, "tvix_store_fuse.frontend", module)
    for name in ("THREADS", "ALLOW_OTHER"):
        monkeypatch.delenv(name, raising=False)
    UnmountedFrontend.shown, UnmountedFrontend.paths = [], []
    return UnmountedFrontend


@pytest.mark.parametrize(
    ("flags", "variables", "options"),
    [
        ([], {}, {}),
        (["--allow-other"], {}, {"allow_other": True}),
        ([], {"ALLOW_OTHER": "true", "THREADS": "7"}, {"allow_other": True}),
        ([], {"ALLOW_OTHER": "false"}, {}),
        (["-l", "--show-xattr", "--threads", "4"], {}, {"list_root": True}),
        (["--list-root", "--no-show-xattr"], {}, {"list_root": True, "show_xattr": False}),
    ],
)
def test_the_flags_of_the_reference(
    program: Program,
    frontend: type[UnmountedFrontend],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    flags: list[str],
    variables: dict[str, str],
    options: dict[str, bool],
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert program("mount", "--store", "memory://", *flags, tmp_path).code == 0
    (shown,) = frontend.shown
    assert shown.mount_point == tmp_path
    assert {name: getattr(shown, name) for name in DEFAULTS} == DEFAULTS | options


def test_no_thread_at_all_is_wrong_usage(program: Program, tmp_path: Path) -> None:
    assert "--threads" in program("mount", "--store", "memory://", "--threads", "0", tmp_path).err


def test_it_ends_well_when_it_is_unmounted(program: Program, tmp_path: Path) -> None:
    result = program("mount", "--store", "memory://", tmp_path)
    assert (result.code, result.out) == (0, b"")
    last = [line.split(": ", 1)[1] for line in result.err.splitlines()[-2:]]
    assert last == ["mount has ended: finishing what is under way", "stopped"]


def test_the_stores_of_a_composition_are_shown_and_its_frontends_are_not_started(
    stored: Program, frontend: type[UnmountedFrontend], config: Path, tmp_path: Path
) -> None:
    config.write_text(f'{config.read_text()}[frontends.grpc]\ntype = "grpc"\nlisten = "{tmp_path}/absent/socket"\n')
    assert stored("mount", tmp_path).code == 0
    assert frontend.paths == [MIXED]


def test_a_store_that_does_not_run_is_named(program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stores, "_DEFAULT_URL", "grpc+http://127.0.0.1:1?wait-connect=1")
    message = "no store answers at localhost:8000; `tvix-store run` starts one, --store names another"
    assert program("mount", tmp_path).error().removesuffix(message) == ""


def test_a_mistake_in_the_composition_is_one_in_its_file(program: Program, toml: Toml, tmp_path: Path) -> None:
    path = toml(GOOD.replace("memory", "memroy", 1))
    assert program("mount", "--config", path, tmp_path).error(2).startswith(f"{path}: [blobservices.root]: ")


def test_without_the_extra_it_is_named(program: Program, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyfuse3", None)
    result = program("--log-level", "error", "mount", "--store", "memory://", tmp_path)
    start = "command line: [frontends.mount]: the type \"fuse\" needs pyfuse3: pip install 'tvix-store[fuse]'"
    assert result.error(2).startswith(start)
