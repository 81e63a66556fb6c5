from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fakes import plugin as fake_plugin
from fakes.plugin import ManyBlobs, PairBlobs, PlainBlobs, script
from tvix_store.cli.logs import keep_out, report, set_up_logging
from tvix_store.composition import Composition
from tvix_store.config import Kind
from tvix_store.config_graph import Drawing
from tvix_store.errors import ConfigError, Unavailable
from tvix_store.registry import Registry
from tvix_store.secrets import References
from tvix_store.store_config import StoreConfig

ENVIRONMENT = {"NAME": "disk", "TOKEN": "hunter2", "EMPTY": "", "ODD": 'hun"ter\\2 ${NAME}'}


@pytest.fixture
def registry() -> Registry:
    registry = Registry()
    registry.add(fake_plugin)
    return registry


class Loader:
    """Loads text as a file of the name ``store.toml``."""

    def __init__(self, registry: Registry, folder: Path) -> None:
        self.registry = registry
        self.path = folder / "store.toml"

    def load(self, text: str, environment: Mapping[str, str] = ENVIRONMENT) -> StoreConfig:
        self.path.write_text(text)
        return StoreConfig.load(self.path, self.registry, environment)

    def blobs(self, text: str) -> Any:
        return self.load(f"[blobservices.root]\n{text}").entries[Kind.BLOB]["root"]

    def error(self, text: str) -> str:
        with pytest.raises(ConfigError) as caught:
            self.load(text).check(self.registry)
        message = str(caught.value)
        assert "\n" not in message
        assert message.startswith(f"{self.path}: ")
        return message.removeprefix(f"{self.path}: ")


@pytest.fixture
def loader(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loader:
    monkeypatch.chdir(tmp_path)
    return Loader(registry, tmp_path)


# --- what is put in ---


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${NAME}", "disk"),
        ("a-${NAME}-${NAME}.${TOKEN}", "a-disk-disk.hunter2"),
        ("$${NAME}", "${NAME}"),
        ("$$${NAME}", "$${NAME}"),
        ("$NAME $ {NAME} $$", "$NAME $ {NAME} $$"),
        ("x${EMPTY}", "x"),
        ("${ODD}", 'hun"ter\\2 ${NAME}'),
    ],
)
def test_variables_are_put_in_once(loader: Loader, written: str, value: str) -> None:
    entry = loader.blobs(f"type = 'many'\nfallback = '{written}'")
    assert entry.fallback == value


def test_variables_are_put_into_lists_and_tables(loader: Loader) -> None:
    entry = loader.blobs("type = 'many'\nmembers = ['a', '${NAME}']\nby_name = {x = '${NAME}', y = 'b'}")
    assert entry == ManyBlobs(type="many", members=["a", "disk"], by_name={"x": "disk", "y": "b"})


@pytest.mark.parametrize(
    ("contents", "value"),
    [
        ("hunter2", "hunter2"),
        ("hunter2\n", "hunter2"),
        ("a\n\n", "a\n"),
        ("a\r\n", "a"),
        (" a ", " a "),
        ("${X}", "${X}"),
    ],
)
def test_a_file_is_put_in_without_the_newline_at_its_end(loader: Loader, contents: str, value: str) -> None:
    Path("secret").write_text(contents, newline="")
    secret = loader.blobs("type = 'plain'\nsecret = { file = 'secret' }").secret
    assert secret.get_secret_value() == value


def test_files_are_put_into_lists_and_optional_fields(loader: Loader) -> None:
    Path("disk").write_text("one")
    entry = loader.blobs("type = 'many'\nmembers = [{ file = 'disk' }]\nfallback = { file = '${NAME}' }")
    assert entry == ManyBlobs(type="many", members=["one"], fallback="one")


