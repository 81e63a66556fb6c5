"""A real tree goes in through a daemon over gRPC and comes out as Nix itself makes of it, byte for byte."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

TREE = Path("/usr/share")
TVIX_STORE = str(Path(sys.executable).with_name("tvix-store"))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree, so that nothing changes it meanwhile; it has the same name."""
    path = tmp_path_factory.mktemp("real") / TREE.name
    shutil.copytree(TREE, path, symlinks=True, ignore_dangling_symlinks=True)
    return path


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A store that keeps everything in sqlite, in a process of its own."""
    directory = tmp_path_factory.mktemp("daemon")
    flags = ["--listen-address", f"{directory}/socket", "--store", f"sqlite://{directory}/store.sqlite"]
    with subprocess.Popen([TVIX_STORE, "daemon", *flags], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any("ready" in line for line in process.stderr), "the daemon did not start"
        yield f"grpc+unix://{directory}/socket"
        process.terminate()


@pytest.fixture(scope="module")
def imported(url: str, copy: Path) -> str:
    """The store path that ``tvix-store import`` prints."""
    command = [TVIX_STORE, "import", "--store", url, str(copy)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def _sha256_of(command: list[str]) -> str:
    hasher = hashlib.sha256()
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        while piece := process.stdout.read(1 << 20):
            hasher.update(piece)
    assert process.returncode == 0
    return hasher.hexdigest()


def test_the_store_path_is_the_one_of_nix(nix_store: str, imported: str, copy: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "NIX_REMOTE": f"local?root={tmp_path}"}
    command = [nix_store, "--add", str(copy)]
    added = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()
    assert imported == added


def test_the_nar_is_the_one_of_nix(nix_store: str, imported: str, url: str, copy: Path) -> None:
    ours = _sha256_of([TVIX_STORE, "nar", "dump", "--store", url, imported])
    assert ours == _sha256_of([nix_store, "--dump", str(copy)])


def test_the_daemon_calculates_the_same_hash(nix_store: str, imported: str, url: str, copy: Path) -> None:
    command = [TVIX_STORE, "nar", "hash", "--format", "base16", "--store", url, imported]
    ours = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    assert ours == _sha256_of([nix_store, "--dump", str(copy)])
