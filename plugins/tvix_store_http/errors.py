"""Which status stands for which error, and how answers without contents look.

Nix asks again after 5xx, 408 and 429, and gives up the whole operation after other 4xx; 404 means that something is
not there. So 5xx is for what a later attempt may find different, and never for absence.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from tvix_store.errors import (
    InvalidObject,
    LimitExceeded,
    OutOfSpace,
    PermissionDenied,
    StoreError,
    Unavailable,
    Unsupported,
)

__all__ = ["NO_STORE", "RETRY_AFTER_S", "answer", "answering_errors", "not_found", "status_of"]

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 5
"""How long clients are asked to wait after Unavailable."""

NO_STORE = {"Cache-Control": "no-store"}
"""For what may be different the next time."""

_READING = ("GET", "HEAD")
_STATUS: tuple[tuple[type[StoreError], int], ...] = (
    (LimitExceeded, 413),
    (InvalidObject, 400),
    (PermissionDenied, 403),
    (Unsupported, 405),
    (OutOfSpace, 507),
    (Unavailable, 503),
)
"""Of an upload. What is read was not sent by the client, so that only the last lines are right for it."""


def status_of(error: StoreError, method: str) -> int:
    """The status for an error that a service raised while a request was answered.

    Args:
        error: Corrupt objects and what refers to missing ones are 500.
        method: Of the request. With GET and HEAD, what is invalid is ours, so it is 500.
    """
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return 500 if method in _READING and status < 500 else status
    return 500


def answer(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    """An answer of one line, which no proxy keeps."""
    body = f"{text}\n".encode("utf-8", "backslashreplace")  # names of files may be in it, which need not be text
    fields = {"Content-Type": "text/plain; charset=utf-8", **NO_STORE, **(headers or {})}
    return web.Response(status=status, body=body, headers=fields)


def not_found(text: str = "not found") -> web.Response:
    """The answer for what is not there."""
    return answer(404, text)


@web.middleware
async def answering_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Answer StoreErrors by their status and message. Once a response has begun, an error ends the connection."""
    try:
        return await handler(request)
    except web.HTTPException as exc:
        if exc.status >= 400:
            exc.headers.setdefault("Cache-Control", "no-store")
        raise
    except StoreError as exc:
        status = status_of(exc, request.method)
        logger.log(
            logging.WARNING if status >= 500 else logging.INFO, "%s: %s: %s", shown(request), type(exc).__name__, exc
        )
        return answer(status, str(exc), {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else None)


def shown(request: web.BaseRequest, limit: int = 120) -> str:
    """Method and path of a request for a log, shortened: whoever knows the whole name of a castore NAR can have it."""
    path = request.raw_path
    return f"{request.method} {path if len(path) <= limit else path[:limit] + '...'}"
