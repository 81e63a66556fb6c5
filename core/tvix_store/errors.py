"""Every error a service, plugin or command may raise on purpose.

The tree::

    StoreError                  something about the store went wrong
      InvalidObject             the object breaks the data model or its encoding
        LimitExceeded           well-formed, but larger than a configured limit
      CorruptObject             stored or received bytes do not hash to their digest
        DanglingReference       an object that a stored one refers to is missing
      Unavailable               could not find out; a retry may help
        OutOfSpace              no room left for what was to be written
      Unsupported               this service never does this
        PermissionDenied        this client may not do this
      ConfigError               the configuration cannot work

Absence is not in the tree: lookups answer ``None`` or ``False``.

Each class has a ``code``, the name of the canonical gRPC status that stands for it on the wire
(https://grpc.io/docs/guides/status-codes/). Messages are one line and name the object and the reason.
"""

from typing import ClassVar

__all__ = [
    "ConfigError",
    "CorruptObject",
    "DanglingReference",
    "InvalidObject",
    "LimitExceeded",
    "OutOfSpace",
    "PermissionDenied",
    "StoreError",
    "Unavailable",
    "Unsupported",
]


class StoreError(Exception):
    """Base of all errors here; ``str(error)`` is one line fit for a user."""

    code: ClassVar[str] = "INTERNAL"


class InvalidObject(StoreError):
    """An object that breaks a rule of the data model, or bytes that do not decode to one."""

    code = "INVALID_ARGUMENT"


class LimitExceeded(InvalidObject):
    """An object that is well-formed but larger, deeper or wider than a configured limit."""

    code = "RESOURCE_EXHAUSTED"


class CorruptObject(StoreError):
    """Bytes that do not hash to the digest they are stored under.

    Args:
        message: One line naming service, object and reason.
        expected: What was asked for, as text.
        actual: What the bytes hash to, as text; ``None`` if they could not be hashed.
    """

    code = "DATA_LOSS"

    def __init__(self, message: str, *, expected: str | None = None, actual: str | None = None) -> None:
        super().__init__(message)
        self.expected = expected
        self.actual = actual


class DanglingReference(CorruptObject):
    """Something that a stored object refers to is not in the store."""

    code = "NOT_FOUND"


class Unavailable(StoreError):
    """The service could not find out, or could not finish; trying again may help."""

    code = "UNAVAILABLE"


class OutOfSpace(Unavailable):
    """There is no room for what was to be written; nothing of it is visible."""

    code = "RESOURCE_EXHAUSTED"


class Unsupported(StoreError):
    """The service never does this, whatever the arguments."""

    code = "UNIMPLEMENTED"


class PermissionDenied(Unsupported):
    """The service does this, but not for this client."""

    code = "PERMISSION_DENIED"


class ConfigError(StoreError):
    """A configuration that cannot work; names the file, section and key."""

    code = "FAILED_PRECONDITION"
