"""Every configuration in ``examples/`` does what it is for, in the real program, and stops when it is told to."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Self
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from click.testing import CliRunner

from e2e.environment import fast_folder
from e2e.http_chain import Server, _command, tvix_store
from e2e.test_workers import free_port
from tvix_store.cli.main import cli
from tvix_store.narinfo import NarInfo
from tvix_store.store_path import StorePath
from vectors.nar import Dir, File, Link, Tree, encode, materialise

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.toml"))
OTHER = "metrics.toml"
"""What runs as the other store: it has both frontends."""
PROXIES = ("mount.toml", "preset-proxy.toml", "private-upstream.toml", "proxy.toml")
"""They take nothing but what the other store has."""
TREE: Tree = Dir(
    {
        b"a": Dir({b"b": File(b"read me\n", True), b"empty": File(b""), b"large": File(bytes(range(256)) * 8192)}),
        b"link": Link(b"a/b"),
    }
)
REFERS_TO_ANOTHER = re.compile(r"store\.example:8000|https://(?:ci:[^@]*@)?cache\.(?:nixos\.org|example)")


class Example(Server):
    """An example, changed as by somebody who wants to use it; ``urls`` are those of its frontends."""

    def __init__(self, name: str, folder: Path, other: Example | None = None) -> None:
        super().__init__(placed(name, folder, other))

    def __enter__(self) -> Self:
        return self

    @property
    def urls(self) -> list[str]:
        return [line.rpartition(" ")[2] for line in self.log if " listens on " in line]

    @property
    def grpc_urls(self) -> list[str]:
        return [url for url in self.urls if url.startswith("grpc")]

    @property
    def http_urls(self) -> list[str]:
        return [url for url in self.urls if url.startswith("http:")]

    @property
    def mounts(self) -> list[str]:
        return [url for url in self.urls if url.startswith("/")]

    def __exit__(self, *exc: object) -> None:
        super().__exit__(*exc)
        for mount in self.mounts:  # if it was killed
            subprocess.run(["umount", "--lazy", "--quiet", mount], check=False, capture_output=True)

    def ends_well(self) -> None:
        """And nothing was wrong from its start to its end."""
        assert self.stop() == 0
        assert [line for line in self.log if not re.search(r" INFO +tvix_store", line)] == []


def placed(name: str, folder: Path, other: Example | None) -> Path:
    """An example with all its files in ``folder``, ports that are free, and where the other store is, or nobody."""
    http = f"http://127.0.0.1:{free_port()}" if other is None else other.http_urls[0]
    grpc = f"127.0.0.1:{free_port()}" if other is None else other.grpc_urls[0].rpartition("/")[2]
    text = re.sub(r'listen = "[^"/]*"', 'listen = "127.0.0.1:0"', (EXAMPLES / name).read_text())
    text = re.sub(r'"(/(?:disks|var/lib|etc|tmp|srv)/)', rf'"{folder}\1', text).replace("store.example:8000", grpc)
    text = re.sub(r'"https://cache\.(nixos\.org|example)"', f'"{http}"', text)
    text = text.replace("https://ci:${CACHE_PASSWORD}@cache.example", http.replace("//", "//ci:${CACHE_PASSWORD}@"))
    assert not REFERS_TO_ANOTHER.search(re.sub(r"#.*", "", text))
    for parent in ("tmp", "etc/tvix-store", "srv/store"):
        (folder / parent).mkdir(parents=True, exist_ok=True)
    (folder / "etc/tvix-store/credentials").write_text("ci:secret\n")
    (folder / "cache-url").write_text(f"{http}\n")
    config = folder / name
    config.write_text(text)
    return config


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with fast_folder() as folder:
        monkeypatch.setenv("CACHE_PASSWORD", "not-to-be-seen")
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
        yield folder


def imported(folder: Path, *store: object) -> StorePath:
    """The path of ``TREE``, which is put there."""
    source = materialise(TREE, folder / "tree")
    return StorePath.from_absolute(tvix_store("import", *store, source).strip())


def assert_there(example: Example, path: StorePath, folder: Path) -> None:
    """All of it is read, through each of the frontends."""
    for url in example.grpc_urls:
        assert tvix_store("ls", "-R", "--store", url, path).split() == ["a", "a/b", "a/empty", "a/large", "link"]
        assert tvix_store("cat", "--store", url, f"{path}/a/b") == "read me\n"
        dump = [_command(), "nar", "dump", "--store", url, str(path)]
        assert subprocess.run(dump, check=True, capture_output=True).stdout == encode(TREE)
    for url in example.http_urls:
        with urlopen(f"{url}/{path.hash_part}.narinfo") as narinfo:
            nar_url = NarInfo.parse(narinfo.read()).url
        with urlopen(f"{url}/{nar_url}") as nar:
            assert nar.read() == encode(TREE)
    for mount in example.mounts:
        compare = ["diff", "-r", "--no-dereference", f"{mount}/{path}", str(folder / "tree")]
        subprocess.run(compare, check=True, timeout=60)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_put_there_can_be_read(name: str, folder: Path) -> None:
    with ExitStack() as running:
        other = None
        if REFERS_TO_ANOTHER.search((EXAMPLES / name).read_text()):
            (folder / "other").mkdir()
            other = running.enter_context(Example(OTHER, folder / "other"))
        example = running.enter_context(Example(name, folder, other))
        if name == "public.toml":
            path = imported(folder, "--config", placed("fs.toml", folder, None))
        else:
            taking = other if name in PROXIES else example
            assert taking is not None
            path = imported(folder, "--store", taking.grpc_urls[0])
        assert_there(example, path, folder)
        for server in (example, other):
            if server is not None:
                server.ends_well()


@pytest.mark.parametrize("name", [name for name in NAMES if REFERS_TO_ANOTHER.search((EXAMPLES / name).read_text())])
def test_it_starts_while_the_other_store_is_not_there(name: str, folder: Path) -> None:
    with Example(name, folder) as example:
        example.ends_well()


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_of_it_is_the_same_configuration(name: str, folder: Path) -> None:
    (folder / "shown.toml").write_text(shown := config_show(placed(name, folder, None)))
    assert config_show(folder / "shown.toml") == shown
    assert "not-to-be-seen" not in shown


def config_show(config: Path) -> str:
    result = CliRunner().invoke(cli, ["config", "show", str(config)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_metrics_have_the_place_that_was_added(folder: Path) -> None:
    with Example("metrics.toml", folder) as example:
        imported(folder, "--store", example.grpc_urls[0])
        shown = [page for url in example.http_urls if (page := metrics_at(url)) is not None]
    assert len(shown) == 1
    written = re.findall(r'^tvix_store_objects_total{entry="contents",.*result="written"} (.*)', shown[0], re.MULTILINE)
    assert sum(map(float, written)) == 2  # and the empty blob is always there


def metrics_at(url: str) -> str | None:
    """``None`` if they are not shown there."""
    try:
        with urlopen(f"{url}/metrics") as answer:
            return str(answer.read(), "utf-8")
    except HTTPError:
        return None
