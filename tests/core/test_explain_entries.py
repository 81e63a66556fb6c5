from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tvix_store import explain_entries
from tvix_store.blob import BlobService
from tvix_store.composition import Composition
from tvix_store.config import Kind
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.errors import Unavailable
from tvix_store.explain import Answer, Explanation, Presence
from tvix_store.explain_entries import EntriesExplainer, RunningEntry
from tvix_store.nodes import Directory, DirectoryNode, FileNode, SymlinkNode
from tvix_store.path_info import PathInfo
from tvix_store.registry import Registry
from tvix_store.store_config import EntryId, StoreConfig
from tvix_store.store_path import StorePath
from tvix_store_memory.blob import MemoryBlobService

pytestmark = pytest.mark.anyio

HELLO = HashedBlob(b"Hello World!")


class FailingBlobs(MemoryBlobService):
    async def has(self, digest: B3Digest) -> bool:
        raise Unavailable("no answer from hunter2:\n80")


class HangingBlobs(MemoryBlobService):
    async def has(self, digest: B3Digest) -> bool:
        await asyncio.Event().wait()
        return False


async def having() -> BlobService:
    service = MemoryBlobService()
    await service.put_many([HELLO])
    return service


def entry(name: str, service: BlobService, inner: Sequence[str] = (), *, in_order: bool = True) -> RunningEntry:
    return RunningEntry(name, Kind.BLOB, "x", service, inner, in_order)


async def server(*entries: RunningEntry) -> str | None:
    """Who is said to serve the blob."""
    blobs = (await EntriesExplainer(entries).explain(HELLO.digest))[0]
    assert [answer.entry for answer in blobs.answers] == [entry.name for entry in entries]
    return next((answer.entry for answer in blobs.answers if answer.would_serve), None)


async def test_each_entry_answers_for_itself() -> None:
    entries = [entry("root", await having(), ["a", "b"]), entry("a", FailingBlobs()), entry("b", await having())]
    blobs, directories = await EntriesExplainer(entries, lambda text: text.replace("hunter2", "***")).explain(
        HELLO.digest
    )
    assert blobs == Explanation(
        "blob",
        str(HELLO.digest),
        [
            Answer("root", "x", Presence.PRESENT),
            Answer("a", "x", Presence.UNKNOWN, "Unavailable: no answer from ***: 80"),
            Answer("b", "x", Presence.PRESENT),
        ],
    )
    assert directories == Explanation("directory", str(HELLO.digest), [])


async def test_one_that_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain_entries, "_TIMEOUT_S", 0.01)
    (blobs, _) = await EntriesExplainer([entry("root", HangingBlobs())]).explain(HELLO.digest)
    assert blobs.answers == [Answer("root", "x", Presence.UNKNOWN, "no answer within 0.01 s")]


async def test_a_leaf_that_has_it_serves() -> None:
    assert await server(entry("root", await having())) == "root"
    assert await server(entry("root", MemoryBlobService())) is None


async def test_the_first_in_order_that_has_it_serves() -> None:
    root, empty, full = await having(), MemoryBlobService(), await having()
    assert await server(entry("root", root, ["a", "b"]), entry("a", full), entry("b", full)) == "a"
    assert await server(entry("root", root, ["a", "b"]), entry("a", empty), entry("b", full)) == "b"
    assert (
        await server(entry("root", root, ["c"]), entry("c", root, ["a", "b"]), entry("a", empty), entry("b", full))
        == "b"
    )


async def test_nobody_is_named_where_it_is_not_certain() -> None:
    root, empty, full = await having(), MemoryBlobService(), await having()
    assert await server(entry("root", empty, ["a"]), entry("a", full)) is None  # it is hidden
    assert await server(entry("root", root, ["a"]), entry("a", empty)) is None  # it has one of its own
    assert await server(entry("root", root, ["a", "b"]), entry("a", FailingBlobs()), entry("b", full)) is None
    either = entry("root", root, ["a", "b"], in_order=False)
    assert await server(either, entry("a", full), entry("b", full)) is None
    assert await server(either, entry("a", empty), entry("b", full)) == "b"


async def test_an_entry_that_was_not_built_is_not_certain_to_lack_it() -> None:
    root, full = await having(), await having()
    assert await server(entry("root", root, ["a", "b"]), entry("b", full)) is None


# --- compositions ---

COMPOSITION = """
[blobservices.root]
type = "memory"
[blobservices.spare]
type = "memory"
[directoryservices.root]
type = "memory"
[pathinfoservices.root]
type = "cache"
near = "memory://"
far = "far"
[pathinfoservices.far]
type = "sqlite"
is_temporary = true
"""


@pytest.fixture
async def composition(tmp_path: Path) -> AsyncIterator[Composition]:
    registry = Registry.load()
    path = tmp_path / "store.toml"
    path.write_text(COMPOSITION)
    async with Composition(StoreConfig.load(path, registry), registry) as composition:
        yield composition


def path_info(node: FileNode | DirectoryNode | SymlinkNode) -> PathInfo:
    path = StorePath.from_base_name("0" * 32 + "-hello")
    return PathInfo(store_path=path, node=node, nar_size=1, nar_sha256=bytes(32))


def lines(explanation: Explanation) -> list[str]:
    return [
        f"{answer.entry}: {answer.presence.value}{', ' * bool(answer.note)}{answer.note}{' <-' * answer.would_serve}"
        for answer in explanation.answers
    ]


async def put_far(composition: Composition, info: PathInfo) -> None:
    far = composition.config.entries[Kind.PATH_INFO]["far"]
    service = await composition.service(EntryId(Kind.PATH_INFO, "far"), far, None)
    await service.put(info)  # type: ignore[union-attr,arg-type]  # it is of that kind


async def test_the_root_of_a_path_is_looked_for_as_well(composition: Composition) -> None:
    services = await composition.services()
    assert services.explainer is not None
    directory = Directory({b"hello": FileNode(HELLO.digest, len(HELLO))})
    await services.directories.put(directory)
    info = path_info(DirectoryNode(directory.digest, directory.size))
    await put_far(composition, info)
    paths, directories = await services.explainer.explain(info.store_path.digest)
    assert (paths.kind, paths.name) == ("path info", "0" * 32)
    assert lines(paths) == [
        f"[pathinfoservices.root]: has it, {info.store_path}",
        "[pathinfoservices.root] near: does not have it",
        f"[pathinfoservices.far]: has it, {info.store_path} <-",
    ]
    assert (directories.kind, directories.name) == ("directory", str(directory.digest))
    assert lines(directories) == ["[directoryservices.root]: has it <-"]


async def test_a_path_that_is_a_file_is_a_blob(composition: Composition) -> None:
    services = await composition.services()
    assert services.explainer is not None
    info = path_info(FileNode(HELLO.digest, len(HELLO)))
    await put_far(composition, info)
    _, blobs = await services.explainer.explain(info.store_path.digest)
    assert lines(blobs) == ["[blobservices.root]: does not have it"]


async def test_a_path_that_is_a_link_has_no_other_object(composition: Composition) -> None:
    services = await composition.services()
    assert services.explainer is not None
    info = path_info(SymlinkNode(b"/x"))
    await put_far(composition, info)
    assert len(await services.explainer.explain(info.store_path.digest)) == 1
