"""``daemon``, as far as it gets without serving; ``tests/e2e/test_cli.py`` has the rest."""

from __future__ import annotations

from fakes.program import Program


def test_daemon_with_a_wrong_address_is_a_configuration_error(program: Program) -> None:
    message = program("daemon", "--store", "memory://", "-l", "example.com:8000").error(2)
    assert message.startswith("command line: [frontends.daemon]: listen: ")


def test_a_keepalive_that_is_no_number_is_wrong_usage(program: Program) -> None:
    result = program("daemon", "--store", "memory://", "--tcp-keepalive", "soon")
    assert result.code == 2
    assert "'soon' does not begin with a number of milliseconds" in result.err
