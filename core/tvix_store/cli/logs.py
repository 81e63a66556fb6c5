"""Log lines on stderr: text for people, JSON for machines."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime

__all__ = ["LEVELS", "keep_out", "report", "set_up_logging"]

logger = logging.getLogger("tvix_store")

LEVELS = ("error", "warn", "info", "debug", "trace")


class _TextFormatter(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("{asctime}Z {levelname:<7} {name}: {message}", "%Y-%m-%dT%H:%M:%S", style="{")
        self.converter = lambda seconds: datetime.fromtimestamp(seconds or 0, UTC).timetuple()


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


class _HidingFormatter(logging.Formatter):
    """Takes out of the lines of another one what must not be shown."""

    def __init__(self, inner: logging.Formatter, hide: Callable[[str], str]) -> None:
        super().__init__()
        self.inner = inner
        self.hide = hide

    def format(self, record: logging.LogRecord) -> str:
        return self.hide(self.inner.format(record))


def set_up_logging(level: str, format_: str) -> None:
    """Send what is logged to stderr.

    Args:
        level: One of ``LEVELS``; ``trace`` is the same as ``debug``.
        format_: ``text`` or ``json``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if format_ == "json" else _TextFormatter())
    names = {"warn": "WARNING", "trace": "DEBUG"}
    logging.basicConfig(level=names.get(level, level.upper()), handlers=[handler], force=True)
    if level not in ("debug", "trace"):
        logging.getLogger("asyncio").setLevel(logging.WARNING)


def keep_out(hide: Callable[[str], str]) -> None:
    """Pass all that is logged and reported from now on through ``hide``, which takes out what must not be shown."""
    for handler in logging.getLogger().handlers:
        if handler.formatter is not None:
            handler.setFormatter(_HidingFormatter(handler.formatter, hide))


def report(message: str) -> None:
    """Tell the user of an error: one line on stderr, which is a log line if those are for machines."""
    formatters = [handler.formatter for handler in logging.getLogger().handlers]
    for position, formatter in enumerate(formatters):
        while isinstance(formatter, _HidingFormatter):
            message, formatter = formatter.hide(message), formatter.inner
        formatters[position] = formatter
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
    if any(isinstance(formatter, _JsonFormatter) for formatter in formatters):
        logger.error("%s", line)
    else:
        print(f"error: {line}", file=sys.stderr)
