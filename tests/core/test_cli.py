"""The program in this process; ``tests/e2e/test_cli.py`` runs it as users do."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tvix_store.cli import config as config_command
from tvix_store.cli.copy import parse_reference_graph
from tvix_store.cli.main import main
from tvix_store.config import Kind
from tvix_store.errors import InvalidObject
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.nar_dump import dump_path
from tvix_store.testing.fixtures import store_path
from vectors.nar import TREES, Dir, File, Link, Tree, encode, materialise
from vectors.nix_store_paths import TREE_PATHS

SOURCE_PATHS = {name: f"/nix/store/{path}" for method, name, path in TREE_PATHS if method == "fixed:r:sha256"}


@dataclass(frozen=True)
class Result:
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def error(self, code: int = 1) -> str:
        """The one line of an error."""
        assert (self.code, self.out) == (code, b""), self
        assert self.err.startswith("error: ")
        assert self.err.count("\n") == 1
        return self.err.removeprefix("error: ").rstrip("\n")


Program = Callable[..., Result]


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


MIXED = SOURCE_PATHS["mixed"]

# --- the program as a whole ---


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_version(program: Program, flag: str) -> None:
    result = program(flag)
    assert (result.code, result.err) == (0, "")
    assert result.text.startswith("tvix-store, version ")


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["import", "-h"], ["nar", "dump", "--help"]])
def test_help_is_on_stdout(program: Program, arguments: list[str]) -> None:
    result = program(*arguments)
    assert (result.code, result.err) == (0, "")
    assert result.text.startswith("Usage: tvix-store")


@pytest.mark.parametrize(
    "arguments", [[], ["nonsense"], ["--nonsense"], ["ls", "--nonsense"], ["nar"], ["cat"], ["nar", "hash", "a", "b"]]
)
def test_wrong_usage_is_2(program: Program, arguments: list[str]) -> None:
    result = program(*arguments)
    assert (result.code, result.out) == (2, b"")
    assert "Usage: tvix-store" in result.err


@pytest.mark.parametrize("flag", ["--otlp=false", "--otlp=true", "--otlp"])
def test_flags_of_the_reference_are_accepted(program: Program, flag: str) -> None:
    assert program(flag, "plugins").code == 0


def test_every_command_says_what_it_does(program: Program) -> None:
    commands = ["cat", "config", "copy", "daemon", "import", "ls", "nar", "plugins", "run"]
    lines = program("--help").text.partition("Commands:\n")[2].splitlines()
    assert [line.split()[0] for line in lines] == commands
    assert all(line.endswith(".") for line in lines)


def test_a_bug_is_one_line_unless_debugging(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError("by\nzero")

    monkeypatch.setattr(config_command, "json_schema", fail)
    assert program("config", "schema").error() == "ZeroDivisionError: by\\nzero (a bug; --debug shows more)"
    with pytest.raises(ZeroDivisionError):
        program("--debug", "config", "schema")


def test_debugging_shows_where_an_error_came_from(program: Program) -> None:
    result = program("--debug", "config", "check", "/absent.toml")
    assert result.code == 2
    assert "Traceback" in result.err
    assert result.err.endswith("error: /absent.toml: No such file or directory\n")


def test_errors_are_json_where_log_lines_are(program: Program) -> None:
    result = program("--log-format", "json", "config", "check", "/absent.toml")
    assert result.code == 2
    line = json.loads(result.err)
    assert (line["level"], line["message"]) == ("error", "/absent.toml: No such file or directory")


# --- config ---

GOOD = """
[blobservices.root]
type = "memory"
[directoryservices.root]
type = "memory"
[pathinfoservices.root]
type = "grpc"
url = "grpc+http://[::1]:1"
"""


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "given.toml"
        path.write_text(text)
        return path

    return write


Toml = Callable[[str], Path]


def test_config_check_of_a_good_file(program: Program, toml: Toml) -> None:
    path = toml(GOOD)
    assert program("config", "check", path).text == f"{path}: 3 entries, 0 references, no mistakes\n"


def test_config_check_can_open_the_stores(program: Program, config: Path, tmp_path: Path) -> None:
    assert program("config", "check", "--build", config).code == 0
    assert (tmp_path / "state" / "store.sqlite").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"memory"', '"memroy"', "[blobservices.root]: unknown type 'memroy' of blob service; did you mean 'memory'?"),
        ("[blobservices", "[blobservice", "unknown table [blobservice]; did you mean 'blobservices'?"),
        ("url =", "ulr =", "[pathinfoservices.root]: url is missing; unknown key 'ulr'; did you mean 'url'?"),
        ("[blobservices.root]", "[blobservices.rot]", "no [blobservices.root]; did you mean 'rot'"),
        ("grpc+http", "http", "[pathinfoservices.root]: url: "),
    ],
)
def test_config_check_of_a_mistake(program: Program, toml: Toml, old: str, new: str, message: str) -> None:
    path = toml(GOOD.replace(old, new, 1))
    assert program("config", "check", path).error(2).startswith(f"{path}: {message}")


def test_config_show_fills_in_the_defaults(program: Program, config: Path) -> None:
    shown = tomllib.loads(program("config", "show", config).text)
    assert shown["blobservices"]["root"]["durability"] == "none"
    assert shown["blobservices"]["root"]["max_readers"] == 4


def test_what_config_show_prints_means_the_same(program: Program, toml: Toml) -> None:
    shown = program("config", "show", toml(GOOD)).text
    assert program("config", "show", toml(shown)).text == shown


def test_config_show_without_a_file_shows_the_embedded_default(program: Program, tmp_path: Path) -> None:
    shown = tomllib.loads(program("config", "show").text)
    assert shown["pathinfoservices"]["root"]["path"] == str(tmp_path / "xdg" / "tvix-store" / "store.sqlite")
    assert shown["frontends"]["grpc"]["listen"] == "localhost:8000"


def test_config_show_masks_secrets() -> None:
    masked = config_command._masked({"urls": ["s3://a:b@c"], "n": 1})
    assert masked == {"urls": ["s3://a:***@c"], "n": 1}


def test_config_schema_is_json(program: Program) -> None:
    schema = json.loads(program("config", "schema").text)
    assert {"MemoryBlobServiceConfig", "GrpcFrontendConfig"} <= set(schema["$defs"])


def test_config_graph(program: Program, toml: Toml) -> None:
    path = toml(GOOD + '[frontends.main]\ntype = "grpc"\n')
    mermaid = program("config", "graph", path).lines
    assert mermaid[0] == "flowchart LR"
    assert '        n0["root (memory)"]' in mermaid
    assert "    n3 -->|serves| n0" in mermaid
    dot = program("config", "graph", "--format", "dot", path).lines
    assert (dot[0], dot[-1]) == ("digraph {", "}")
    assert '    n3 -> n2 [label="serves"];' in dot


def test_a_composition_of_snix_loads_unchanged(program: Program, toml: Toml) -> None:
    path = toml(GOOD + '[blobservices.remote]\nurl = "grpc+unix:///run/snix.sock"\ntype = "grpc"\n')
    assert program("config", "check", path).code == 0


def test_a_composition_of_tvix_loads_unchanged(program: Program, toml: Toml) -> None:
    assert program("config", "check", toml(GOOD.replace(".root]", ".default]"))).code == 0


# --- plugins ---


def test_plugins(program: Program) -> None:
    result = program("plugins")
    rows = [line.split("  ") for line in result.lines]
    assert result.code == 0
    assert result.lines[0].split() == ["TAG", "INTERFACE", "PACKAGE", "VERSION", "STATE"]
    assert {row[0] for row in rows[1:]} >= {"grpc", "memory", "sqlite"}
    assert {row[-1] for row in rows[1:]} == {"ok"}


def test_a_broken_plugin_is_listed(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = tmp_path / "broken_store-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-store\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tvix_store]\nbroken = a_module_that_nobody_has\n")
    monkeypatch.syspath_prepend(tmp_path)
    result = program("plugins")
    (line,) = [line for line in result.lines if "broken-store" in line]
    assert result.code == 1
    assert line.endswith("broken: broken: ModuleNotFoundError: No module named 'a_module_that_nobody_has'")


# --- import ---


@pytest.mark.parametrize("name", TREES)
def test_import_prints_the_store_path(program: Program, config: Path, tmp_path: Path, name: str) -> None:
    result = program("import", "--config", config, materialise(TREES[name], tmp_path / name))
    assert (result.code, result.text, result.err) == (0, f"{SOURCE_PATHS[name]}\n", "")


def test_import_of_several_paths_keeps_their_order(program: Program, config: Path, tmp_path: Path) -> None:
    names = ["mixed", "hello", "link", "empty-dir"]
    paths = [materialise(TREES[name], tmp_path / name) for name in names]
    assert program("import", "--config", config, *paths).lines == [SOURCE_PATHS[name] for name in names]


def test_import_of_nothing(program: Program, config: Path) -> None:
    assert program("import", "--config", config) == Result(0, b"", "")


def test_import_under_another_name(program: Program, config: Path, tmp_path: Path) -> None:
    path = materialise(TREES["hello"], tmp_path / "not a good name")
    assert program("import", "--config", config, "--name", "hello", path).lines == [SOURCE_PATHS["hello"]]


@pytest.mark.parametrize("end", ["hello", "hello/", "x/../hello", "./hello"])
def test_import_takes_the_name_from_the_last_component(
    program: Program, config: Path, tmp_path: Path, end: str
) -> None:
    (tmp_path / "x").mkdir()
    materialise(TREES["hello"], tmp_path / "hello")
    assert program("import", "--config", config, f"{tmp_path}/{end}").lines == [SOURCE_PATHS["hello"]]


@pytest.mark.parametrize("path", [".", "..", "/", "a/..", "a b", "a\udcff", "x" * 212])
def test_import_of_a_path_without_a_good_name_stores_nothing(
    program: Program, config: Path, tmp_path: Path, path: str
) -> None:
    good = materialise(TREES["hello"], tmp_path / "hello")
    assert "name" in program("import", "--config", config, good, path).error()
    assert not (tmp_path / "state").exists()


def test_import_with_one_name_for_two_paths_is_wrong_usage(program: Program, config: Path) -> None:
    result = program("import", "--config", config, "--name", "x", "a", "b")
    assert result.code == 2
    assert "--name goes with exactly one PATH" in result.err


def test_import_goes_on_after_a_path_that_cannot_be_stored(program: Program, config: Path, tmp_path: Path) -> None:
    hello = materialise(TREES["hello"], tmp_path / "hello")
    result = program("import", "--config", config, tmp_path / "absent", "/dev/null", hello)
    assert (result.code, result.lines) == (1, [SOURCE_PATHS["hello"]])
    assert result.err.splitlines() == [
        f'error: cannot import "{tmp_path}/absent": No such file or directory',
        'error: cannot import "/dev/null": devices are not supported',
    ]


# --- which stores ---


def test_the_stores_are_chosen_by_one_url(program: Program, tmp_path: Path) -> None:
    hello = materialise(TREES["hello"], tmp_path / "hello")
    url = f"sqlite://{tmp_path}/x.sqlite"
    program("import", "--store", url, hello)
    assert program("ls", "--store", url).lines == [SOURCE_PATHS["hello"]]


def test_the_stores_are_chosen_by_the_flags_of_the_reference(program: Program, tmp_path: Path) -> None:
    hello = materialise(TREES["hello"], tmp_path / "hello")
    flags = [f"--{kind}-service-addr=sqlite://{tmp_path}/{kind}" for kind in ("blob", "directory", "path-info")]
    assert program("import", *flags, hello).code == 0
    assert program("nar", "dump", *flags, SOURCE_PATHS["hello"]).out == encode(TREES["hello"])
    assert {path.name for path in tmp_path.glob("*") if path.name in ("blob", "directory", "path-info")} == {
        "blob",
        "directory",
        "path-info",
    }


def test_the_stores_are_chosen_by_the_variables_of_the_reference(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in ("BLOB", "DIRECTORY", "PATH_INFO"):
        monkeypatch.setenv(f"{kind}_SERVICE_ADDR", f"sqlite://{tmp_path}/x.sqlite")
    program("import", materialise(TREES["hello"], tmp_path / "hello"))
    assert program("ls").lines == [SOURCE_PATHS["hello"]]


@pytest.mark.parametrize("by", ["flag", "variable"])
def test_a_composition_wins_over_urls(
    stored: Program, program: Program, config: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    if by == "flag":
        result = program("ls", "--experimental-store-composition", config, "--store", "nonsense")
    else:
        monkeypatch.setenv("EXPERIMENTAL_STORE_COMPOSITION", str(config))
        result = program("ls", "--store", "nonsense")
    assert result.lines == [MIXED]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "command line: 'nonsense' is not a URL"),
        ("memroy://", "command line: 'memroy://': unknown type 'memroy' of blob service; did you mean 'memory'?"),
        ("memory://host", "command line: 'memory://host': "),
        ("grpc+http://localhost/path", "command line: 'grpc+http://localhost/path': a path has no meaning here"),
    ],
)
def test_a_wrong_url_is_a_configuration_error(program: Program, url: str, message: str) -> None:
    assert program("ls", "--store", url).error(2).startswith(message)


# --- ls ---


def test_ls_lists_the_store_paths(stored: Program) -> None:
    assert stored("ls").lines == [MIXED]
    assert stored("ls", "-l").lines == [f"{1416:>14}  {MIXED}"]


@pytest.mark.parametrize("start", [MIXED, MIXED.removeprefix("/nix/store/"), MIXED[11:43], f"{MIXED}/"])
def test_ls_lists_a_directory(stored: Program, start: str) -> None:
    assert stored("ls", start).lines == ["bin", "share", "zero"]


def test_ls_lists_kinds_sizes_and_targets(stored: Program) -> None:
    assert stored("ls", "-l", f"{MIXED}/share").lines == [
        "dr-x              2  doc",
        "l---             11  link -> ../bin/tool",
    ]
    assert stored("ls", "-l", f"{MIXED}/bin").lines == ["-r-x             17  tool"]


def test_ls_lists_everything_below(stored: Program) -> None:
    expected = ["bin", "bin/tool", "share", "share/doc", "share/doc/README", "share/link", "zero"]
    assert stored("ls", "-R", MIXED).lines == expected
    assert stored("ls", "-R", f"{MIXED}/share").lines == ["doc", "doc/README", "link"]


@pytest.mark.parametrize("below", ["zero", "share/link", "bin/tool"])
def test_ls_of_what_is_no_directory_names_it(stored: Program, below: str) -> None:
    assert stored("ls", f"{MIXED}/{below}").lines == [f"{MIXED}/{below}"]


def test_ls_of_names_that_are_not_text(program: Program, config: Path, tmp_path: Path) -> None:
    path = materialise(TREES["sorting"], tmp_path / "sorting")
    program("import", "--config", config, path)
    tree = TREES["sorting"]
    assert isinstance(tree, Dir)
    assert program("ls", "--config", config, SOURCE_PATHS["sorting"]).out == b"".join(b"%b\n" % n for n in tree.entries)


@pytest.mark.parametrize("command", [["ls"], ["cat"], ["nar", "dump"], ["nar", "hash"]])
@pytest.mark.parametrize(
    ("location", "message"),
    [
        (SOURCE_PATHS["hello"], "no such path in the store"),
        (f"{MIXED}/void", "has no such file"),
        (f"{MIXED}/zero/void", "has no such file"),
        ("nonsense", "too short"),
        ("/nonsense", "is not below /nix/store"),
        (f"{MIXED}/..", "parent directory"),
    ],
)
def test_what_is_not_there_is_one_line(stored: Program, command: list[str], location: str, message: str) -> None:
    assert message in stored(*command, location).error()


# --- cat and nar ---


def test_cat(stored: Program) -> None:
    assert stored("cat", f"{MIXED}/bin/tool").out == b"#!/bin/sh\nexit 0\n"
    assert stored("cat", f"{MIXED}/zero").out == b""


@pytest.mark.parametrize("below", ["", "/share", "/share/link"])
def test_cat_of_what_is_no_file(stored: Program, below: str) -> None:
    assert stored("cat", f"{MIXED}{below}").error() == f"{MIXED}{below}: not a regular file"


def test_nar_dump(stored: Program, tmp_path: Path) -> None:
    assert stored("nar", "dump", MIXED).out == encode(TREES["mixed"])
    below = b"".join(dump_path(tmp_path / "mixed" / "share"))
    assert stored("nar", "dump", f"{MIXED}/share").out == below


@pytest.mark.parametrize("form", ["nix", "sri", "base16"])
def test_nar_hash(stored: Program, form: str) -> None:
    nix_hash = NixHash.of(HashAlgorithm.SHA256, encode(TREES["mixed"]))
    text = {"nix": nix_hash.nix(), "sri": nix_hash.sri(), "base16": nix_hash.hex()}[form]
    assert stored("nar", "hash", "--format", form, MIXED).text == f"{text}\n"
    assert stored("nar", "hash", "--size", "--format", form, MIXED).text == f"{text} 1416\n"


# --- copy ---


class NixStore:
    """A store directory and its reference graph."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.closure: list[dict[str, Any]] = []
        path.mkdir()

    def add(self, name: str, tree: Tree, *references: str, **more: Any) -> str:
        path = store_path(name)
        materialise(tree, self.path / path.base_name)
        entry = {
            "path": path.absolute(),
            "references": list(references),
            "narHash": NixHash(HashAlgorithm.SHA256, hashlib.sha256(encode(tree)).digest()).nix(),
            "narSize": len(encode(tree)),
            "closureSize": 1,
            "valid": True,
        }
        self.closure.append({**entry, **more})
        return path.absolute()

    def json(self) -> Path:
        path = self.path.parent / "graph.json"
        path.write_text(json.dumps({"closure": self.closure, "other": 1}))
        return path


