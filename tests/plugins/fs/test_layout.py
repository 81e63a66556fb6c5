"""The folder of a store: how it is made, what is recorded in it, and who uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from plugins.fs.fs_store import open_service, pack_path
from tvix_store.chunking import AVERAGE_CHUNK_BYTES
from tvix_store.digest import HashedBlob
from tvix_store.errors import ConfigError, Unavailable
from tvix_store_fs import index
from tvix_store_fs.layout import Layout, Parameters

CHILD = Path(__file__).with_name("ordinary_user.py")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = Layout(str(tmp_path / "above" / "store"))
    layout.create()
    return layout


def record(layout: Layout) -> Path:
    return Path(layout.path) / "store.json"


def test_folders_are_made(layout: Layout) -> None:
    layout.create()
    assert os.listdir(layout.path) == ["packs"]


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "store"):
        with pytest.raises(ConfigError, match="cannot be made: Not a directory"):
            Layout(str(path)).create()


@pytest.mark.parametrize(("wanted", "made"), [(None, AVERAGE_CHUNK_BYTES), (65536, 65536)])
def test_the_average_is_recorded(layout: Layout, wanted: int | None, made: int) -> None:
    assert layout.parameters(wanted) == Parameters(made)
    assert json.loads(record(layout).read_text()) == {"format": 1, "avg_chunk_size": made}
    assert layout.parameters(None) == layout.parameters(made) == Parameters(made)
    with pytest.raises(ConfigError, match=rf"store.json: the store was made with avg_chunk_size = {made}, not 4096"):
        layout.parameters(4096)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "1",
        "{}",
        '{"format": 1}',
        '{"format": 1, "avg_chunk_size": "many"}',
        '{"format": 1, "avg_chunk_size": 0}',
        '{"format": 1, "avg_chunk_size": 99999999}',
        "\0\0\0",
        '{"format": 1, "avg_chunk_size": 262144',
    ],
)
def test_a_damaged_record_is_refused_and_left_alone(layout: Layout, text: str) -> None:
    record(layout).write_text(text)
    with pytest.raises(ConfigError, match=r"store.json: is damaged; it should read \{"):
        layout.parameters(None)
    assert record(layout).read_text() == text


def test_a_record_that_is_no_text_is_refused(layout: Layout) -> None:
    record(layout).write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is damaged"):
        layout.parameters(None)


def test_a_newer_format_is_refused(layout: Layout) -> None:
    record(layout).write_text('{"format": 2, "avg_chunk_size": 262144, "more": true}')
    with pytest.raises(ConfigError, match=r"store.json: the store has format 2, this program knows format 1"):
        layout.parameters(None)


def test_a_record_that_cannot_be_written_is_said_to_be(layout: Layout) -> None:
    (Path(layout.path) / "store.json.new").mkdir()
    with pytest.raises(Unavailable, match="Is a directory"):
        layout.parameters(None)


def test_users_are_seen(layout: Layout) -> None:
    with layout.opening():
        assert not layout.is_used()
        users = [layout.use(), layout.use()]
    for descriptor in users:
        assert layout.is_used()
        os.close(descriptor)
    assert not layout.is_used()


def test_a_new_index_is_asked_for_once(layout: Layout) -> None:
    for _ in range(2):
        assert layout.is_new_index_asked_for() is False
        layout.ask_for_new_index()
        layout.ask_for_new_index()
        assert layout.is_new_index_asked_for() is True
        layout.forget_request_for_new_index()
        layout.forget_request_for_new_index()


def test_an_index_is_told_from_other_files(layout: Layout) -> None:
    file = Path(layout.index)
    application_id = index.SCHEMA.application_id
    for data, is_index in (
        (b"SQLite format 3\0" + bytes(52) + b"TVXI", True),
        (b"SQLite format 3\0" + bytes(52) + b"ABCD", False),
        (b"SQLite format 4\0" + bytes(52) + b"TVXI", False),
        (b"", False),
    ):
        file.write_bytes(data)
        assert layout.is_index(application_id) is is_index


def test_the_size_is_that_of_all_files(layout: Layout) -> None:
    (Path(layout.path) / "a").write_bytes(bytes(10))
    pack_path(Path(layout.path)).write_bytes(bytes(100))
    (Path(layout.path) / "link").symlink_to(pack_path(Path(layout.path)))
    assert layout.size() == 110


@pytest.mark.anyio
async def test_the_average_of_a_store_cuts_its_blobs(tmp_path: Path) -> None:
    async with await open_service(tmp_path, avg_chunk_size=4096) as service:
        blob = HashedBlob(bytes(range(256)) * 256)
        await service.put_many([blob])
        chunks = await service.chunks(blob.digest)
        assert chunks
        assert all(chunk.size <= 8192 for chunk in chunks)
    async with await open_service(tmp_path) as service:
        assert service.store.parameters.avg_chunk_size == 4096


def closed_parent(path: Path) -> None:
    path.parent.chmod(0o555)


def folder_of_another(path: Path) -> None:
    path.mkdir(mode=0o755)


def packs_of_another(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)
    (path / "packs").mkdir(mode=0o755)


def lock_of_another(path: Path) -> None:
    packs_of_another(path)
    (path / "packs").chmod(0o777)
    (path / "opening.lock").touch(mode=0o600)


def index_of_another(path: Path) -> None:
    lock_of_another(path)
    (path / "opening.lock").chmod(0o666)
    (path / "index.sqlite").touch(mode=0o600)


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        (closed_parent, "ConfigError: PATH: the folder of the store cannot be made: Permission denied"),
        (folder_of_another, "ConfigError: PATH: the folder of the store cannot be made: Permission denied"),
        (packs_of_another, "ConfigError: PATH/packs: the folder of the store is not readable and writable"),
        (lock_of_another, "Unavailable: PATH/opening.lock: Permission denied"),
        (index_of_another, "Unavailable: PATH/index.sqlite: Permission denied"),
    ],
)
def test_an_ordinary_user_is_told_what_is_not_permitted(tmp_path: Path, prepare: object, said: str) -> None:
    if os.getuid() != 0:
        pytest.skip("files of another user can only be made by root")
    path = tmp_path / "open" / "store"
    path.parent.mkdir()
    path.parent.chmod(0o777)
    assert callable(prepare)
    prepare(path)
    output = subprocess.run([sys.executable, CHILD, path], capture_output=True, text=True, check=True)
    assert output.stderr == ""
    assert output.stdout == said.replace("PATH", str(path)) + "\n"
