"""Configuration as models: what a plugin subclasses, and what a file, a URL or a preset becomes.

A model that parses an entry also builds what the entry describes. Models come from plugins, are told apart by
their ``type``, are immutable and refuse unknown keys. They read neither files nor the environment: what a configuration
refers to was put in before they see it, by `tvix_store.secrets`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, ClassVar, Protocol, Self, TypeVar
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlsplit

from pydantic import BaseModel, ConfigDict

from tvix_store.blob import BlobService
from tvix_store.capabilities import Capabilities
from tvix_store.directory import DirectoryService
from tvix_store.errors import ConfigError
from tvix_store.frontend import Frontend, Services
from tvix_store.path_info import PathInfoService

__all__ = [
    "BlobServiceConfig",
    "BlobServiceRef",
    "Context",
    "DirectoryServiceConfig",
    "DirectoryServiceRef",
    "EntryConfig",
    "FrontendConfig",
    "Kind",
    "PathInfoServiceConfig",
    "PathInfoServiceRef",
    "Reference",
    "ServiceUrl",
    "redacted",
]

T = TypeVar("T")


class Kind(Enum):
    """The kinds of entry; the value is the name of their table in the file."""

    BLOB = "blobservices"
    DIRECTORY = "directoryservices"
    PATH_INFO = "pathinfoservices"
    FRONTEND = "frontends"

    @property
    def label(self) -> str:
        """For messages: ``blob service`` and the like."""
        return _LABELS[self]


_LABELS = {
    Kind.BLOB: "blob service",
    Kind.DIRECTORY: "directory service",
    Kind.PATH_INFO: "path info service",
    Kind.FRONTEND: "frontend",
}


@dataclass(frozen=True, slots=True)
class _RefersTo:
    kind: Kind


BlobServiceRef = Annotated[str, _RefersTo(Kind.BLOB)]
"""A field that names an entry of ``[blobservices]``, or is the URL of an anonymous one."""

DirectoryServiceRef = Annotated[str, _RefersTo(Kind.DIRECTORY)]
"""A field that names an entry of ``[directoryservices]``, or is the URL of an anonymous one."""

PathInfoServiceRef = Annotated[str, _RefersTo(Kind.PATH_INFO)]
"""A field that names an entry of ``[pathinfoservices]``, or is the URL of an anonymous one."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One entry's mention of another.

    Args:
        key: The field, with an index or key if it holds several: ``near``, ``members[2]``, ``by_name.a``.
        kind: Of the entry that is meant.
        target: Its name, or a URL.
    """

    key: str
    kind: Kind
    target: str

    @property
    def is_url(self) -> bool:
        """Whether ``target`` describes an anonymous entry of its own."""
        return "://" in self.target


_PASSWORD = re.compile(r"(://[^/?#@:]*):(?!\$\{\w+\}@)[^/?#@]*@")  # a variable says nothing
_SECRET_PARAMETER = re.compile(
    r"([?&][^=&#]*(?:secret|password|token)[^=&#]*)=(?!\$\{\w+\}(?:[&#]|$))[^&#]*", re.IGNORECASE
)


_NESTED_URL = re.compile(r"(?<==)[^&#=]*%3A(?:%2F|/){2}[^&#]*", re.IGNORECASE)


def redacted(url: str) -> str:
    """A URL for people to see: without its password, and without parameters whose names tell of a secret.

    URLs that are parameters of it are treated likewise.
    A variable of the environment in their place, ``${NAME}``, is left there.
    """

    def nested(found: re.Match[str]) -> str:
        inner = unquote(found[0])
        shown = redacted(inner)
        return found[0] if shown == inner else quote(shown, safe="*")

    return _NESTED_URL.sub(nested, _SECRET_PARAMETER.sub(r"\1=***", _PASSWORD.sub(r"\1:***@", url)))


class ServiceUrl:
    """A URL that describes a service, such as ``grpc+http://[::1]:8000?wait-connect=1``.

    Args:
        text: The URL. The part of its scheme before the first ``+`` is the type tag.

    Raises:
        ConfigError: It is not a URL.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            self.parts: SplitResult = urlsplit(text)
            self.port: int | None = self.parts.port
        except ValueError as exc:
            raise ConfigError(f"{redacted(text)!r} is not a URL: {exc}") from None  # it may quote a password
        if not self.parts.scheme:
            raise ConfigError(f"{redacted(text)!r} is not a URL: it has no scheme, as in memory://")

    @property
    def tag(self) -> str:
        """The type tag."""
        return self.parts.scheme.partition("+")[0]

    @property
    def transport(self) -> str:
        """What follows the ``+`` in the scheme; empty if nothing does."""
        return self.parts.scheme.partition("+")[2]

    @property
    def host(self) -> str:
        """Host and port as written; empty if there is none."""
        return self.parts.netloc

    @property
    def path(self) -> str:
        """The path, percent-decoded; empty if there is none."""
        return unquote(self.parts.path)

    def query(self) -> dict[str, str]:
        """The query's parameters, decoded.

        Raises:
            ConfigError: One is given twice.
        """
        pairs = parse_qsl(self.parts.query, keep_blank_values=True)
        if len(dict(pairs)) != len(pairs):
            raise self.refuse("a parameter is given twice")
        return dict(pairs)

    def refuse(self, reason: str) -> ConfigError:
        """The error to raise for a URL that this type does not accept."""
        return ConfigError(f"{str(self)!r}: {reason}")

    def __str__(self) -> str:
        return redacted(self.text)


