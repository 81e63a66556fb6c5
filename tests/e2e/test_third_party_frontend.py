"""A frontend by a third party in the program: it serves what is imported through one of ours, and ends when told to."""

from __future__ import annotations

import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.environment import Environment
from vectors.nar import TREES, materialise

EXAMPLE = Path(__file__).parents[2] / "examples" / "third_party_frontend"
TVIX_STORE = ["-c", "from tvix_store.cli.main import main; main()"]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment in which the example is installed."""
    made = Environment(tmp_path_factory.mktemp("environment") / "venv")
    made.install(EXAMPLE)
    return made


@pytest.fixture
def store(environment: Environment, tmp_path: Path) -> Iterator[str]:
    """A store that runs; the URL of the frontend. Its gRPC socket is ``grpc.sock`` in the folder."""
    text = (EXAMPLE / "store.toml").read_text(encoding="utf-8")
    text = text.replace("localhost:8000", str(tmp_path / "grpc.sock")).replace("localhost:9001", "127.0.0.1:0")
    (tmp_path / "store.toml").write_text(text, encoding="utf-8")
    command = [str(environment.python), *TVIX_STORE, "run", "store.toml"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            log = ""
            for line in process.stderr:
                log += line
                if "ready, serving" in line:
                    break
            (url,) = [line.split()[-1] for line in log.splitlines() if "listens on http://" in line]
            yield url
            process.send_signal(signal.SIGTERM)
            rest = process.stderr.read()
            assert process.wait() == 0, log + rest
        finally:
            process.kill()


def test_an_imported_tree_comes_out_as_an_archive(environment: Environment, store: str, tmp_path: Path) -> None:
    tree = materialise(TREES["mixed"], tmp_path / "mixed")
    address = f"grpc+unix://{tmp_path / 'grpc.sock'}"
    imported = environment.run(*TVIX_STORE, "import", "--store", address, str(tree), cwd=tmp_path)
    assert imported.returncode == 0, imported.stderr
    name = Path(imported.stdout.strip()).name
    with urllib.request.urlopen(f"{store}/{name}.tar") as response:
        archive = response.read()
    listed = subprocess.run(["tar", "t"], input=archive, capture_output=True, check=True).stdout.decode().splitlines()
    below = [str(path.relative_to(tree)) for path in tree.rglob("*")]
    assert sorted(member.rstrip("/") for member in listed) == sorted([name, *(f"{name}/{path}" for path in below)])
