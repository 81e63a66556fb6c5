"""``run``, as far as it gets without serving; ``tests/e2e/test_cli.py`` has the rest."""

from __future__ import annotations

from pathlib import Path

from fakes.program import GOOD, Program, Toml


def test_run_without_a_frontend_is_a_configuration_error(program: Program, config: Path) -> None:
    message = f'{config}: no frontend to serve; add [frontends.grpc] with type = "grpc"'
    assert program("run", config).error(2) == message


def test_run_of_a_wrong_file_is_a_configuration_error(program: Program, toml: Toml) -> None:
    path = toml(GOOD.replace("memory", "memroy"))
    assert program("run", path).error(2).startswith(f"{path}: [blobservices.root]: unknown type 'memroy'")


def test_workers_over_memory_are_a_configuration_error(program: Program, toml: Toml) -> None:
    path = toml(f'{GOOD}[frontends.main]\ntype = "http"\nlisten = "127.0.0.1:1"\nworkers = 2\n')
    message = program("run", path).error(2)
    assert message.startswith(f"{path}: [frontends.main]: workers: each would have [blobservices.root] (memory)")


def test_a_worker_is_not_for_users(program: Program, toml: Toml) -> None:
    path = toml(f'{GOOD}[frontends.main]\ntype = "http"\n')
    assert program("run", path, "--worker", "main").error(2) == "--worker is for processes that `run` itself starts"
