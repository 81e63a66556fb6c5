"""Log lines on stderr: text for people, JSON for machines."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

__all__ = ["LEVELS", "report", "set_up_logging"]

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


def report(message: str) -> None:
    """Tell the user of an error: one line on stderr, which is a log line if those are for machines."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
    if any(isinstance(handler.formatter, _JsonFormatter) for handler in logging.getLogger().handlers):
        logger.error("%s", line)
    else:
        print(f"error: {line}", file=sys.stderr)