@pytest.fixture
def nix(tmp_path: Path) -> NixStore:
    return NixStore(tmp_path / "nix-store")


@pytest.fixture
def copy(program: Program, config: Path, nix: NixStore) -> Program:
    def run(*arguments: object, stdin: str = "") -> Result:
        return program("copy", "--config", config, "--store-dir", nix.path, *arguments, stdin=stdin)

    return run


def test_copy_stores_what_is_listed(copy: Program, program: Program, config: Path, nix: NixStore) -> None:
    a = nix.add("a", TREES["mixed"])
    b = nix.add("b", TREES["hello"], a, deriver="/nix/store/" + store_path("b").base_name + ".drv")
    assert copy(nix.json()) == Result(0, b"", "")
    assert sorted(program("ls", "--config", config).lines) == sorted([a, b])
    assert program("nar", "dump", "--config", config, a).out == encode(TREES["mixed"])


def test_copy_reads_stdin_and_the_variable_of_nix(
    copy: Program, program: Program, config: Path, nix: NixStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nix.add("a", TREES["hello"])
    assert copy("-", stdin=nix.json().read_text()).code == 0
    monkeypatch.setenv("NIX_ATTRS_JSON_FILE", str(nix.json()))
    assert copy().code == 0
    assert program("ls", "--config", config).lines == [path]


def test_copy_takes_references_first(copy: Program, program: Program, config: Path, nix: NixStore) -> None:
    b = nix.add("b", TREES["hello"], store_path("a").absolute(), narSize=1)
    a = nix.add("a", TREES["exec"], store_path("a").absolute())
    assert store_path("b").base_name in copy(nix.json()).error()
    assert program("ls", "--config", config).lines == [a]
    assert b not in program("ls", "--config", config).lines


def test_copy_passes_over_what_is_stored(copy: Program, nix: NixStore) -> None:
    path = nix.add("a", TREES["hello"])
    assert copy(nix.json()).code == 0
    (nix.path / path.removeprefix("/nix/store/")).unlink()
    assert copy(nix.json()).code == 0


@pytest.mark.parametrize("wrong", [{"narSize": 127}, {"narHash": f"sha256:{'0' * 52}"}])
def test_copy_refuses_contents_that_are_not_as_listed(
    copy: Program, program: Program, config: Path, nix: NixStore, wrong: dict[str, Any]
) -> None:
    nix.add("a", TREES["hello"], **wrong)
    message = copy(nix.json()).error()
    assert f"{store_path('a').base_name}: the NAR has sha256:" in message
    assert "and 128 bytes, the reference graph says" in message
    assert program("ls", "--config", config).lines == []


def test_copy_of_a_path_that_is_gone(copy: Program, nix: NixStore) -> None:
    path = nix.add("a", TREES["hello"])
    (nix.path / path.removeprefix("/nix/store/")).unlink()
    assert copy(nix.json()).error().endswith("No such file or directory")


def test_copy_refuses_a_circle(copy: Program, nix: NixStore) -> None:
    nix.add("a", TREES["hello"], store_path("b").absolute())
    nix.add("b", TREES["hello"], store_path("a").absolute())
    assert "store paths refer to each other in a circle" in copy(nix.json()).error()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("3", "expected an object with the key 'closure'"),
        ('{"closure": 3}', "expected an object with the key 'closure'"),
        ('{"closure": [3]}', "entry 0 is not an object"),
        ('{"closure": [{}]}', "entry 0: references is missing"),
    ],
)
def test_copy_of_what_is_no_reference_graph(copy: Program, text: str, message: str) -> None:
    assert message in copy("-", stdin=text).error()


