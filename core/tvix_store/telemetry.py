"""What a process counts and times, and the traces that it takes part in.

Metrics are plain numbers, in families by name, in children by the values of their labels. Whoever counts keeps the
child, so that counting is an addition: 35 ns, where ``prometheus_client`` takes 290 and 50 ms to be imported. They are
only changed from the event loop's thread, and read from any. ``telemetry_prometheus`` and ``telemetry_otel`` show them.

There is one set of them in a process, ``METRICS``, as there is one of what the process costs.

Spans cost next to nothing as long as no tracer is set, which `telemetry_otel` does.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Generic, Protocol, TypeVar

__all__ = [
    "METRICS",
    "SECONDS",
    "TRACING",
    "AnyFamily",
    "Attribute",
    "Counter",
    "Family",
    "Histogram",
    "Metrics",
    "Number",
    "Span",
    "Tracer",
    "Tracing",
    "outgoing_headers",
    "span",
]

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
"""Bounds of a histogram of durations: from a lookup in memory to a large NAR."""

Attribute = str | int | float | bool


class Counter:
    """A number that only grows. Add to ``value``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Number:
    """A number that may do anything. Set ``value``."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0


class Histogram:
    """How many of some values lie below each bound, and what they add up to.

    Args:
        bounds: In ascending order; each is the largest value of its bucket.
    """

    __slots__ = ("bounds", "counts", "record", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """One for each bound, without those below the bound before, and one for what is above all."""
        self.total = 0.0
        self.record: Callable[[float], None] | None = None
        """Also told of each value."""

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value
        if self.record is not None:
            self.record(value)


M = TypeVar("M", bound=Counter | Number | Histogram)


class Family(Generic[M]):
    """Metrics of one name, by the values of their labels.

    Args:
        name: As Prometheus has it, with the unit; of a counter without ``_total``.
        text: What it says, in a sentence.
        labels: Names of the labels.
        kind: What its children are.
        make: Makes a child.
    """

    def __init__(self, name: str, text: str, labels: Sequence[str], kind: type[M], make: Callable[[], M]) -> None:
        self.name = name
        self.kind = kind
        self.text = text
        self.labels = tuple(labels)
        self._make = make
        self.added: Callable[[tuple[str, ...], M], None] | None = None
        """Told of each new child."""
        self._children: dict[tuple[str, ...], M] = {}

    def __call__(self, *values: str) -> M:
        """The child with these values of the labels, made (and so shown, as 0) if there is none."""
        child = self._children.get(values)
        if child is None:
            if len(values) != len(self.labels):
                raise ValueError(f"{self.name} has the labels {self.labels}, not {len(values)} of them")
            child = self._children[values] = self._make()
            if self.added is not None:
                self.added(values, child)
        return child

    def children(self) -> Sequence[tuple[tuple[str, ...], M]]:
        """All there are by now, with the values of their labels."""
        return list(self._children.items())


AnyFamily = Family[Any]
"""One of counters, numbers or histograms; its ``kind`` tells."""


class Metrics:
    """A set of families. Asked for one that is there already, it answers with that."""

    def __init__(self) -> None:
        self.labels: dict[str, str] = {}
        """Of all metrics, beside their own: which of several processes this is."""
        self.added: Callable[[AnyFamily], None] | None = None
        """Told of each new family."""
        self._families: dict[str, AnyFamily] = {}

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Family[Counter]:
        """The counters of that name; see `Family`."""
        return self._family(Family(name, text, labels, Counter, Counter))

    def number(self, name: str, text: str, labels: Sequence[str] = ()) -> Family[Number]:
        """The numbers of that name; see `Family`."""
        return self._family(Family(name, text, labels, Number, Number))

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), bounds: Sequence[float] = SECONDS
    ) -> Family[Histogram]:
        """The histograms of that name; see `Family`."""
        return self._family(Family(name, text, labels, Histogram, lambda: Histogram(bounds)))

    def _family(self, family: Family[M]) -> Family[M]:
        there = self._families.get(family.name)
        if there is not None:
            if (there.labels, there.kind) != (family.labels, family.kind):
                raise ValueError(f"there is a metric {family.name} already, which is another")
            return there
        self._families[family.name] = family
        if self.added is not None:
            self.added(family)
        return family

    def families(self) -> Sequence[AnyFamily]:
        """All there are by now."""
        return list(self._families.values())


METRICS = Metrics()
"""Those of this process."""


class Span(Protocol):
    """A part of a trace that is under way."""

    def active(self) -> AbstractContextManager[object]:
        """Meanwhile, spans that begin are below this one, and calls to others say so."""

    def set(self, key: str, value: Attribute) -> None:
        """Note something about it."""

    def end(self, failure: BaseException | None = None) -> None:
        """It is over, and has failed if there is a failure."""


class Tracer(Protocol):
    """Where spans come from."""

    def start(self, name: str, attributes: Mapping[str, Attribute], caller: Mapping[str, str] | None) -> Span:
        """Begin a span below the active one.

        Args:
            name: Of few different ones.
            attributes: What is known of it.
            caller: Headers of a request, in lower case: continue the trace in there, if there is one.
        """

    def headers(self) -> Sequence[tuple[str, str]]:
        """What a request to somebody else has to carry so that the trace goes on there, names in lower case."""


class Tracing:
    """The tracer of this process; ``None``: there are no traces."""

    __slots__ = ("tracer",)

    def __init__(self) -> None:
        self.tracer: Tracer | None = None


TRACING = Tracing()
"""That of this process."""


class _NoSpan:
    """Is entered and left, and nothing else."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *exc_info: object) -> None:
        return None


_NO_SPAN = _NoSpan()


def span(
    name: str, attributes: Mapping[str, Attribute], caller: Mapping[str, str] | None = None
) -> AbstractContextManager[Span | None]:
    """A span around a block, active in it, failed if the block is; see `Tracer.start`. ``None`` without a tracer.

    Not around a ``yield`` of a generator, which may be left from elsewhere.
    """
    tracer = TRACING.tracer
    return _NO_SPAN if tracer is None else _spanning(tracer.start(name, attributes, caller))


@contextmanager
def _spanning(started: Span) -> Iterator[Span]:
    failure: BaseException | None = None
    try:
        with started.active():
            yield started
    except BaseException as exc:
        failure = exc
        raise
    finally:
        started.end(failure)
        del failure  # it refers to this frame, which would refer to it


def outgoing_headers() -> Sequence[tuple[str, str]]:
    """What a request to somebody else has to carry; nothing without a tracer or a trace."""
    tracer = TRACING.tracer
    return () if tracer is None else tracer.headers()
