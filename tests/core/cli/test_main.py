"""Global options, wrong usage, and how errors come out."""

from __future__ import annotations

import json

import pytest

from fakes.program import Program
from tvix_store.cli import config as config_command


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


def test_every_command_says_what_it_does(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")  # each on a line of its own
    commands = [
        "cat",
        "compact",
        "config",
        "copy",
        "daemon",
        "export",
        "import",
        "key",
        "ls",
        "mount",
        "nar",
        "plugins",
        "run",
        "sign",
        "stats",
        "verify",
        "verify-signatures",
    ]
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
