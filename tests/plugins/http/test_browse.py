from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.directories import names
from plugins.grpc.loopback import memory_services
from plugins.http.browsing import add_path, directory, file, visited
from tvix_store.capabilities import Capabilities
from tvix_store.errors import CorruptObject
from tvix_store.nodes import Node, SymlinkNode
from tvix_store.path_info import PathInfo, PathMetadata, Signature
from tvix_store.testing.fixtures import store_path
from tvix_store_http.markup import quoted
from tvix_store_memory.path_info import MemoryPathInfoService

pytestmark = pytest.mark.anyio

NODE = SymlinkNode(b"nowhere")


async def test_the_front_page_lists_paths_with_links_to_them() -> None:
    async with visited() as (services, visitor):
        await add_path(services, "hello-1.0", NODE, references=(store_path("glibc"),))
        page = await visitor.page("")
        assert f"{visitor.url}/browse/{store_path('hello-1.0')}" in page.links
        assert "1 in all" in page.text


async def test_a_hundred_paths_are_on_a_page() -> None:
    async with visited() as (services, visitor):
        for number in range(203):
            await add_path(services, f"path-{number:03}", NODE)
        names: list[str] = []
        for number in (1, 2, 3):
            page = await visitor.page(f"?q=path&page={number}")
            names += [link.rpartition("-")[2] for link in page.links if "/browse/" in link]
        assert names == [f"{number:03}" for number in range(203)]
        assert f"{visitor.url}/?q=path&page=2" in page.links


@pytest.mark.parametrize("page", ["0", "-1", "x", "", "99999999999999999999", "%C2%B2", "%D9%A3"])
async def test_any_page_number_is_answered(page: str) -> None:
    async with visited() as (services, visitor):
        await add_path(services, "hello", NODE)
        assert "1 in all" in (await visitor.page(f"?page={page}")).text


async def test_a_search_shows_what_matches() -> None:
    async with visited() as (services, visitor):
        for name in ("hello", "help", "world"):
            await add_path(services, name, NODE)
        page = await visitor.page("?q=HEL")
        assert sum("/browse/" in link for link in page.links) == 2
        assert "No path has that" in (await visitor.page("?q=%3Cscript%3E%ff")).text


@pytest.mark.parametrize("form", ["{0}", "/nix/store/{0}", "{0}/bin/a%20b", "{1}"])
async def test_a_store_path_that_is_searched_for_is_shown(form: str) -> None:
    path = store_path("hello")
    async with visited() as (services, visitor):
        bin_ = await directory(services, {b"a b": NODE})
        await add_path(services, "hello", await directory(services, {b"bin": bin_}))
        response, _ = await visitor.ask(f"?q={form.format(path.base_name, path.hash_part)}")
        assert response.status == 302
        url = response.headers["Location"]
        if form == "{1}":
            response, _ = await visitor.ask(url.removeprefix("./"))
            url = f"./browse/{response.headers['Location'].rpartition('/')[2]}"
        assert url.startswith(f"./browse/{path.base_name}")
        await visitor.page(url.removeprefix("./"))


async def test_who_does_not_ask_for_html_gets_a_short_text() -> None:
    async with visited() as (_, visitor):
        response, body = await visitor.ask("", Accept="*/*")
        assert response.content_type == "text/plain"
        assert b"nix copy --from" in body
        assert len(body) < 400


class _WithoutList(MemoryPathInfoService):
    @property
    def capabilities(self) -> Capabilities:
        return Capabilities()


async def test_a_store_that_cannot_list_asks_for_a_path() -> None:
    async with visited(memory_services(path_infos=_WithoutList())) as (services, visitor):
        path_info = await add_path(services, "hello", NODE)
        assert "cannot list" in (await visitor.page("")).text
        assert "neither a store path nor" in (await visitor.page("?q=hello")).text
        response, _ = await visitor.ask(f"?q={path_info.store_path}")
        assert response.status == 302
        assert "cannot list" in (await visitor.page(f"browse/{path_info.store_path}")).text


async def test_a_path_page_says_what_is_known() -> None:
    deriver, signature = store_path("made"), Signature("key-1", bytes(64))
    async with visited() as (services, visitor):
        glibc = await add_path(services, "glibc", NODE)
        hello = await add_path(
            services, "hello", NODE, references=(glibc.store_path,), deriver=deriver, signatures=(signature,)
        )
        page = await visitor.page(f"browse/{hello.store_path}")
        for text in (hello.store_path.absolute(), f"{deriver}.drv", str(signature), f"{hello.nar_size} bytes"):
            assert text in page.text
        assert f"{visitor.url}/browse/{glibc.store_path}" in page.links
        assert f"{visitor.url}/browse/{hello.store_path}" in (await visitor.page(f"browse/{glibc.store_path}")).links


