"""The ``fuse`` tag in a configuration."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w

from tvix_store.composition import Composition
from tvix_store.errors import ConfigError
from tvix_store.frontend import Frontend, Services
from tvix_store.limits import MIB
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig
from tvix_store_fuse.plugin import FuseFrontendConfig

pytestmark = pytest.mark.anyio

REGISTRY = Registry.load()
MEMORY = "".join(f'[{kind}services.root]\ntype = "memory"\n' for kind in ("blob", "directory", "pathinfo"))

SETTINGS: dict[str, object] = {
    "mount_point": "/m",
    "allow_other": True,
    "list_root": True,
    "show_xattr": False,
    "uid": 1,
    "gid": 2,
    "negative_s": 3.0,
    "path_s": 4.0,
    "timeout_s": 5.0,
    "cache_bytes": 9 * MIB,
    "prefetch_bytes": 6,
    "busy_s": 7.0,
}
"""All that there are, and none with its default."""


def parse(settings: str) -> StoreConfig:
    document = tomllib.loads(f'{MEMORY}[frontends.m]\ntype = "fuse"\n{settings}\n')
    return StoreConfig.parse(document, REGISTRY, "store.toml")


async def built(settings: str) -> Frontend:
    async with Composition(parse(settings), REGISTRY) as composition:
        return (await composition.frontends())["m"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ("", "mount_point is missing"),
        ('mount_point = ""', "mount_point: "),
        ('mount_point = "/m"\nallow_other = "yes"', "allow_other: "),
        ('mount_point = "/m"\nuid = -1', "uid: "),
        ('mount_point = "/m"\nuid = 4294967295', "uid: "),
        ('mount_point = "/m"\ngid = -1', "gid: "),
        ('mount_point = "/m"\nnegative_s = -1.0', "negative_s: "),
        ('mount_point = "/m"\nnegative_s = nan', "negative_s: "),
        ('mount_point = "/m"\npath_s = 0.0', "path_s: "),
        ('mount_point = "/m"\npath_s = inf', "path_s: "),
        ('mount_point = "/m"\ntimeout_s = 0.0', "timeout_s: "),
        ('mount_point = "/m"\ntimeout_s = nan', "timeout_s: "),
        ('mount_point = "/m"\ncache_bytes = 8388607', "cache_bytes: "),
        ('mount_point = "/m"\nprefetch_bytes = -1', "prefetch_bytes: "),
        ('mount_point = "/m"\nbusy_s = -1.0', "busy_s: "),
        ('mount_point = "/m"\nbusy_s = inf', "busy_s: "),
        ('mount_point = "/m"\nthreads = 4', "unknown key 'threads'"),
    ],
)
def test_what_cannot_work_is_refused_by_its_key(settings: str, reason: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(settings)
    assert str(caught.value).startswith(f"store.toml: [frontends.m]: {reason}")


def test_the_least_that_can_be_said() -> None:
    parse('mount_point = "/m"\nnegative_s = 0.0\ncache_bytes = 8388608\nprefetch_bytes = 0\nbusy_s = 0.0\nuid = 0')


class Noting(Frontend):
    """Notes what it was made of."""

    made: tuple[str, object]

    def __init__(self, name: str, services: Services, options: object) -> None:
        Noting.made = (name, options)

    async def serve(self, ready: Callable[[str], None]) -> None:
        ready("nobody")


async def test_every_setting_reaches_the_frontend(monkeypatch: pytest.MonkeyPatch) -> None:
    frontend = pytest.importorskip("tvix_store_fuse.frontend", exc_type=ImportError)
    monkeypatch.setattr(frontend, "FuseFrontend", Noting)
    entry = FuseFrontendConfig.model_validate({"type": "fuse", **SETTINGS})
    defaults = FuseFrontendConfig(type="fuse", mount_point="/")
    assert [key for key, value in defaults if value == getattr(entry, key)] == ["type"]
    await built(tomli_w.dumps(SETTINGS))
    name, options = Noting.made
    assert (name, options) == ("m", frontend.FuseOptions(**{**SETTINGS, "mount_point": Path("/m")}))


async def test_a_relative_mount_point_is_in_the_working_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    frontend = pytest.importorskip("tvix_store_fuse.frontend", exc_type=ImportError)
    monkeypatch.setattr(frontend, "FuseFrontend", Noting)
    monkeypatch.chdir(tmp_path)
    await built('mount_point = "here"')
    options = Noting.made[1]
    assert isinstance(options, frontend.FuseOptions)
    assert options.mount_point == tmp_path / "here"


async def test_without_pyfuse3_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyfuse3", None)
    config = parse('mount_point = "/m"')
    config.check(REGISTRY)
    with pytest.raises(ConfigError) as caught:
        await built('mount_point = "/m"')
    assert str(caught.value) == (
        "store.toml: [frontends.m]: the type \"fuse\" needs pyfuse3: pip install 'tvix-store[fuse]' "
        "(which needs the packages libfuse3-dev, pkg-config and a C compiler)"
    )


async def test_a_pyfuse3_whose_library_is_gone_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "pyfuse3.py").write_text('raise ImportError("libfuse3.so.3: cannot open shared object file")')
    monkeypatch.delitem(sys.modules, "pyfuse3", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match=r"needs pyfuse3: .*; the one that is installed: libfuse3\.so\.3: cannot"):
        await built('mount_point = "/m"')


def test_a_configuration_is_read_without_what_mounting_takes() -> None:
    script = "import sys, tvix_store_fuse.plugin; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    loaded = set(out.split())
    assert "tvix_store_fuse.plugin" in loaded
    assert loaded.isdisjoint({"pyfuse3", "trio", "tvix_store_fuse.frontend"})