class EntryConfig(BaseModel):
    """One entry of a configuration. Subclasses narrow ``type`` to the literal that is their tag."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, defer_build=True)
    # Of all models that are installed, a program needs a few.

    type: str

    @classmethod
    def tag(cls) -> str:
        """The literal that ``type`` is narrowed to.

        Raises:
            ConfigError: It is not a single string literal.
        """
        values: Any = getattr(cls.model_fields["type"].annotation, "__args__", ())
        if len(values) == 1 and isinstance(values[0], str):
            return values[0]
        raise ConfigError(f"{cls.__module__}.{cls.__qualname__}: type must be a Literal with one string")

    @classmethod
    def from_url(cls, url: ServiceUrl) -> Self:
        """The entry that a URL stands for.

        Raises:
            ConfigError: This type has no URL form (this default), or the URL is not of that form.
        """
        raise url.refuse(f"type {cls.tag()!r} has no URL form")

    def capabilities(self, inner: Mapping[str, Capabilities | None]) -> Capabilities | None:
        """What the service will be able to do, as far as its settings tell; ``None`` (this default) if they do not.

        Args:
            inner: The capabilities of what it refers to, by the reference's key; ``None`` where they are not known.
        """
        return None

    def misfits(self, inner: Mapping[str, Capabilities | None]) -> Iterator[tuple[str, str]]:
        """Why it cannot work over what it refers to: keys and reasons, such as ``near``, ``it does not take puts``.

        Nothing (this default), also where the capabilities that matter are not known.

        Args:
            inner: As for ``capabilities``.
        """
        return iter(())

    @property
    def reads_in_order(self) -> bool:
        """Whether a read is answered by the first of its references, as they are declared, that has the object.

        So it is with ``near`` and ``far``, with ``inner`` before others, and where there is only one (this default). Of
        others it is not known unless they say so.
        """
        keys = [reference.key for reference in self.references()]
        return len(keys) == 1 or keys[:1] == ["inner"] or keys == ["near", "far"]

    @property
    def is_shared_between_processes(self) -> bool:
        """Whether processes that build this entry see what each of them puts; yes, unless a type says otherwise."""
        return True

    needs_different_stores: ClassVar[bool] = False
    """Whether it makes no sense over the same store twice, as a mirror does not."""

    def references(self) -> Iterator[Reference]:
        """The entries that this one mentions, found through the annotations of its fields."""
        for name, field in type(self).model_fields.items():
            for kind in _referred_kinds(field.metadata, field.annotation):
                value = getattr(self, name)
                match value:
                    case str():
                        yield Reference(name, kind, value)
                    case list() | tuple():
                        yield from (Reference(f"{name}[{i}]", kind, target) for i, target in enumerate(value))
                    case dict():
                        yield from (Reference(f"{name}.{key}", kind, target) for key, target in value.items())


def _referred_kinds(metadata: list[Any], annotation: Any) -> Iterator[Kind]:
    """Kinds that a field refers to: its own mark, or that of its items or alternatives."""
    marks = [*metadata, *getattr(annotation, "__metadata__", ())]
    found = [mark.kind for mark in marks if isinstance(mark, _RefersTo)]
    if found:
        yield from found
    else:
        for argument in getattr(annotation, "__args__", ()):
            yield from _referred_kinds([], argument)


class Context(Protocol):
    """What ``build`` is given: the way to the other entries of the composition."""

    async def blob_service(self, target: str) -> BlobService:
        """The blob service with this name or URL, built if it is not yet."""

    async def directory_service(self, target: str) -> DirectoryService:
        """The directory service with this name or URL, built if it is not yet."""

    async def path_info_service(self, target: str) -> PathInfoService:
        """The path info service with this name or URL, built if it is not yet."""

    async def services(self) -> Services:
        """The roots of the composition; for frontends."""

    async def shared(self, key: Hashable, open_: Callable[[], Awaitable[AbstractAsyncContextManager[T]]]) -> T:
        """Something that several entries have in common, such as a connection to one address.

        Args:
            key: What makes it the same; begins with the plugin's name.
            open_: Makes it, the first time; it is closed after all entries that were built after it.
        """


class BlobServiceConfig(EntryConfig, ABC):
    """An entry of ``[blobservices]``."""

    @abstractmethod
    async def build(self, name: str, context: Context) -> BlobService:
        """Make the service. The composition checks what it returns, and closes it."""


class DirectoryServiceConfig(EntryConfig, ABC):
    """An entry of ``[directoryservices]``."""

    @abstractmethod
    async def build(self, name: str, context: Context) -> DirectoryService:
        """Make the service. The composition checks what it returns, and closes it."""


class PathInfoServiceConfig(EntryConfig, ABC):
    """An entry of ``[pathinfoservices]``."""

    @abstractmethod
    async def build(self, name: str, context: Context) -> PathInfoService:
        """Make the service. The composition checks what it returns, and closes it."""


class FrontendConfig(EntryConfig, ABC):
    """An entry of ``[frontends]``."""

    one_per_process: ClassVar[str | None] = None
    """Why a process can have only one frontend of this type, such as ``one process can hold one mount``."""

    @property
    def shows_metrics(self) -> bool:
        """Whether somebody can read metrics there, so that the services are to be observed; no, unless a type says."""
        return False

    @abstractmethod
    async def build(self, name: str, context: Context) -> Frontend:
        """Make the frontend; it takes its address when it is served."""
