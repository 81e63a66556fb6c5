"""Counting, timing and tracing what goes through a service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from time import perf_counter
from typing import Any, TypeVar

from tvix_store import errors
from tvix_store.around import (
    Access,
    Around,
    AroundBlobService,
    AroundDirectoryService,
    AroundPathInfoService,
    Call,
)
from tvix_store.blob import BlobService, BlobWriter
from tvix_store.config import Kind
from tvix_store.digest import B3Digest, HashedBlob
from tvix_store.directory import DirectoryService
from tvix_store.errors import CorruptObject, DanglingReference
from tvix_store.path_info import PathInfoService
from tvix_store.telemetry import METRICS, TRACING, Attribute, Counter, Family, Histogram, Metrics, Span, Tracer

__all__ = [
    "KIND_LABELS",
    "ObservedBlobService",
    "ObservedDirectoryService",
    "ObservedPathInfoService",
    "Observer",
    "observed",
    "outcome_of",
]

T = TypeVar("T")

KIND_LABELS = {Kind.BLOB: "blob", Kind.DIRECTORY: "directory", Kind.PATH_INFO: "path_info"}
"""What the kinds are called in metrics and spans."""

_READS: Mapping[Kind, tuple[str, ...]] = {
    Kind.BLOB: ("has", "has_many", "get_many", "open_read", "reader.read", "chunks"),
    Kind.DIRECTORY: ("get", "get_many", "get_recursive"),
    Kind.PATH_INFO: ("get", "get_many", "get_metadata", "open_nar", "nar.read"),
}
_WRITES: Mapping[Kind, tuple[str, ...]] = {
    Kind.BLOB: ("put_many", "open_write", "writer.write", "writer.close"),
    Kind.DIRECTORY: ("put", "put_many", "put_multiple_start", "putter.put_many", "putter.close"),
    Kind.PATH_INFO: ("put", "put_many"),
}
_LOOKUPS: Mapping[Kind, tuple[str, ...]] = {
    Kind.BLOB: ("has", "has_many", "get_many", "open_read", "chunks"),
    Kind.DIRECTORY: ("get", "get_many"),
    Kind.PATH_INFO: ("get", "get_many", "get_metadata", "open_nar"),
}
_PUTS: Mapping[Kind, tuple[str, ...]] = {
    Kind.BLOB: ("put_many", "writer.close"),
    Kind.DIRECTORY: ("put", "put_many"),
    Kind.PATH_INFO: ("put", "put_many"),
}
_LISTS: Mapping[Kind, tuple[str, ...]] = {Kind.DIRECTORY: ("get_recursive",)}
_READ_OUTCOMES = ("ok", "unavailable", "corrupt_object", "bug")
_WRITE_OUTCOMES = ("ok", "unavailable", "out_of_space", "bug")

_PIECES = ("reader.read", "nar.read")
_WITHOUT_SPANS = (*_PIECES, "reader.seek", "writer.write", "putter.put_many")
"""There would be one for each piece of a blob."""


def _words(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("_")


_OUTCOMES: dict[type[BaseException], str] = {
    asyncio.CancelledError: "cancelled",
    **{getattr(errors, name): _words(name) for name in errors.__all__},
}


def outcome_of(failure: BaseException) -> str:
    """The label for a failure: the nearest of our errors, in words; ``cancelled``; ``bug`` for what nobody foresaw."""
    for kind in type(failure).__mro__:
        if (outcome := _OUTCOMES.get(kind)) is not None:
            return outcome
    return "bug"


class _Method:
    """The metrics of one method."""

    __slots__ = ("hits", "misses", "ok", "seconds", "span_name")

    def __init__(self, ok: Counter, seconds: Histogram, hits: Counter, misses: Counter | None, span_name: str) -> None:
        self.ok = ok
        self.seconds = seconds
        self.hits = hits
        self.misses = misses
        self.span_name = span_name


class Observer(Around):
    """Counts, times and traces the calls to one service.

    Args:
        entry: The name that stands for the service.
        kind: Of the service.
        metrics: Where they are counted.
    """

    def __init__(self, entry: str, kind: Kind, metrics: Metrics = METRICS) -> None:
        self.entry = entry
        self.kind = KIND_LABELS[kind]
        labels = ("entry", "kind", "method")
        self._calls: Family[Counter] = metrics.counter(
            "tvix_store_calls", "Calls to a service that have ended, by how.", (*labels, "outcome")
        )
        self._seconds: Family[Histogram] = metrics.histogram(
            "tvix_store_call_seconds",
            "How long calls took; those that answer bit by bit, until the first item.",
            labels,
        )
        self._objects: Family[Counter] = metrics.counter(
            "tvix_store_objects", "Objects that calls were about, by what became of them.", (*labels, "result")
        )
        n_bytes = metrics.counter(
            "tvix_store_bytes", "Bytes of contents that went through a service.", ("entry", "kind", "direction")
        )
        corrupt = metrics.counter(
            "tvix_store_corrupt_objects", "Objects that were not what their digests stand for.", ("entry", "kind")
        )
        self.bytes_read = n_bytes(entry, self.kind, "read")
        self.bytes_written = n_bytes(entry, self.kind, "written")
        self._corrupt = corrupt(entry, self.kind)
        self._methods: dict[str, _Method] = {}
        self._prime(kind)

    def _prime(self, kind: Kind) -> None:
        """Have what can be expected to be counted shown from the start, as 0."""
        for methods, outcomes in ((_READS, _READ_OUTCOMES), (_WRITES, _WRITE_OUTCOMES)):
            for method in methods[kind]:
                for outcome in outcomes:
                    self._calls(self.entry, self.kind, method, outcome)
        for methods, results in ((_LOOKUPS, ("hit", "miss")), (_PUTS, ("written",)), (_LISTS, ("listed",))):
            for method in methods.get(kind, ()):
                for result in results:
                    self._objects(self.entry, self.kind, method, result)

    def _method(self, call: Call) -> _Method:
        method = self._methods.get(call.method)
        if method is None:
            labels = (self.entry, self.kind, call.method)
            misses = None
            if call.method in _LOOKUPS[call.kind]:
                hits, misses = self._objects(*labels, "hit"), self._objects(*labels, "miss")
            elif call.access is Access.WRITE:
                hits = self._objects(*labels, "written") if call.method in _PUTS[call.kind] else Counter()
            else:
                hits = Counter()  # one that nobody sees
            ok, seconds = self._calls(*labels, "ok"), self._seconds(*labels)
            method = self._methods[call.method] = _Method(ok, seconds, hits, misses, f"{self.kind}.{call.method}")
        return method

    async def call(self, call: Call, operation: Callable[[], Awaitable[T]]) -> T:
        method = self._method(call)
        tracer = TRACING.tracer
        span = None if tracer is None or call.method in _WITHOUT_SPANS else self._span(tracer, call, method)
        started = perf_counter()
        try:
            if span is None:
                result = await operation()
            else:
                with span.active():
                    result = await operation()
        except BaseException as exc:
            method.seconds.observe(perf_counter() - started)
            self.failed(call, exc)
            if span is not None:
                span.end(exc)
            raise
        method.seconds.observe(perf_counter() - started)
        method.ok.value += 1
        n_found = self._count(call, method, result)
        if span is not None:
            if n_found is not None:
                span.set("tvix_store.found", n_found)
            span.end()
        return result

    def _span(self, tracer: Tracer, call: Call, method: _Method) -> Span:
        attributes: dict[str, Attribute] = {"tvix_store.entry": self.entry, "tvix_store.objects": call.n_objects}
        return tracer.start(method.span_name, attributes, None)

    def failed(self, call: Call, failure: BaseException) -> None:
        """Count a call that failed."""
        self._calls(self.entry, self.kind, call.method, outcome_of(failure)).value += 1
        if isinstance(failure, CorruptObject) and not isinstance(failure, DanglingReference):
            self._corrupt.value += 1

    def _count(self, call: Call, method: _Method, result: Any) -> int | None:
        """Count objects and bytes, and answer how many of those that were asked for are there."""
        if method.misses is None:
            method.hits.value += call.n_objects
            if call.method in _PIECES and result is not None:
                self.bytes_read.value += len(result)
            return None
        match call.method:
            case "get_many" if call.kind is Kind.BLOB:
                sizes = [len(blob) for blob in result if blob is not None]
                n_found = len(sizes)
                self.bytes_read.value += sum(sizes)
            case "get_many":
                n_found = len([1 for found in result if found is not None])
            case "has_many":
                n_found = sum(result)
            case "has":
                n_found = int(result)
            case _:
                n_found = int(result is not None)
        method.hits.value += n_found
        method.misses.value += call.n_objects - n_found
        return n_found

    async def iterate(self, call: Call, items: Callable[[], AsyncIterator[T]]) -> AsyncGenerator[T]:
        method = self._method(call)
        tracer = TRACING.tracer
        span = None if tracer is None else self._span(tracer, call, method)
        iterator = items()
        source = iterator if span is None else _below(span, iterator)
        n_items = 0
        failure: BaseException | None = None
        started = perf_counter()
        try:
            async for item in source:
                if not n_items:
                    method.seconds.observe(perf_counter() - started)
                n_items += 1
                yield item
        except GeneratorExit:  # nobody wants more
            raise
        except BaseException as exc:
            failure = exc
            raise
        finally:
            if not n_items:
                method.seconds.observe(perf_counter() - started)
            if failure is None:
                method.ok.value += 1
            else:
                self.failed(call, failure)
            self._listed(call, n_items)
            if span is not None:
                span.set("tvix_store.found", n_items)
                span.end(failure)
            failure = None  # it refers to this frame, which would refer to it
            if isinstance(iterator, AsyncGenerator):
                await iterator.aclose()

    def _listed(self, call: Call, n_items: int) -> None:
        if call.method == "verify":
            self._corrupt.value += n_items
        else:
            self._objects(self.entry, self.kind, call.method, "listed").value += n_items


async def _below(span: Span, items: AsyncIterator[T]) -> AsyncGenerator[T]:
    """The items, with what happens to get them below ``span``; what happens between them is not."""
    while True:
        with span.active():
            try:
                item = await anext(items)
            except StopAsyncIteration:
                return
        yield item


class _CountedWriter(BlobWriter):
    def __init__(self, observer: Observer, inner: BlobWriter) -> None:
        self._observer = observer
        self._inner = inner

    async def write(self, data: bytes) -> None:
        await self._inner.write(data)
        self._observer.bytes_written.value += len(data)

    async def close(self) -> B3Digest:
        return await self._inner.close()

    async def aclose(self) -> None:
        await self._inner.aclose()


class ObservedBlobService(AroundBlobService):
    """A blob service that is observed.

    Args:
        inner: The service; not closed with this.
        observer: Observes it.
    """

    def __init__(self, inner: BlobService, observer: Observer) -> None:
        super().__init__(inner, observer)
        self._observer = observer

    async def put_many(self, blobs: Sequence[HashedBlob]) -> None:
        await super().put_many(blobs)
        self._observer.bytes_written.value += sum([len(blob.data) for blob in blobs])

    async def open_write(self) -> BlobWriter:
        return _CountedWriter(self._observer, await super().open_write())


class ObservedDirectoryService(AroundDirectoryService):
    """A directory service that is observed.

    Args:
        inner: The service; not closed with this.
        observer: Observes it.
    """

    def __init__(self, inner: DirectoryService, observer: Observer) -> None:
        super().__init__(inner, observer)


class ObservedPathInfoService(AroundPathInfoService):
    """A path info service that is observed, the NARs that come from it included.

    Args:
        inner: The service; not closed with this.
        observer: Observes it.
    """

    def __init__(self, inner: PathInfoService, observer: Observer) -> None:
        super().__init__(inner, observer)


Service = BlobService | DirectoryService | PathInfoService


def observed(entry: str, service: Service) -> Service:
    """The service of an entry with an observer around it, unless it has one already."""
    match service:
        case ObservedBlobService() | ObservedDirectoryService() | ObservedPathInfoService():
            return service
        case BlobService():
            return ObservedBlobService(service, Observer(entry, Kind.BLOB))
        case DirectoryService():
            return ObservedDirectoryService(service, Observer(entry, Kind.DIRECTORY))
        case PathInfoService():
            return ObservedPathInfoService(service, Observer(entry, Kind.PATH_INFO))
