"""Which calls go on with what has been opened, rather than begin something."""

from __future__ import annotations

from tvix_store.around import Call

__all__ = ["goes_on"]


def goes_on(call: Call) -> bool:
    """Whether it is made on a reader, a writer or an upload.

    To refuse such a call would break what has begun. To make it wait for others could be for ever: the others may wait
    for it, as writers to one connection do.
    """
    return "." in call.method
