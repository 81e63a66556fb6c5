"""The program in this process; ``tests/e2e/test_cli.py`` runs it as users do."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fakes.program import Program, Result
from tvix_store.cli.main import main
from tvix_store.config import Kind
from vectors.nar import TREES, materialise


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Iterator[Program]:
    """Runs the program with these arguments, and with a config file of its own that keeps what is stored."""
    handlers, level = logging.root.handlers[:], logging.root.level

    def run(*arguments: object, stdin: str = "") -> Result:
        monkeypatch.setattr(sys, "argv", ["tvix-store", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfdbinary.readouterr()
        code = ended.value.code
        return Result(code if isinstance(code, int) else 0, out, err.decode())

    yield run
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration whose stores outlive a command."""
    path = tmp_path / "store.toml"
    database = f'type = "sqlite"\npath = "{tmp_path}/state/store.sqlite"\ndurability = "none"\n'
    path.write_text("".join(f"[{kind.value}.root]\n{database}" for kind in Kind if kind is not Kind.FRONTEND))
    return path


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("GRPC_VERBOSITY", "ERROR")  # main would set it, and for all later tests
    for name in ("BLOB", "DIRECTORY", "PATH_INFO"):
        monkeypatch.delenv(f"{name}_SERVICE_ADDR", raising=False)


@pytest.fixture
def stored(program: Program, config: Path, tmp_path: Path) -> Program:
    """A program whose store holds the sample tree ``mixed``; commands are told where it is."""
    path = materialise(TREES["mixed"], tmp_path / "mixed")
    assert program("import", "--config", config, path).code == 0

    def run(*arguments: object) -> Result:
        return program(*arguments, "--config", config)

    return run


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "given.toml"
        path.write_text(text)
        return path

    return write
