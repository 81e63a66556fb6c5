"""``verify``: what is wrong is found, and repaired from another store."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fakes.program import MIXED, Program, Toml
from tvix_store.blob import BlobService
from tvix_store.digest import B3Digest
from tvix_store.path_info import PathInfoService
from tvix_store.wire import decode_directory
from tvix_store_memory.blob import MemoryBlobService
from tvix_store_memory.path_info import MemoryPathInfoService
from vectors.nar import TREES, encode


class Database:
    """The store's file, for damaging it behind its back."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def run(self, statement: str, *values: object) -> list[bytes]:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            return [row[0] for row in connection.execute(statement, values)]

    def digests(self, table: str) -> list[bytes]:
        return self.run(f"SELECT digest FROM {table} WHERE length(data) > 0 ORDER BY digest")

    def damage(self, table: str, digest: bytes) -> None:
        self.run(f"UPDATE {table} SET data = x'ff' WHERE digest = ?", digest)


@pytest.fixture
def database(stored: Program, tmp_path: Path) -> Database:
    return Database(tmp_path / "state" / "store.sqlite")


@pytest.fixture
def other(program: Program, stored: Program, tmp_path: Path) -> str:
    """The URL of a store with the same contents."""
    url = f"sqlite://{tmp_path}/other.sqlite"
    assert program("import", "--store", url, tmp_path / "mixed").code == 0
    return url


def text(digest: bytes) -> str:
    return str(B3Digest(digest))


def assert_sound(stored: Program) -> None:
    result = stored("verify")
    assert (result.code, result.out, result.err) == (0, b"", "0 damaged or missing, 0 repaired\n")
    assert stored("nar", "dump", MIXED).out == encode(TREES["mixed"])


def test_nothing_is_wrong_with_what_was_imported(stored: Program) -> None:
    assert_sound(stored)


def test_a_damaged_blob_is_told_of_and_who_refers_to_it(stored: Program, database: Database) -> None:
    digest = database.digests("content")[0]
    database.damage("content", digest)
    result = stored("verify")
    assert result.code == 1
    damaged, missing = result.lines
    assert damaged.startswith(f"[blobservices.root]: blob {text(digest)}: ")
    assert missing.startswith("store: path info ")
    assert missing.endswith(f"{MIXED.removeprefix('/nix/store/')} refers to blob {text(digest)}, which does not exist")
    assert result.err.endswith("2 damaged or missing, 0 repaired\n")
    assert stored("verify").lines == [missing]


def test_damaged_objects_are_repaired(stored: Program, database: Database, other: str) -> None:
    (blob, *_), (directory, *_) = database.digests("content"), database.digests("directory")
    database.damage("content", blob)
    database.damage("directory", directory)
    result = stored("verify", "--repair-from", other)
    assert result.code == 0
    assert [line for line in result.lines if line.startswith("repaired: ")] == [
        f"repaired: blob {text(blob)}",
        f"repaired: directory {text(directory)}",
    ]
    assert_sound(stored)


def test_missing_objects_are_repaired(stored: Program, database: Database, other: str) -> None:
    for table in ("content", "directory"):
        database.run(f"DELETE FROM {table}")
    result = stored("verify", "--repair-from", other)
    assert result.code == 0
    assert len([line for line in result.lines if line.startswith("repaired: directory ")]) > 1
    assert_sound(stored)


def test_a_damaged_path_info_is_repaired_after_what_it_refers_to(
    stored: Program, database: Database, other: str
) -> None:
    (digest,) = database.digests("path_info")
    database.damage("path_info", digest)
    database.run("DELETE FROM directory")
    result = stored("verify", "--repair-from", other)
    assert result.code == 0
    assert result.lines[0].startswith(f"[pathinfoservices.root]: path info {digest.hex()}: ")
    assert result.lines[-1] == f"repaired: path info {digest.hex()}"
    assert_sound(stored)


def test_what_cannot_be_had_is_told(stored: Program, database: Database, tmp_path: Path) -> None:
    (blob, *_), (path_info,) = database.digests("content"), database.digests("path_info")
    database.damage("content", blob)
    database.damage("path_info", path_info)
    result = stored("verify", "--repair-from", f"sqlite://{tmp_path}/empty.sqlite")
    assert result.code == 1
    assert [line for line in result.lines if line.startswith("not repaired: ")] == [
        f"not repaired: blob {text(blob)}: the other store does not have it",
        f"not repaired: path info {path_info.hex()}: the other store does not have it",
    ]
    assert result.err.endswith("2 damaged or missing, 0 repaired\n")


def test_a_path_info_is_not_put_without_its_contents(
    stored: Program, database: Database, other: str, tmp_path: Path
) -> None:
    blob, (path_info,) = database.digests("content")[0], database.digests("path_info")
    database.damage("path_info", path_info)
    database.run("DELETE FROM content WHERE digest = ?", blob)
    Database(tmp_path / "other.sqlite").run("DELETE FROM content WHERE digest = ?", blob)
    result = stored("verify", "--repair-from", other)
    assert result.code == 1
    assert result.lines[-1] == f"not repaired: path info {path_info.hex()}: what it refers to cannot be had"
    assert stored("ls").lines == []