def test_copy_of_a_file_that_is_not_there(copy: Program) -> None:
    assert copy("/absent.json").error() == "/absent.json: No such file or directory"


ENTRY: dict[str, Any] = {
    "path": store_path("a").absolute(),
    "references": [store_path("c").absolute(), store_path("b").absolute(), store_path("b").absolute()],
    "narHash": NixHash.of(HashAlgorithm.SHA256, b"").nix(),
    "narSize": 5,
}


def test_a_reference_graph_is_read() -> None:
    (path_info,) = parse_reference_graph({"closure": [ENTRY]})
    assert path_info.store_path == store_path("a")
    assert path_info.references == tuple(sorted([store_path("b"), store_path("c")]))
    assert (path_info.nar_size, path_info.nar_sha256) == (5, hashlib.sha256(b"").digest())
    assert (path_info.deriver, path_info.signatures, path_info.ca) == (None, (), None)


@pytest.mark.parametrize(
    "document",
    [[ENTRY], {"closure": [ENTRY]}, {ENTRY["path"]: {key: ENTRY[key] for key in ENTRY if key != "path"}}],
    ids=["list", "closure", "by path"],
)
def test_a_reference_graph_has_several_forms(document: object) -> None:
    assert [path_info.store_path for path_info in parse_reference_graph(document)] == [store_path("a")]


