"""What the configurations of all combinators here do with the keys that name several services."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from tvix_store.capabilities import Capabilities

__all__ = ["TAKES_NO_PUTS", "known", "labels", "refuse_repetition", "without_puts"]

TAKES_NO_PUTS = "it does not take puts"


def labels(key: str, targets: Sequence[str]) -> Sequence[str]:
    """What messages call the services of a list: their names, or the place in the list for those given by URL."""
    return [f"{key}[{i}]" if "://" in target else target for i, target in enumerate(targets)]


def refuse_repetition(targets: Sequence[str]) -> Sequence[str]:
    """Check that no name is there twice; the same URL twice is two services.

    Raises:
        ValueError: One is.
    """
    names = [target for target in targets if "://" not in target]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{twice!r} is there twice")
    return targets


def known(inner: Mapping[str, Capabilities | None], keys: Iterable[str]) -> Sequence[Capabilities] | None:
    """The capabilities of the services at these keys; ``None`` if those of one are not known."""
    found: list[Capabilities] = []
    for key in keys:
        capabilities = inner.get(key)
        if capabilities is None:
            return None
        found.append(capabilities)
    return found


def without_puts(inner: Mapping[str, Capabilities | None], keys: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Misfits: each of these services is written to, and is known not to take puts."""
    for key in keys:
        capabilities = inner.get(key)
        if capabilities is not None and not capabilities.put:
            yield key, TAKES_NO_PUTS
