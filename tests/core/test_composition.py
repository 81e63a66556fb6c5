from __future__ import annotations

import asyncio
import textwrap
import tomllib
from collections.abc import Iterator

import pytest

from fakes import plugin as fake_plugin
from fakes.plugin import Gate, TelltaleBlobs, TelltaleFrontend, TelltalePathInfos, script
from tvix_store.blob import BlobService
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
from tvix_store.commit_point import CommitPointPathInfoService
from tvix_store.composition import Composition
from tvix_store.config import Kind
from tvix_store.directory import DirectoryService
from tvix_store.errors import ConfigError, CorruptObject, Unavailable
from tvix_store.frontend import Services
from tvix_store.nar_render import RenderingNarCalculation
from tvix_store.path_info import PathInfoService
from tvix_store.registry import Registry
from tvix_store.store_config import EntryId, StoreConfig
from tvix_store.testing.minimal import MinimalDirectoryService

pytestmark = pytest.mark.anyio

METADATA = """
[directoryservices.root]
type = "plain"
[pathinfoservices.root]
type = "plain"
"""


@pytest.fixture(autouse=True)
def _clear() -> Iterator[None]:
    script.clear()
    yield
    script.clear()


def compose(text: str) -> Composition:
    registry = Registry()
    registry.add(fake_plugin)
    config = StoreConfig.parse(tomllib.loads(textwrap.dedent(text)), registry, "store.toml")
    return Composition(config, registry)


async def build(composition: Composition, name: str = "root") -> TelltaleBlobs:
    """A blob service of the composition, without the checks around it."""
    entry_id = EntryId(Kind.BLOB, name)
    service = await composition.service(entry_id, composition.config.entries[Kind.BLOB][name], None)
    return bare(service)


def bare(service: object) -> TelltaleBlobs:
    assert isinstance(service, CheckedBlobService)
    assert isinstance(service.inner, TelltaleBlobs)
    return service.inner


def checked(services: Services) -> CheckedPathInfoService:
    """The path infos, without what makes their contents durable first."""
    assert isinstance(services.path_infos, CommitPointPathInfoService)
    assert isinstance(services.path_infos.inner, CheckedPathInfoService)
    return services.path_infos.inner


def built() -> list[str]:
    return [event.removeprefix("build ") for event in script.journal if event.startswith("build ")]


def closed() -> list[str]:
    return [event.removeprefix("close ") for event in script.journal if event.startswith("close ")]


# --- what is built ---


async def test_the_roots_are_built_and_checked() -> None:
    async with compose('[blobservices.root]\ntype = "plain"' + METADATA) as composition:
        services = await composition.services()
        assert isinstance(services.blobs, CheckedBlobService)
        assert isinstance(services.directories, CheckedDirectoryService)
        assert isinstance(checked(services), CheckedPathInfoService)
        assert isinstance(services.nar_calculation, RenderingNarCalculation)
        assert built() == ["root", "root directories", "root path infos"]


async def test_an_older_composition_has_its_roots_called_default() -> None:
    text = '[blobservices.default]\ntype = "plain"' + METADATA.replace(".root", ".default")
    async with compose(text) as composition:
        assert bare((await composition.services()).blobs).name == "default"


async def test_entries_that_nobody_needs_are_not_built() -> None:
    text = '[blobservices.root]\ntype = "plain"\n[blobservices.spare]\ntype = "plain"' + METADATA
    async with compose(text) as composition:
        await composition.services()
        assert "spare" not in built()


async def test_entries_are_all_that_there_are_whether_they_are_used_or_not() -> None:
    text = '[blobservices.root]\ntype = "pair"\nnear = "plain://"\nfar = "far"\n'
    text += '[blobservices.far]\ntype = "plain"\n[blobservices.spare]\ntype = "plain"\n[frontends.a]\ntype = "stub"'
    async with compose(text + METADATA) as composition:
        entries = await composition.entries()
        assert [str(entry.entry_id) for entry in entries] == [
            "[blobservices.root]",
            "[blobservices.far]",
            "[blobservices.spare]",
            "[directoryservices.root]",
            "[pathinfoservices.root]",
            "[blobservices.root] near",
        ]
        assert [entry.is_made_of_others for entry in entries] == [True, False, False, False, False, False]
        assert entries[0].service is (await composition.services()).blobs
        assert bare(entries[-1].service).name == "root.near"


async def test_a_missing_root_is_named() -> None:
    async with compose('[blobservices.root]\ntype = "plain"') as composition:
        with pytest.raises(ConfigError, match=r"store.toml: no \[directoryservices.root\]"):
            await composition.services()


