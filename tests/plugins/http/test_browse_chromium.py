"""What a real browser makes of the pages."""

from __future__ import annotations

import os
import shutil
from html import unescape
from pathlib import Path

import pytest

from plugins.http.browsing import add_path, directory, file, visited
from plugins.http.chromium import dumped, opened_tab
from tvix_store.testing.fixtures import contents

pytestmark = pytest.mark.anyio

SCRIPT = b"<script>document.documentElement.append('it ' + 'ran')</script>"
NAMES = {
    b"<img src=x onerror=document.body.append('it'+'ran')>": "<img src=x onerror=document.body.append('it'+'ran')>",
    b'"><script>document.body.append("it"+"ran")': '"><script>document.body.append("it"+"ran")',
    b"new\nline": "new\\x0aline",
    b"100%25 #?&": "100%25 #?&",
    b"\xff\xe9": "\\xff\\xe9",
}


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of ``chromium``. Where CI installed it, its absence is a failure rather than a skip."""
    path = shutil.which("chromium")
    if path is None:
        message = "chromium missing: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return path


async def test_it_shows_the_list_and_a_path(chromium: str, tmp_path: Path) -> None:
    async with visited() as (services, visitor):
        root = await directory(services, {b"README": await file(services, b"text")})
        path = (await add_path(services, "hello-1.0", root)).store_path
        source = await dumped(chromium, tmp_path, f"{visitor.url}/")
        assert f'<a href="./browse/{path}">hello-1.0</a>' in source
        source = await dumped(chromium, tmp_path, f"{visitor.url}/browse/{path}")
        assert f"<code>{path.absolute()}</code>" in source
        assert "README" in source


async def test_hostile_names_are_text(chromium: str, tmp_path: Path) -> None:
    async with visited() as (services, visitor):
        root = await directory(services, {name: await file(services, b"text") for name in NAMES})
        path = (await add_path(services, "path", root)).store_path
        source = await dumped(chromium, tmp_path, f"{visitor.url}/browse/{path}/")
        text = unescape(source.replace('<span class="escape">', "").replace("</span>", ""))
        assert [shown for shown in NAMES.values() if f"<bdi>{shown}</bdi>" not in text] == []
        assert "itran" not in text


async def test_hostile_names_can_be_clicked(chromium: str, tmp_path: Path) -> None:
    async with visited() as (services, visitor), opened_tab(chromium, tmp_path) as tab:
        root = await directory(services, {name: await file(services, b"contents of " + name) for name in NAMES})
        path = (await add_path(services, "path", root)).store_path
        for number, name in enumerate(sorted(NAMES)):
            await tab.open(f"{visitor.url}/browse/{path}/")
            await tab.evaluate(f"document.querySelectorAll('td.name > a:first-child')[{number}].click()")
            await tab.event("Page.loadEventFired")
            text = await tab.evaluate("document.querySelector('pre, .none').innerText")
            assert text.strip() == (f"contents of {name.decode()}" if name.isascii() else "This is no text.")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        (b"page.html", b"<!DOCTYPE html><p>seen</p>" + SCRIPT),
        (b"page.xhtml", b'<html xmlns="http://www.w3.org/1999/xhtml"><body>seen' + SCRIPT + b"</body></html>"),
        (b"picture.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><text>seen</text>' + SCRIPT + b"</svg>"),
        (b"page", b"<html><p>seen</p>" + SCRIPT),
    ],
)
async def test_stored_pages_run_no_scripts(chromium: str, tmp_path: Path, name: bytes, data: bytes) -> None:
    async with visited() as (services, visitor):
        root = await directory(services, {name: await file(services, data)})
        path = (await add_path(services, "path", root)).store_path
        source = await dumped(chromium, tmp_path, f"{visitor.url}/raw/{path}/{name.decode()}")
        assert "seen" in source
        assert "it ran" not in source


async def test_scripts_would_run_elsewhere(chromium: str, tmp_path: Path) -> None:
    assert "it ran" in await dumped(chromium, tmp_path, f"data:text/html,{SCRIPT.decode()}")


async def test_a_file_is_downloaded(chromium: str, tmp_path: Path) -> None:
    data, name = contents(3_000_000), 'a <b> "c" é.bin'
    async with visited() as (services, visitor), opened_tab(chromium, tmp_path / "profile") as tab:
        root = await directory(services, {name.encode(): await file(services, data)})
        path = (await add_path(services, "path", root)).store_path
        folder = tmp_path / "downloads"
        await tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder), eventsEnabled=True)
        await tab.open(f"{visitor.url}/browse/{path}/")
        await tab.evaluate("document.querySelector('a.get').click()")
        await tab.event("Browser.downloadProgress", state="completed")
        (downloaded,) = folder.iterdir()
        assert downloaded.read_bytes() == data
        assert "é.bin" in downloaded.name


async def test_the_style_sheet_applies_in_light_and_dark(chromium: str, tmp_path: Path) -> None:
    async with visited() as (services, visitor), opened_tab(chromium, tmp_path) as tab:
        await add_path(services, "path", await file(services, b"text"))
        grounds = []
        for scheme in ("light", "dark"):
            await tab.open(f"{visitor.url}/")
            scheme_feature = {"name": "prefers-color-scheme", "value": scheme}
            await tab.call("Emulation.setEmulatedMedia", features=[scheme_feature])
            assert await tab.evaluate("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"
            grounds.append(await tab.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert grounds == ["rgb(255, 255, 255)", "rgb(13, 17, 23)"]


async def test_a_search_is_sent(chromium: str, tmp_path: Path) -> None:
    async with visited() as (services, visitor), opened_tab(chromium, tmp_path) as tab:
        for name in ("hello", "world"):
            await add_path(services, name, await file(services, b"text"))
        await tab.open(f"{visitor.url}/")
        await tab.evaluate("document.querySelector('input').value = 'WOR'; document.querySelector('button').click()")
        await tab.event("Page.loadEventFired")
        assert await tab.evaluate("[...document.querySelectorAll('td.name a')].map(a => a.innerText)") == ["world"]
