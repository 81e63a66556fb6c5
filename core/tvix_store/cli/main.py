"""The program: global options, the commands, and the one place where errors become messages and exit codes."""

from __future__ import annotations

import logging
import os
import sys
from importlib import import_module
from importlib.metadata import version

import click

from tvix_store.cli.logs import LEVELS, report, set_up_logging
from tvix_store.cli.memory import collect_seldom, limit_arenas
from tvix_store.errors import ConfigError, StoreError

__all__ = ["cli", "main"]

_DEBUG_KEY = "tvix_store.debug"

_COMMANDS = {
    "run": "run",
    "daemon": "daemon",
    "import": "import_",
    "copy": "copy",
    "export": "export",
    "mount": "mount",
    "ls": "ls",
    "cat": "cat",
    "nar": "nar",
    "stats": "stats",
    "verify": "verify",
    "verify-signatures": "verify_signatures",
    "sign": "sign",
    "key": "key",
    "compact": "compact",
    "config": "config",
    "plugins": "plugins",
}
"""Where each command is: the module, and what it is called in there."""


class _Commands(click.Group):
    """Imports a command when it is wanted: all of them together take longer than most of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = _COMMANDS.get(cmd_name)
        if name is None:
            return None
        command = getattr(import_module(f"tvix_store.cli.{name}"), name)
        assert isinstance(command, click.Command)
        collect_seldom()
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(version("tvix-store"), "-V", "--version", prog_name="tvix-store")
@click.option("--log-level", type=click.Choice(LEVELS, case_sensitive=False), default="info", show_default=True)
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--debug", is_flag=True, help="Log everything and show tracebacks.")
@click.option(
    "--otlp",
    is_flag=False,
    flag_value="true",
    type=bool,
    metavar="[=BOOL]",
    help="Send traces and metrics of run and daemon to an OpenTelemetry collector.",
)
@click.pass_context
def cli(context: click.Context, log_level: str, log_format: str, debug: bool, otlp: bool | None) -> None:
    """A content-addressed store for Nix that speaks the tvix and snix protocols.

    Commands that work with a store talk to a running one (tvix-store run) unless told otherwise.
    """
    context.meta[_DEBUG_KEY] = debug
    set_up_logging("debug" if debug else log_level, log_format)


def main() -> None:
    """Run the program and exit: 0, 1 for an error, 2 for wrong usage or configuration, 130 when interrupted."""
    # grpc, once imported, writes to stderr by itself, such as "Got goaway" beside our one line for an error.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    limit_arenas()
    arguments = ["--otlp=true" if argument == "--otlp" else argument for argument in sys.argv[1:]]
    debug = "--debug" in arguments
    try:
        code = cli.main(arguments, "tvix-store", standalone_mode=False)
        if sys.stdout is not None:
            sys.stdout.flush()
    except click.exceptions.Abort:
        code = 130
    except click.ClickException as exc:
        exc.show()
        code = exc.exit_code
    except BrokenPipeError:  # whoever read our output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except KeyboardInterrupt:
        code = 130
    except StoreError as exc:
        if debug:
            logging.getLogger(__name__).exception("failed")
        report(str(exc))
        code = 2 if isinstance(exc, ConfigError) else 1
    except Exception as exc:
        if debug:
            raise
        report(str(exc) if isinstance(exc, OSError) else f"{type(exc).__name__}: {exc} (a bug; --debug shows more)")
        code = 1
    sys.exit(code)