async def test_what_was_built_is_given_again() -> None:
    async with compose('[blobservices.root]\ntype = "plain"') as composition:
        assert await build(composition) is await build(composition)
        assert built() == ["root"]


async def test_asked_for_twice_at_the_same_time_it_is_built_once() -> None:
    """The first of the two tests of the reference."""
    script.gates["root"] = gate = Gate()
    async with compose('[blobservices.root]\ntype = "plain"') as composition, asyncio.TaskGroup() as group:
        first, second = group.create_task(build(composition)), group.create_task(build(composition))
        await gate.reached.wait()
        gate.opened.set()
    assert first.result() is second.result()
    assert built() == ["root"]


async def test_two_that_refer_to_one_share_it() -> None:
    text = """
        [blobservices.root]
        type = "pair"
        near = "a"
        far = "b"
        [blobservices.a]
        type = "many"
        members = ["disk"]
        [blobservices.b]
        type = "many"
        members = ["disk"]
        [blobservices.disk]
        type = "plain"
    """
    async with compose(text) as composition:
        a, b = map(bare, (await build(composition)).inner)
        assert a.inner == b.inner
        assert built() == ["disk", "root"]


async def test_an_entry_is_given_checked_services() -> None:
    text = '[blobservices.root]\ntype = "many"\nmembers = ["disk"]\n[blobservices.disk]\ntype = "plain"'
    async with compose(text) as composition:
        (member,) = (await build(composition)).inner
        assert isinstance(member, CheckedBlobService)
        assert member.name == "disk"


async def test_anonymous_entries_are_separate_for_each_occurrence() -> None:
    text = '[blobservices.root]\ntype = "many"\nmembers = ["plain://", "plain://"]'
    async with compose(text) as composition:
        first, second = map(bare, (await build(composition)).inner)
        assert first is not second
        assert (first.name, second.name) == ("root.members[0]", "root.members[1]")


async def test_anonymous_entries_of_two_kinds_that_are_called_the_same_are_separate() -> None:
    text = """
        [blobservices.root]
        type = "hiding"
        asks = ["plain://"]
        [directoryservices.root]
        type = "plain"
        [pathinfoservices.root]
        type = "fetching"
        blob_service = "plain://"
    """
    async with compose(text) as composition:
        services = await composition.services()
        (asked,) = bare(services.blobs).inner
        fetching = checked(services).inner
        assert isinstance(fetching, TelltalePathInfos)
        assert bare(fetching.inner[0]) is not bare(asked)
        assert bare(fetching.inner[0]).name == "root.blob_service"


async def test_a_url_in_a_url_is_followed() -> None:
    text = '[blobservices.root]\ntype = "many"\nmembers = ["pair://?near=plain://&far=disk"]'
    async with compose(text + '\n[blobservices.disk]\ntype = "plain"') as composition:
        (pair,) = map(bare, (await build(composition)).inner)
        near, far = map(bare, pair.inner)
        assert (near.name, far.name) == ("root.members[0].near", "disk")


# --- closing ---

CHAIN = """
    [blobservices.root]
    type = "pair"
    near = "a"
    far = "b"
    [blobservices.a]
    type = "many"
    members = ["b"]
    [blobservices.b]
    type = "plain"
"""


async def test_services_are_closed_in_reverse_order() -> None:
    async with compose(CHAIN) as composition:
        await build(composition)
    assert closed() == ["root", "a", "b"]


async def test_closing_twice_closes_once() -> None:
    composition = compose(CHAIN)
    await build(composition)
    await composition.aclose()
    await composition.aclose()
    assert closed() == ["root", "a", "b"]


async def test_what_was_built_is_closed_when_a_later_build_fails() -> None:
    script.build_errors["root"] = ConfigError("no")
    with pytest.raises(ConfigError, match="no"):
        async with compose(CHAIN) as composition:
            await build(composition)
    assert closed() == ["a", "b"]


async def test_one_that_fails_to_close_does_not_keep_the_others_open() -> None:
    script.close_errors["a"] = Unavailable("stuck")
    with pytest.raises(Unavailable, match="stuck"):
        async with compose(CHAIN) as composition:
            await build(composition)
    assert closed() == ["root", "a", "b"]