def test_where_a_table_is_wanted_one_with_the_key_file_is_a_table(loader: Loader) -> None:
    assert loader.blobs("type = 'many'\nby_name = { file = 'disk' }") == ManyBlobs(
        type="many", by_name={"file": "disk"}
    )
    Path("disk").write_text("one")
    entry = loader.blobs("type = 'many'\nby_name = { a = { file = 'disk' } }")
    assert entry == ManyBlobs(type="many", by_name={"a": "one"})


# --- what is wrong ---


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("near = 'x-${ABSENT}'", "[blobservices.root] near: the environment variable ABSENT is not set"),
        (
            "near = '${NAME'",
            "[blobservices.root] near: '${NAME' is no reference; write ${NAME}, or $${ to mean ${ itself",
        ),
        ("near = '${A B}'", "[blobservices.root] near: '${A B}' is no reference; write ${NAME}, or $${ to mean"),
        ("near = { file = 'absent' }", "[blobservices.root] near: the file absent cannot be read: No such file or"),
        ("near = { file = '.' }", "[blobservices.root] near: the file . cannot be read: Is a directory"),
        ("near = { file = 'empty' }", "[blobservices.root] near: the file empty is empty"),
        ("near = { file = 'binary' }", "[blobservices.root] near: the file binary is not text"),
        ("near = { file = 'large' }", "[blobservices.root] near: the file large has more than 65536 bytes"),
        ("near = { file = '${ABSENT}/a' }", "[blobservices.root] near: the environment variable ABSENT is not set"),
        ("near = { file = 'disk', mode = 'r' }", "near: input should be a valid string"),
        ("near = { file = 3 }", "near: input should be a valid string"),
    ],
)
def test_what_cannot_be_put_in_is_named(loader: Loader, line: str, message: str) -> None:
    Path("empty").write_text("\n")
    Path("binary").write_bytes(b"\xff")
    Path("large").write_bytes(b"x" * 70_000)
    assert message in loader.error(f"[blobservices.root]\ntype = 'pair'\nfar = 'a'\n{line}")


def test_the_key_in_a_list_or_table_is_named(loader: Loader) -> None:
    text = "[blobservices.root]\ntype = 'many'\n"
    assert loader.error(f"{text}members = ['a', '${{X}}']").startswith("[blobservices.root] members[1]: the env")
    assert loader.error(f"{text}by_name.a = '${{X}}'").startswith("[blobservices.root] by_name.a: the env")


def test_a_type_is_not_put_in(loader: Loader) -> None:
    assert "unknown type '${NAME}'" in loader.error("[blobservices.root]\ntype = '${NAME}'")


# --- what is shown ---


@pytest.mark.parametrize(
    "text",
    [
        "[blobservices.root]\ntype = 'pair'\nnear = '${TOKEN}'\nfar = 'plain://'",
        "[blobservices.root]\ntype = 'pair'\nnear = 'x://${TOKEN}@${TOKEN}:${TOKEN}'\nfar = 'plain://'",
        "[blobservices.root]\ntype = 'pair'\nnear = 'plain://?${TOKEN}=1'\nfar = 'plain://'",
        "[blobservices.root]\ntype = 'pair'\nnear = '${ODD}'\nfar = 'plain://'",
        "[blobservices.root]\ntype = 'pair'\nnear = { file = 'secret' }\nfar = 'plain://'",
        "[blobservices.root]\ntype = 'pair'\nnear = 'pair://?near=${ODD}&far=x'\nfar = 'plain://'",
    ],
)
def test_values_are_not_in_errors(loader: Loader, text: str) -> None:
    Path("secret").write_text("hunter2\nhunter2")
    message = loader.error(text)
    assert "hun" not in message
    assert "$" in message or "file" in message


def test_what_is_written_is_kept(loader: Loader) -> None:
    Path("secret").write_text("hunter2")
    config = loader.load(
        "[blobservices.root]\ntype = 'many'\nmembers = ['a', '${NAME}', '$${NAME}', { file = 'secret' }]"
    )
    dumped = {"blobservices": {"root": config.entries[Kind.BLOB]["root"].model_dump()}}
    members = config.references.as_written(dumped)["blobservices"]["root"]["members"]
    assert members == ["a", "${NAME}", "$${NAME}", {"file": "secret"}]


