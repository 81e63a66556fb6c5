"""``nar import``."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fakes.program import MIXED, SOURCE_PATHS, Program
from tvix_store.compression import SUFFIXES, compressed
from tvix_store.digest import EMPTY_DIGEST
from tvix_store.limits import MIB
from vectors.nar import TREES, Dir, File, Link, encode, materialise

NAR = encode(TREES["mixed"])


def packed(data: bytes, method: str) -> bytes:
    async def pack() -> bytes:
        async def pieces() -> AsyncIterator[bytes]:
            yield data

        return b"".join([piece async for piece in compressed(pieces(), method)])

    return asyncio.run(pack())


@pytest.fixture
def nar(tmp_path: Path) -> Path:
    path = tmp_path / "file.nar"
    path.write_bytes(NAR)
    return path


@pytest.mark.parametrize("method", SUFFIXES)
def test_a_named_nar_is_a_source_path(program: Program, config: Path, nar: Path, method: str) -> None:
    nar.write_bytes(packed(NAR, method))
    assert program("nar", "import", "--config", config, "--name", "mixed", nar).text == f"{MIXED}\n"
    assert program("nar", "dump", "--config", config, MIXED).out == NAR


@pytest.mark.parametrize("name", ["hello", "exec", "link", "empty-dir", "complicated"])
def test_it_is_the_source_path_that_import_makes(program: Program, config: Path, nar: Path, name: str) -> None:
    nar.write_bytes(encode(TREES[name]))
    assert program("nar", "import", "--config", config, "--name", name, nar).text == f"{SOURCE_PATHS[name]}\n"


@pytest.mark.parametrize(
    ("tree", "root"),
    [(File(b"", True), str(EMPTY_DIGEST)), (Dir({}), str(EMPTY_DIGEST)), (Link(b"../a b"), "-> ../a b")],
)
def test_without_a_name_the_root_is_printed(
    program: Program, config: Path, nar: Path, tree: File | Dir | Link, root: str
) -> None:
    nar.write_bytes(encode(tree))
    assert program("nar", "import", "--config", config, nar).text == f"{root}\n"
    assert program("ls", "--config", config).text == ""


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "neither a NAR nor a compressed one"),
        (b"PK\3\4 and so on", "neither a NAR nor a compressed one"),
        (NAR[:-8], "archive is truncated"),
        (NAR + bytes(8), "archive is complete, but the input goes on"),
        (packed(NAR, "xz")[:-8], "xz stream is truncated"),
        (packed(b"something else", "gzip"), "NAR byte 0: expected"),
    ],
)
def test_what_is_no_nar_is_refused(program: Program, config: Path, nar: Path, data: bytes, reason: str) -> None:
    nar.write_bytes(data)
    assert reason in program("nar", "import", "--config", config, "--name", "mixed", nar).error()
    assert program("ls", "--config", config).text == ""


def test_a_bad_name_is_refused_before_anything_is_read(program: Program, config: Path) -> None:
    assert "'/' is not allowed" in program("nar", "import", "--config", config, "--name", "a/b", "-").error()


def test_a_file_that_is_not_there(program: Program, config: Path, tmp_path: Path) -> None:
    result = program("nar", "import", "--config", config, tmp_path / "absent")
    assert (result.code, result.out) == (2, b"")
    assert "does not exist" in result.err


# --- stdin, which needs a process


@pytest.fixture
def command() -> str:
    path = shutil.which("tvix-store", path=os.path.dirname(sys.executable))
    assert path is not None, "tvix-store is not installed beside this Python: pip install -e ."
    return path


@pytest.mark.parametrize("arguments", [[], ["-"]])
def test_stdin_may_be_a_pipe_or_a_file(command: str, config: Path, nar: Path, arguments: list[str]) -> None:
    line = [command, "nar", "import", "--config", str(config), "--name", "mixed", *arguments]
    with nar.open("rb") as file:
        assert subprocess.run(line, stdin=file, capture_output=True, check=True).stdout.decode() == f"{MIXED}\n"
    assert subprocess.run(line, input=NAR, capture_output=True, check=True).stdout.decode() == f"{MIXED}\n"


def test_waiting_for_stdin_can_be_interrupted(command: str, config: Path) -> None:
    line = [command, "nar", "import", "--config", str(config)]
    with subprocess.Popen(line, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(encode(File(bytes(4 * MIB)))[:-8])  # more than a pipe holds, so it is being read
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130


def test_it_is_the_path_that_nix_gives_it(nix_store: str, command: str, config: Path, tmp_path: Path) -> None:
    tree = materialise(
        Dir({b"a": Dir({b"%04d" % i: File(b"%d" % i, i % 2 == 0) for i in range(2000)}), b"b": Link(b"a/0001")}),
        tmp_path / "tree",
    )
    environment = {**os.environ, "NIX_REMOTE": f"local?root={tmp_path}/nix"}
    added = subprocess.run([nix_store, "--add", tree], capture_output=True, check=True, env=environment).stdout
    dump = subprocess.run([nix_store, "--dump", tree], capture_output=True, check=True).stdout
    line = [command, "nar", "import", "--config", str(config), "--name", "tree", "-"]
    assert subprocess.run(line, input=dump, capture_output=True, check=True).stdout == added
    line = [command, "nar", "dump", "--config", str(config), added.decode().strip()]
    assert subprocess.run(line, capture_output=True, check=True).stdout == dump