async def test_what_is_being_built_at_the_end_is_cancelled() -> None:
    script.gates["root"] = gate = Gate()
    composition = compose(CHAIN)
    task = asyncio.create_task(build(composition))
    await gate.reached.wait()
    await composition.aclose()
    assert closed() == ["a", "b"]
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_asker_does_not_take_the_build_from_others() -> None:
    script.gates["root"] = gate = Gate()
    async with compose('[blobservices.root]\ntype = "plain"') as composition:
        first, second = asyncio.create_task(build(composition)), asyncio.create_task(build(composition))
        await gate.reached.wait()
        first.cancel()
        gate.opened.set()
        assert (await second).name == "root"
        assert (await asyncio.gather(first, return_exceptions=True))[0] is not None


async def test_everything_is_closed_when_closing_is_cancelled() -> None:
    script.gates["root"] = gate = Gate()
    composition = compose(CHAIN)
    asking = asyncio.create_task(build(composition))
    await gate.reached.wait()
    closing = asyncio.create_task(composition.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing, asking])
    assert closed() == ["a", "b"]


async def test_nothing_is_built_after_closing() -> None:
    composition = compose(CHAIN)
    await composition.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await build(composition)


# --- what entries share ---

SHARING = """
    [blobservices.root]
    type = "many"
    members = ["plain", "one", "two", "other"]
    [blobservices.plain]
    type = "plain"
    [blobservices.one]
    type = "sharing"
    what = "connection"
    [blobservices.two]
    type = "sharing"
    what = "connection"
    [blobservices.other]
    type = "sharing"
    what = "another"
"""


async def test_what_is_shared_is_made_once_and_closed_after_all_that_have_it() -> None:
    async with compose(SHARING) as composition:
        one, two, other = map(bare, (await build(composition)).inner[1:])
        assert one.inner == two.inner != other.inner
    assert built() == ["plain", "connection", "another"]
    assert closed() == ["root", "other", "another", "two", "one", "connection", "plain"]


async def test_what_is_shared_is_made_once_for_two_at_the_same_time() -> None:
    script.gates["connection"] = gate = Gate()
    async with compose(SHARING) as composition, asyncio.TaskGroup() as group:
        tasks = [group.create_task(build(composition, name)) for name in ("one", "two")]
        await gate.reached.wait()
        gate.opened.set()
    assert tasks[0].result().inner == tasks[1].result().inner
    assert built() == ["connection"]


async def test_what_cannot_be_shared_fails_all_that_ask() -> None:
    script.build_errors["connection"] = Unavailable("nobody there")
    async with compose(SHARING) as composition:
        for name in ("one", "two"):
            with pytest.raises(Unavailable, match="nobody there"):
                await build(composition, name)


# --- circles ---


async def test_a_circle_is_refused_before_anything_is_built() -> None:
    """The second of the two tests of the reference."""
    text = """
        [blobservices.root]
        type = "pair"
        near = "other"
        far = "other"
        [blobservices.other]
        type = "pair"
        near = "root"
        far = "root"
    """
    path = r"\[blobservices.root\] -> \[blobservices.other\] -> \[blobservices.root\]"
    with pytest.raises(ConfigError, match=f"in a circle: {path}$"):
        compose(text)
    assert built() == []


def hiding(**asks: list[str]) -> str:
    """Entries that ask for others without saying so in advance."""
    return "\n".join(f'[blobservices.{name}]\ntype = "hiding"\nasks = {targets}' for name, targets in asks.items())


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (hiding(root=["root"]), "[blobservices.root] -> [blobservices.root]"),
        (hiding(root=["a"], a=["root"]), "[blobservices.root] -> [blobservices.a] -> [blobservices.root]"),
        (
            hiding(root=["a", "b"], a=["b"], b=["a"]),
            "[blobservices.b] -> [blobservices.a] -> [blobservices.b]",
        ),
        (
            hiding(root=["hiding://?asks=root"]),
            "[blobservices.root] -> [blobservices.root] reference[1] -> [blobservices.root]",
        ),
        (
            hiding(root=["a", "b", "c"], a=["b", "c"], b=["c"], c=["a"]),
            "[blobservices.c] -> [blobservices.a] -> [blobservices.c]",
        ),
    ],
)
async def test_a_circle_that_no_field_tells_of_is_found_and_does_not_wait_for_itself(text: str, path: str) -> None:
    async with compose(text) as composition, asyncio.timeout(10):
        with pytest.raises(ConfigError) as caught:
            await build(composition)
    first, *steps = (
        str(caught.value).removeprefix("store.toml: entries refer to each other in a circle: ").split(" -> ")
    )
    assert steps[-1] == first  # where it begins depends on who asked last
    assert set(steps) == set(path.split(" -> "))