async def test_a_path_page_leads_to_the_files_of_the_binary_cache() -> None:
    async with visited() as (services, visitor):
        path_info = await add_path(services, "hello", await file(services, b"contents"))
        page = await visitor.page(f"browse/{path_info.store_path}")
        (narinfo,) = [link for link in page.links if link.endswith(".narinfo")]
        assert path_info.store_path.absolute().encode() in (await visitor.ask(narinfo))[1]
        (nar,) = [link for link in page.links if "/nar/" in link]
        assert b"contents" in (await visitor.ask(nar))[1]


class _FetchesContents(MemoryPathInfoService):
    """Knows paths without having their contents, as a service does that has an upstream."""

    fetched = 0

    async def get_metadata(self, digest: bytes) -> PathMetadata | None:
        known = await super().get(digest)
        if known is None:
            return None
        return PathMetadata(store_path=known.store_path, nar_size=known.nar_size, nar_sha256=known.nar_sha256)

    async def get(self, digest: bytes) -> PathInfo | None:
        self.fetched += 1
        return await super().get(digest)


async def test_looking_at_a_path_does_not_fetch_its_contents() -> None:
    fetching = _FetchesContents()
    async with visited(memory_services(path_infos=fetching)) as (services, visitor):
        path_info = await add_path(services, "hello", await directory(services, {b"bin": NODE}))
        page = await visitor.page(f"browse/{path_info.store_path}")
        assert "not been fetched" in page.text
        assert fetching.fetched == 0
        assert "bin" in (await visitor.page(f"browse/{path_info.store_path}/")).text


async def test_every_link_leads_somewhere() -> None:
    async with visited() as (services, visitor):
        inner = await directory(services, {b"file": await file(services, b"text"), b"empty": await file(services, b"")})
        root = await directory(
            services, {b"dir": inner, b"up": SymlinkNode(b"dir/../dir/file"), b"none": await directory(services, {})}
        )
        hello = await add_path(services, "hello", root)
        other = SymlinkNode(hello.store_path.absolute().encode() + b"/dir")
        await add_path(services, "world", await directory(services, {b"other": other}), references=(hello.store_path,))
        seen, pending = set[str](), [f"{visitor.url}/"]
        while pending:
            if (url := pending.pop()) in seen:
                continue
            seen.add(url)
            response, _ = await visitor.ask(url)
            assert response.status == 200, url
            if response.content_type == "text/html":
                pending += [link for link in (await visitor.page(url)).links if "/nar/" not in link]
        assert len(seen) > 15


async def test_a_symlink_leads_to_where_it_points_in_the_store() -> None:
    async with visited() as (services, visitor):
        other = store_path("other")
        targets = {
            b"absolute": other.absolute().encode() + b"/a b",
            b"relative": b"../" + other.base_name.encode() + b"/a%20b",
            b"outside": b"/etc/passwd",
            b"above": b"../../../etc",
        }
        root = await directory(services, {name: SymlinkNode(target) for name, target in targets.items()})
        path = (await add_path(services, "hello", root)).store_path
        links = (await visitor.page(f"browse/{path}/")).links
        assert f"{visitor.url}/browse/{other}/a%20b" in links
        assert f"{visitor.url}/browse/{other}/a%2520b" in links
        assert not [link for link in links if "etc" in link]


async def test_a_way_through_a_symlink_is_followed() -> None:
    async with visited() as (services, visitor):
        lib = await directory(services, {b"a\xff": await file(services, b"text")})
        path = await add_path(
            services, "hello", await directory(services, {b"lib": lib, b"lib64": SymlinkNode(b"lib")})
        )
        for kind in ("browse", "raw"):
            response, _ = await visitor.ask(f"{kind}/{path.store_path}/lib64/a%ff")
            assert response.status == 302
            assert response.headers["Location"] == f"../../../{kind}/{path.store_path}/lib/a%FF"


async def test_a_large_directory_has_pages() -> None:
    async with visited() as (services, visitor):
        root = await directory(services, {b"%05d" % number: NODE for number in range(2500)})
        path = (await add_path(services, "hello", root)).store_path
        page = await visitor.page(f"browse/{path}/?page=3")
        assert "02499" in page.text
        assert "01999" not in page.text
        assert f"{visitor.url}/browse/{path}/" in (await visitor.page(f"browse/{path}")).links