def test_a_reference_graph_may_have_sri_hashes() -> None:
    sri = NixHash.of(HashAlgorithm.SHA256, b"").sri()
    assert parse_reference_graph([{**ENTRY, "narHash": sri}]) == parse_reference_graph([ENTRY])


def test_a_deriver_is_kept_without_its_drv() -> None:
    (path_info,) = parse_reference_graph([{**ENTRY, "deriver": f"{store_path('d').absolute()}.drv"}])
    assert path_info.deriver == store_path("d")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("path", 3, "path is missing or not a string"),
        ("path", "/nix/var/x", "/nix/var/x"),
        ("narSize", "5", "narSize is missing or not a number"),
        ("narSize", True, "narSize is missing or not a number"),
        ("narSize", -1, "does not fit 64 bits"),
        ("narHash", None, "narHash is missing or not a string"),
        ("narHash", "md5:00000000000000000000000000", "md5"),
        ("references", None, "references is missing or not a list of strings"),
        ("references", [3], "references is missing or not a list of strings"),
        ("signatures", ["nonsense"], "expected NAME:BASE64"),
        ("ca", "nonsense", "nonsense"),
    ],
)
def test_a_wrong_entry_is_named(key: str, value: object, message: str) -> None:
    with pytest.raises(InvalidObject, match=f"^{3 if value == 3 else '/nix/'}.*: .*") as caught:
        parse_reference_graph([{**ENTRY, key: value}])
    assert message in str(caught.value)