async def test_an_anonymous_entry_that_asks_for_its_like_is_refused() -> None:
    async with compose('[blobservices.root]\ntype = "bottomless"') as composition, asyncio.timeout(10):
        with pytest.raises(ConfigError, match=r"circle: .*\] reference\[1\] -> .*\] reference\[1\] reference\[1\]$"):
            await build(composition)


async def test_builds_that_wait_for_each_other_in_no_circle_are_fine() -> None:
    text = hiding(root=["a", "b", "c"], a=["b", "c"], b=["c"], c=[])
    async with compose(text) as composition, asyncio.timeout(10):
        assert [bare(inner).name for inner in (await build(composition)).inner] == ["a", "b", "c"]


async def test_a_reference_that_no_field_tells_of_and_that_leads_nowhere_is_named() -> None:
    text = hiding(root=["nobody"]) + METADATA
    async with compose(text) as composition:
        with pytest.raises(ConfigError, match=r"\[blobservices.root\] reference\[1\]: there is no .* 'nobody'"):
            await composition.services()


# --- errors ---


@pytest.mark.parametrize("error", [ConfigError("no such bucket"), Unavailable("no such bucket")])
async def test_an_error_names_file_and_entry_once(error: Exception) -> None:
    script.build_errors["b"] = error
    async with compose(CHAIN) as composition:
        for _ in range(2):
            with pytest.raises(type(error)) as caught:
                await build(composition)
            assert str(caught.value) == "store.toml: [blobservices.b]: no such bucket"


async def test_an_error_keeps_what_it_carries() -> None:
    script.build_errors["b"] = CorruptObject("bad index", expected="1", actual="2")
    async with compose(CHAIN) as composition:
        with pytest.raises(CorruptObject, match=r"\[blobservices.b\]: bad index") as caught:
            await build(composition)
    assert (caught.value.expected, caught.value.actual) == ("1", "2")


async def test_an_error_in_an_anonymous_entry_names_the_keys_that_lead_to_it() -> None:
    script.build_errors["root.near"] = ConfigError("no such bucket")
    async with compose('[blobservices.root]\ntype = "pair"\nnear = "plain://"\nfar = "plain://"') as composition:
        with pytest.raises(ConfigError, match=r"^store.toml: \[blobservices.root\] near: no such bucket$"):
            await build(composition)


async def test_an_unknown_exception_passes_as_it_is() -> None:
    script.build_errors["root"] = ZeroDivisionError()
    async with compose('[blobservices.root]\ntype = "plain"') as composition:
        with pytest.raises(ZeroDivisionError):
            await build(composition)


@pytest.mark.parametrize("makes", [dict, MinimalDirectoryService])
async def test_a_model_that_builds_something_else_is_named(makes: type) -> None:
    script.makes = makes
    async with compose('[blobservices.root]\ntype = "plain"') as composition:
        with pytest.raises(ConfigError, match=r"\[blobservices.root\]: PlainBlobs.build made .*no blob service"):
            await build(composition)


# --- frontends ---


async def test_frontends_are_built_with_the_roots() -> None:
    text = '[frontends.a]\ntype = "stub"\n[frontends.b]\ntype = "stub"\n[blobservices.root]\ntype = "plain"' + METADATA
    async with compose(text) as composition:
        frontends = await composition.frontends()
        a, b = frontends.values()
        assert list(frontends) == ["a", "b"]
        assert isinstance(a, TelltaleFrontend)
        assert isinstance(b, TelltaleFrontend)
        assert a.services.blobs is b.services.blobs
        assert built() == ["a", "root", "root directories", "root path infos", "b"]


async def test_an_error_of_a_frontend_names_it() -> None:
    script.build_errors["a"] = Unavailable("port taken")
    async with compose('[frontends.a]\ntype = "stub"') as composition:
        with pytest.raises(Unavailable, match=r"^store.toml: \[frontends.a\]: port taken$"):
            await composition.frontends()


async def test_the_context_gives_services_of_each_kind() -> None:
    text = '[blobservices.root]\ntype = "plain"\n[directoryservices.root]\ntype = "plain"\n'
    text += '[pathinfoservices.root]\ntype = "fetching"\nblob_service = "root"'
    async with compose(text) as composition:
        services = await composition.services()
        fetching: PathInfoService = checked(services).inner
        assert isinstance(fetching, TelltalePathInfos)
        blobs, directories = fetching.inner
        assert isinstance(blobs, BlobService)
        assert isinstance(directories, DirectoryService)
        assert blobs is services.blobs
        assert directories is services.directories
