"""Which error stands for which status on the wire; both ends read this one table.

A status carries the name of the error's class beside its code, as trailing metadata, so that two stores of this
project tell apart what the sixteen codes of gRPC do not. Any other peer's status is judged by its code.
"""

from __future__ import annotations

from tvix_store import errors
from tvix_store.errors import (
    CorruptObject,
    InvalidObject,
    LimitExceeded,
    PermissionDenied,
    StoreError,
    Unavailable,
    Unsupported,
)

__all__ = ["ERROR_HEADER", "error_class"]

ERROR_HEADER = "tvix-store-error"
"""Metadata key whose value is the name of a class in ``tvix_store.errors``."""

_BY_CODE: dict[str, type[StoreError]] = {
    "INVALID_ARGUMENT": InvalidObject,
    "DATA_LOSS": CorruptObject,
    "RESOURCE_EXHAUSTED": LimitExceeded,
    "OUT_OF_RANGE": LimitExceeded,
    "UNIMPLEMENTED": Unsupported,
    "PERMISSION_DENIED": PermissionDenied,
    "UNAUTHENTICATED": PermissionDenied,
}

_BY_NAME: dict[str, type[StoreError]] = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, StoreError) and kind is not StoreError
}


def error_class(code: str, name: str | None) -> type[StoreError]:
    """The error that a status stands for.

    Args:
        code: Name of the status code.
        name: What the peer sent under `ERROR_HEADER`; believed if that class has this code.
    """
    named = _BY_NAME.get(name or "")
    if named is not None and named.code == code:
        return named
    return _BY_CODE.get(code, Unavailable)