def test_what_is_wrong_there_too_is_not_taken(stored: Program, database: Database, other: str, tmp_path: Path) -> None:
    digest = database.digests("content")[0]
    database.damage("content", digest)
    Database(tmp_path / "other.sqlite").damage("content", digest)
    result = stored("verify", "--repair-from", other)
    assert result.code == 1
    assert any(line.startswith(f"not repaired: blob {text(digest)}: ") and "corrupt" in line for line in result.lines)
    assert database.run("SELECT digest FROM content WHERE digest = ?", digest) == []


def test_findings_as_json(stored: Program, database: Database, other: str) -> None:
    digest = database.digests("directory")[0]
    assert json.loads(stored("verify", "--json").text) == []
    database.damage("directory", digest)
    (finding,) = json.loads(stored("verify", "--json", "--repair-from", other).text)
    assert finding.pop("reason")
    assert finding == {
        "entry": "[directoryservices.root]",
        "kind": "directory",
        "digest": text(digest),
        "location": None,
        "repaired": True,
        "problem": None,
    }


def test_all_entries_are_verified_and_each_once(stored: Program, database: Database, config: Path) -> None:
    with config.open("a") as file:
        file.write(f'[blobservices.spare]\ntype = "sqlite"\npath = "{config.parent}/spare.sqlite"\n')
    assert_sound(stored)
    spare = Database(config.parent / "spare.sqlite")
    spare.run("INSERT INTO content (digest, data) VALUES (?, ?)", bytes(32), b"x")
    (line,) = stored("verify").lines
    assert line.startswith(f"[blobservices.spare]: blob {text(bytes(32))}: ")


def test_stores_that_cannot_be_listed_are_told_of_and_no_error(
    program: Program, toml: Toml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryBlobService, "list", BlobService.list)
    monkeypatch.setattr(MemoryPathInfoService, "list", PathInfoService.list)
    result = program("verify", "--config", toml('[blobservices.root]\ntype = "memory"\n' + METADATA))
    assert (result.code, result.out) == (0, b"")
    assert result.err.splitlines() == [
        "[blobservices.root]: not verified: MemoryBlobService cannot list blobs",
        "[pathinfoservices.root]: not verified: MemoryPathInfoService cannot list path infos",
        "not checked that nothing is missing: MemoryPathInfoService cannot list path infos",
        "0 damaged or missing, 0 repaired",
    ]


def test_a_store_that_cannot_be_read_is_an_error_and_the_others_are_verified(
    program: Program, toml: Toml, tmp_path: Path
) -> None:
    url = '[pathinfoservices.spare]\ntype = "grpc"\nurl = "grpc+http://[::1]:1"\n'
    spare = f'[pathinfoservices.zzz]\ntype = "sqlite"\npath = "{tmp_path}/spare.sqlite"\n'
    config = toml('[blobservices.root]\ntype = "memory"\n' + METADATA + url + spare)
    assert program("verify", "--config", config).code == 1
    Database(tmp_path / "spare.sqlite").run("INSERT INTO path_info (digest, data) VALUES (?, x'ff')", bytes(20))
    result = program("verify", "--config", config)
    assert result.err.startswith("error: [pathinfoservices.spare]: ")
    assert result.err.endswith("1 damaged or missing, 0 repaired; not everything could be read\n")
    assert "[pathinfoservices.zzz]: path info " in result.text


def test_a_wrong_url_is_a_configuration_error(stored: Program) -> None:
    assert stored("verify", "--repair-from", "nonsense").error(2).startswith("--repair-from: 'nonsense' is not a URL")


METADATA = '[directoryservices.root]\ntype = "memory"\n[pathinfoservices.root]\ntype = "memory"\n'


def test_directories_are_what_the_database_says(database: Database) -> None:
    """What the tests above rely on: there are directories below the root."""
    encodings = database.run("SELECT data FROM directory")
    assert any(list(decode_directory(encoding).directories()) for encoding in encodings)


_MIRROR = """
[blobservices]
root = {{ type = "mirror", replicas = ["a", "b"] }}
a = {{ type = "fs", path = "{0}/a/blobs" }}
b = {{ type = "fs", path = "{0}/b/blobs" }}
[directoryservices]
root = {{ type = "mirror", replicas = ["a", "b"] }}
a = {{ type = "sqlite", path = "{0}/a/store.sqlite" }}
b = {{ type = "sqlite", path = "{0}/b/store.sqlite" }}
[pathinfoservices]
root = {{ type = "mirror", replicas = ["a", "b"] }}
a = {{ type = "sqlite", path = "{0}/a/store.sqlite" }}
b = {{ type = "sqlite", path = "{0}/b/store.sqlite" }}
"""


def test_a_replica_that_was_replaced_is_filled(program: Program, toml: Toml, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(200):
        (tree / f"{number}").write_text(f"contents {number}")
    config = toml(_MIRROR.format(tmp_path))
    path = program("import", "--config", config, tree).text.strip()
    shutil.rmtree(tmp_path / "b")
    lines = program("verify", "--config", config).err.splitlines()
    assert lines == [
        "[blobservices.root]: b lacked 200 objects, which it has now",
        "[directoryservices.root]: b lacked 1 objects, which it has now",
        "[pathinfoservices.root]: b lacked 1 objects, which it has now",
        "0 damaged or missing, 0 repaired",
    ]
    whole = program("nar", "dump", "--config", config, path).out
    shutil.rmtree(tmp_path / "a")
    alone = toml(_MIRROR.format(tmp_path).replace('"a", "b"', '"b"'))
    assert program("verify", "--config", alone).err == "0 damaged or missing, 0 repaired\n"
    assert program("nar", "dump", "--config", alone, path).out == whole
