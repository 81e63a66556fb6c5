"""What a configuration does not say itself: variables of the environment and files that it refers to.

``${NAME}`` in a string stands for a variable, ``$${`` for the characters ``${``, and a table ``{ file = "/path" }`` in
the place of a string for what is in the file. The values are put in before the models see them, and are not shown
again: what is printed has the references as they were written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin
from urllib.parse import quote, unquote, urlsplit

from pydantic import BaseModel, SecretStr

from tvix_store.config import redacted
from tvix_store.errors import ConfigError

__all__ = ["References", "Resolver", "Step"]

Step = str | int
"""A key of a table, or an index of an array."""

_MAX_FILE_BYTES = 64 * 1024
_REFERENCE = re.compile(r"\$\$\{|\$\{([^}]*)(\}?)")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_SHORTEST = 4
"""Shorter values are no secrets, and would be found in words that have nothing to do with them."""


@dataclass(frozen=True, slots=True)
class References:
    """What of a document was put in, and how it was written.

    Args:
        written: By the place in the document, what is there in the file.
        values: The values that were put in, and the reference that stands for each.
    """

    written: Mapping[tuple[Step, ...], object] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)

    def hide(self, text: str) -> str:
        """A message without the values, in any form that it may have them in. Those below 4 characters stay."""
        for form, reference in _forms(tuple(self.values.items())):
            text = text.replace(form, reference)
        return text

    def hidden(self, exc: ConfigError) -> ConfigError:
        """The same error without the values."""
        return ConfigError(self.hide(str(exc)))

    def as_written(self, document: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> dict[str, dict[str, Any]]:
        """Settings by table and name in which what is from outside is as the file has it."""
        return {
            table: {name: self._entry_as_written((table, name), settings) for name, settings in entries.items()}
            for table, entries in document.items()
        }

    def _entry_as_written(self, place: tuple[Step, ...], settings: Mapping[str, Any]) -> object:
        # A model may have other names for its keys than the file. Then a value is known by what it is.
        is_renamed = any(written[:2] == place and written[2] not in settings for written in self.written)
        return self._as_written(place, settings, is_renamed)

    def _as_written(self, place: tuple[Step, ...], value: object, is_renamed: bool) -> object:
        if place in self.written:
            return self.written[place]
        match value:
            case Mapping():
                return {key: self._as_written((*place, key), item, is_renamed) for key, item in value.items()}
            case list() | tuple():
                return [self._as_written((*place, index), item, is_renamed) for index, item in enumerate(value)]
            case str() if is_renamed:
                return self.hide(value)
        return value


@lru_cache(maxsize=8)  # the log asks with each line
def _forms(values: tuple[tuple[str, str], ...]) -> Sequence[tuple[str, str]]:
    """What a message may have a value as, with the reference that stands for it; longer ones first."""
    forms: dict[str, str] = {}
    for value, reference in values:
        forms |= dict.fromkeys((value, repr(value)[1:-1], json.dumps(value)[1:-1], " ".join(value.split())), reference)
        forms |= dict.fromkeys((quote(value), quote(value, ""), unquote(value)), reference)
        forms |= dict.fromkeys(_parts(value), reference)
    return sorted(((form, to) for form, to in forms.items() if len(form) >= _SHORTEST), key=lambda pair: -len(pair[0]))


def _parts(value: str) -> Iterator[str]:
    """What of a URL is in messages that do not have all of it."""
    if "://" in value:
        yield redacted(value)
        yield value.partition("?")[0]
        with suppress(ValueError):
            parts = urlsplit(value)
            yield from filter(None, (parts.netloc, parts.hostname, parts.username, parts.password))


class Resolver:
    """Puts values in the place of references.

    Args:
        environment: The variables that there are.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._written: dict[tuple[Step, ...], object] = {}
        self._values: dict[str, str] = {}

    @property
    def references(self) -> References:
        """What was put in so far."""
        return References(self._written, self._values)

    def resolve(self, value: object, place: tuple[Step, ...], annotation: Any, where: str) -> Any:
        """A value with what it refers to.

        Args:
            value: As a TOML parser gives it.
            place: Of it in the document.
            annotation: What the model says of it; tells whether a table is one, or stands for a file.
            where: For messages: file and entry.

        Raises:
            ConfigError: There is no such variable or file; names the key.
        """
        match value:
            case str():
                resolved: object = self._text(value, f"{where} {_key(place)}")
            case {"file": str(path), **more} if not more and _is_text(annotation):
                resolved = self._file(path, f"{where} {_key(place)}")
            case dict():
                return {
                    key: self.resolve(item, (*place, key), _item_annotation(annotation, key), where)
                    for key, item in value.items()
                }
            case list():
                return [
                    self.resolve(item, (*place, index), _item_annotation(annotation, index), where)
                    for index, item in enumerate(value)
                ]
            case _:
                return value
        if resolved != value:
            self._written[place] = value
        return resolved

    def _text(self, text: str, where: str) -> str:
        def put_in(found: re.Match[str]) -> str:
            name, end = found.groups()
            if name is None:
                return "${"
            if not end or not _NAME.fullmatch(name):
                raise ConfigError(f"{where}: {found[0]!r} is no reference; write ${{NAME}}, or $${{ to mean ${{ itself")
            if name not in self._environment:
                raise ConfigError(f"{where}: the environment variable {name} is not set")
            self._values[self._environment[name]] = found[0]
            return self._environment[name]

        return _REFERENCE.sub(put_in, text)

    def _file(self, written: str, where: str) -> str:
        path = Path(self._text(written, where))
        name = f"the file {written}"
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_FILE_BYTES + 1)
            contents = data.decode().removesuffix("\n").removesuffix("\r")
        except OSError as exc:
            raise ConfigError(f"{where}: {name} cannot be read: {exc.strerror}") from exc
        except (UnicodeDecodeError, ValueError) as exc:
            raise ConfigError(f"{where}: {name} is not text") from exc
        if not contents:
            raise ConfigError(f"{where}: {name} is empty")
        if len(data) > _MAX_FILE_BYTES:
            raise ConfigError(f"{where}: {name} has more than {_MAX_FILE_BYTES} bytes, and is hardly what was meant")
        self._values[contents] = f'{{ file = "{written}" }}'
        return contents