@pytest.mark.parametrize(
    "location",
    [
        "browse/{0}/absent",
        "browse/{0}/file/below",
        "browse/{0}/%2e%2e%2fx",
        "browse/{0}/a%00b",
        "browse/{0}/" + "x" * 300,
        "browse/{1}",
        "browse/{1}/bin",
        "browse/x",
        "browse/",
        "browse/%ff",
        "raw/{0}/absent",
        "raw/{1}/bin",
        "raw/x",
    ],
)
async def test_what_is_not_there_is_not_found(location: str) -> None:
    async with visited() as (services, visitor):
        root = await directory(services, {b"file": await file(services, b"")})
        path = (await add_path(services, "hello", root)).store_path
        page = await visitor.page(location.format(path, store_path("absent")), 404)
        assert "Not found" in page.text


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(["browse", "raw"]),
    base=st.sampled_from([str(store_path("hello")), store_path("hello").hash_part]) | st.text("%/0aZ.-x", max_size=40),
    parts=st.lists(st.sampled_from([b"dir", b"loop", b"..", b"file"]) | names, max_size=5),
    query=st.sampled_from(["", "?page=2", "?download", "?page=%ff&page=x"]),
)
def test_any_path_is_answered(kind: str, base: str, parts: list[bytes], query: str) -> None:
    async def answer() -> int:
        async with visited() as (services, visitor):
            inner = await directory(services, {b"loop": SymlinkNode(b"loop/x"), b"file": await file(services, b"text")})
            await add_path(services, "hello", await directory(services, {b"dir": inner}))
            response, _ = await visitor.ask(f"{kind}/{base}/{quoted(*parts)}{query}")
            return response.status

    assert asyncio.run(answer()) in (200, 302, 404)


async def test_a_wrong_name_is_set_right() -> None:
    async with visited() as (services, visitor):
        path = (await add_path(services, "hello", NODE)).store_path
        response, _ = await visitor.ask(f"browse/{path.hash_part}-other")
        assert (response.status, response.headers["Location"]) == (302, f"../browse/{path}")


async def test_missing_contents_are_an_error_rather_than_a_page() -> None:
    async with visited() as (services, visitor):
        node = await file(services, b"contents")
        root = await directory(services, {b"dir": await directory(services, {}), b"file": node})
        path = (await add_path(services, "hello", root)).store_path
        await services.blobs.delete([node.digest])
        await services.directories.delete([(await directory(services, {})).digest])
        for location in ("browse/{}/file", "browse/{}/dir", "raw/{}/file"):
            for method in ("GET", "HEAD"):
                response, _ = await visitor.ask(location.format(path), method)
                assert response.status == 500, (location, method)


class _CannotFinish(MemoryPathInfoService):
    async def list(self) -> AsyncIterator[PathInfo]:
        raise CorruptObject("one of them is damaged")
        yield


async def test_a_path_can_be_seen_although_others_are_damaged() -> None:
    async with visited(memory_services(path_infos=_CannotFinish())) as (services, visitor):
        path = (await add_path(services, "hello", NODE)).store_path
        assert "one of them is damaged" in (await visitor.page(f"browse/{path}")).text
        assert (await visitor.ask(""))[0].status == 500


class _TakesItsTime(MemoryPathInfoService):
    def __init__(self) -> None:
        super().__init__()
        self.may_end = asyncio.Event()

    async def list(self) -> AsyncIterator[PathInfo]:
        async for path_info in super().list():
            yield path_info
        await self.may_end.wait()


async def test_while_the_store_is_listed_pages_say_so() -> None:
    slow = _TakesItsTime()
    async with visited(memory_services(path_infos=slow)) as (services, visitor):
        path = (await add_path(services, "hello", NODE)).store_path
        assert "1 paths so far" in (await visitor.page("")).text
        assert (await visitor.ask(""))[0].headers["Refresh"] == "2"
        assert "1 paths so far" in (await visitor.page(f"browse/{path}")).text
        slow.may_end.set()
        assert "1 in all" in (await visitor.page("")).text


async def test_pages_run_no_scripts_and_are_in_no_frame() -> None:
    async with visited() as (services, visitor):
        path = (await add_path(services, "hello", NODE)).store_path
        for location in ("", f"browse/{path}", f"browse/{path}/", "browse/absent"):
            response, body = await visitor.ask(location)
            policy = response.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "script-src" not in policy
            assert "frame-ancestors 'none'" in policy
            assert b"<script" not in body


async def test_pages_work_below_the_prefix_of_a_proxy() -> None:
    async with visited() as (services, visitor):
        root: Sequence[tuple[bytes, Node]] = [(b"sub", await directory(services, {b"x": NODE}))]
        path = (await add_path(services, "hello", await directory(services, dict(root)))).store_path
        for location in ("", f"browse/{path}", f"browse/{path}/sub/", "browse/absent/a/b"):
            _, body = await visitor.ask(location)
            assert b'href="/' not in body
            assert b'action="/' not in body


async def test_the_style_sheet_of_a_page_can_be_kept_for_good() -> None:
    async with visited() as (_, visitor):
        _, body = await visitor.ask("")
        url = body.partition(b'rel="stylesheet" href="')[2].partition(b'"')[0].decode()
        response, style = await visitor.ask(url.removeprefix("./"))
        assert response.content_type == "text/css"
        assert "immutable" in response.headers["Cache-Control"]
        assert b"prefers-color-scheme: dark" in style