@pytest.mark.parametrize("token", ["hunter2", "hu"])
def test_a_drawing_has_no_url_with_a_value_in_it(loader: Loader, registry: Registry, token: str) -> None:
    inner = "plain%3A%2F%2F${TOKEN}"
    text = f"[blobservices.root]\ntype = 'pair'\nnear = 'pair://?near={inner}&far={inner}'\nfar = 'plain://?max_bytes='"
    config = loader.load(text.replace("?max_bytes=", "far"), {"TOKEN": token})
    drawing = Drawing(config, config.check(registry))
    for shown in (drawing.mermaid(), drawing.dot()):
        assert token not in shown.replace("thunk", "")
        assert "plain://far" in shown
        assert "(pair)" in shown


@pytest.mark.anyio
async def test_values_are_not_in_what_a_build_says(loader: Loader, registry: Registry) -> None:
    script.build_errors["root"] = Unavailable("cannot reach hunter2:80")
    config = loader.load("[blobservices.root]\ntype = 'plain'\nsecret = '${TOKEN}'")
    try:
        async with Composition(config, registry) as composition:
            with pytest.raises(Unavailable, match=r"cannot reach \$\{TOKEN\}:80$"):
                await composition.entries()
    finally:
        script.clear()


def test_short_values_are_left_in_messages() -> None:
    references = References(values={"a": "${A}", "1234": "${B}"})
    assert references.hide("a name and 1234") == "a name and ${B}"


@pytest.mark.parametrize(
    "text",
    [
        "https://hunter3:***@hunter5.example/x?y=1",
        "https://hunter3:hunter4@hunter5.example/x",
        "hunter5.example:443 does not answer",
        "hunter3:hunter4@hunter5.example",
        "bad user hunter3, bad password hunter4",
    ],
)
def test_parts_of_a_url_are_hidden(text: str) -> None:
    references = References(values={"https://hunter3:hunter4@hunter5.example/x?y=1": "${URL}"})
    assert "hunter" not in references.hide(text)
    assert "${URL}" in references.hide(text)


def test_what_is_no_url_is_hidden_as_a_whole() -> None:
    assert References(values={"http://[x": "${URL}"}).hide("bad http://[x") == "bad ${URL}"


def test_a_longer_value_is_hidden_before_one_that_is_a_part_of_it() -> None:
    references = References(values={"hunter": "${A}", "hunter2": "${B}"})
    assert references.hide("hunter2 hunter") == "${B} ${A}"


@pytest.fixture
def _own_handlers() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


@pytest.mark.usefixtures("_own_handlers")
@pytest.mark.parametrize("format_", ["text", "json"])
def test_values_are_not_logged(capsys: pytest.CaptureFixture[str], format_: str) -> None:
    value = ENVIRONMENT["ODD"]
    set_up_logging("info", format_)
    keep_out(References(values={value: "${TOKEN}"}).hide)
    try:
        raise ValueError(value)
    except ValueError:
        logging.getLogger("x").exception("no answer from %s", value)
    report(f"cannot reach {value}")
    shown = capsys.readouterr().err
    assert "hun" not in shown
    assert shown.count("from ${TOKEN}") == 1
    assert shown.count("reach ${TOKEN}") == 1
    assert shown.startswith("{") is (format_ == "json")


def test_models_are_told_apart_by_what_was_put_in(loader: Loader) -> None:
    assert loader.blobs("type = 'pair'\nnear = '${NAME}'\nfar = '${NAME}'") == PairBlobs(
        type="pair", near="disk", far="disk"
    )
    assert loader.blobs("type = 'plain'\nmax_bytes = 3") == PlainBlobs(type="plain", max_bytes=3)