def _key(place: Sequence[Step]) -> str:
    """The last part of a place as messages have it: ``public_keys[0]``, ``by_name.a``. Kind and name are left out."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place[2:]).removeprefix(".")


def _alternatives(annotation: Any) -> Iterator[Any]:
    """The types that a value may have, without what annotates them."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _alternatives(get_args(annotation)[0])
    elif origin in (Union, UnionType):
        for argument in get_args(annotation):
            yield from _alternatives(argument)
    else:
        yield annotation


def _is_table(alternative: Any) -> bool:
    kind = get_origin(alternative) or alternative
    return isinstance(kind, type) and issubclass(kind, Mapping | BaseModel)


def _is_text(annotation: Any) -> bool:
    """Whether a string is wanted, and no table is."""
    alternatives = list(_alternatives(annotation))
    return any(one in (str, SecretStr) for one in alternatives) and not any(map(_is_table, alternatives))


def _item_annotation(annotation: Any, step: Step) -> Any:
    """What is said of the item of a value; ``None`` if nothing is."""
    for alternative in _alternatives(annotation):
        arguments = get_args(alternative)
        if isinstance(alternative, type) and issubclass(alternative, BaseModel):
            if step in alternative.model_fields:
                return alternative.model_fields[str(step)].annotation
        elif _is_table(alternative) and len(arguments) == 2:
            return arguments[1]
        elif isinstance(step, int) and arguments and not _is_table(alternative):
            return arguments[0]
    return None