# --- run and daemon, as far as they get without serving ---


def test_run_without_a_frontend_is_a_configuration_error(program: Program, config: Path) -> None:
    message = f'{config}: no frontend to serve; add [frontends.grpc] with type = "grpc"'
    assert program("run", config).error(2) == message


def test_run_of_a_wrong_file_is_a_configuration_error(program: Program, toml: Toml) -> None:
    path = toml(GOOD.replace("memory", "memroy"))
    assert program("run", path).error(2).startswith(f"{path}: [blobservices.root]: unknown type 'memroy'")


def test_daemon_with_a_wrong_address_is_a_configuration_error(program: Program) -> None:
    message = program("daemon", "--store", "memory://", "-l", "example.com:8000").error(2)
    assert message.startswith("command line: [frontends.daemon]: listen: ")


def test_link_alone(program: Program, config: Path, tmp_path: Path) -> None:
    path = materialise(Link(b"target"), tmp_path / "link")
    location = program("import", "--config", config, path).lines[0]
    assert program("ls", "-l", "--config", config, location).lines == [f"l---              6  {location} -> target"]


def test_a_file_alone(program: Program, config: Path, tmp_path: Path) -> None:
    path = materialise(File(b"data"), tmp_path / "file")
    location = program("import", "--config", config, path).lines[0]
    assert program("cat", "--config", config, location).out == b"data"
