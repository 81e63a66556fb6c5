"""narinfo files: what a binary cache says of one store path, and where its NAR is.

Source: Nix manual, "Binary Cache Narinfo Format"; https://nix.dev/manual/nix/latest/protocols/
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self, TypeVar

from tvix_store.content_address import ContentAddress
from tvix_store.errors import InvalidObject, LimitExceeded
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.limits import MIB, U64_MAX
from tvix_store.nixbase32 import encode as nixbase32
from tvix_store.nixbase32 import shown
from tvix_store.path_info import PathMetadata, Signature
from tvix_store.signing import is_key_name
from tvix_store.store_path import MAX_NAME_LENGTH, STORE_DIR, StorePath

__all__ = ["MAX_NARINFO_BYTES", "NarInfo"]

MAX_NARINFO_BYTES = 2 * MIB
"""What is longer is refused unread; the longest of cache.nixos.org have some 40 KiB."""

DEFAULT_COMPRESSION = "bzip2"
"""What a narinfo means that does not name one, as those of the first years do not."""

_UNKNOWN_DERIVER = "unknown-deriver"
_DERIVATION_SUFFIX = ".drv"
_U64_DIGITS = len(str(U64_MAX))
_MANDATORY = ("StorePath", "URL", "NarHash", "NarSize")
_ONCE = frozenset({*_MANDATORY, "Compression", "FileHash", "FileSize", "References", "Deriver", "CA"})
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class NarInfo:
    """What a narinfo says.

    Args:
        metadata: What it says of the store path.
        url: Where the NAR is, absolute or relative to the folder of the narinfo; not empty.
        compression: How the file at ``url`` is compressed; ``none``, ``xz`` or whatever else was written there.
        file_hash: Of the file at ``url``, as it is there; ``None`` if not known.
        file_size: Its size in bytes, at least 1; ``None`` if not known.

    Raises:
        InvalidObject: A value that cannot be written in a narinfo.
    """

    metadata: PathMetadata
    url: str
    compression: str
    file_hash: NixHash | None = None
    file_size: int | None = None

    def __post_init__(self) -> None:
        for key, value in (("URL", self.url), ("Compression", self.compression)):
            try:
                _text(value)
            except InvalidObject as exc:
                raise InvalidObject(f"narinfo of {self.metadata.store_path}: {key}: {exc}") from exc
        if self.metadata.nar_size == 0:
            raise InvalidObject(f"narinfo of {self.metadata.store_path}: NarSize is 0")
        if self.file_size is not None and not 0 < self.file_size <= U64_MAX:
            raise InvalidObject(f"narinfo of {self.metadata.store_path}: FileSize is {self.file_size}")

    @classmethod
    def parse(cls, data: bytes, store_dir: str = STORE_DIR) -> Self:
        """Read a narinfo; accepts what real caches are known to write.

        References stay in the order they are listed in, because a signature may be over that order. A FileHash or a
        signature that makes no sense is left out, and so are keys that are not known. An optional value that is empty
        counts as not given.

        Args:
            data: The file.
            store_dir: The store directory it should be about.

        Raises:
            InvalidObject: It is not a narinfo; the message names the line, the key and the reason.
            LimitExceeded: It has more than ``MAX_NARINFO_BYTES``.
        """
        lines = _lines(data)
        fields: dict[str, tuple[int, str]] = {}
        signatures: list[Signature] = []
        for number, line in enumerate(lines, 1):
            key, colon, rest = line.partition(":")
            # An empty value is understood without its space too; Nix would take the next line for it.
            if not colon or rest[:1].strip(" "):
                raise InvalidObject(f"narinfo line {number}: {shown(line)} is not a key, a colon, a space and a value")
            value = rest[1:]
            if key == "Sig":
                signatures += _usable_signature(value)
            elif key in _ONCE:
                if key in fields:
                    raise InvalidObject(
                        f"narinfo line {number}: {key} for the second time, after line {fields[key][0]}"
                    )
                fields[key] = (number, value)
        for key in _MANDATORY:
            if key not in fields:
                raise InvalidObject(f"narinfo: {key} is missing")

        def read(key: str, parse: Callable[[str], _T]) -> _T:
            number, value = fields.get(key, (0, ""))
            try:
                return parse(value)
            except InvalidObject as exc:
                raise InvalidObject(f"narinfo line {number}: {key}: {exc}") from exc

        return cls(
            PathMetadata(
                store_path=read("StorePath", lambda value: StorePath.from_absolute(value, store_dir)),
                nar_size=read("NarSize", _positive),
                nar_sha256=read("NarHash", _sha256),
                references=read("References", _references),
                signatures=tuple(dict.fromkeys(signatures)),
                deriver=read("Deriver", _deriver),
                ca=read("CA", _content_address),
            ),
            url=read("URL", _text),
            compression=read("Compression", lambda value: _text(value or DEFAULT_COMPRESSION)),
            file_hash=read("FileHash", _file_hash),
            file_size=read("FileSize", _file_size),
        )

    def render(self, store_dir: str = STORE_DIR) -> bytes:
        """Write the narinfo, with its keys in the order every producer has them in.

        Signatures by keys with names that no key can have are left out, as is a deriver whose name leaves no room
        for its ``.drv``.
        """
        metadata = self.metadata
        lines = [
            f"StorePath: {metadata.store_path.absolute(store_dir)}",
            f"URL: {self.url}",
            f"Compression: {self.compression}",
        ]
        if self.file_hash is not None:
            lines.append(f"FileHash: {self.file_hash.nix()}")
        if self.file_size is not None:
            lines.append(f"FileSize: {self.file_size}")
        lines += (
            f"NarHash: sha256:{nixbase32(metadata.nar_sha256)}",
            f"NarSize: {metadata.nar_size}",
            # The space is there without any references too: else Nix takes the next line for them.
            f"References: {' '.join([reference.base_name for reference in metadata.references])}",
        )
        deriver = metadata.deriver
        if deriver is not None and len(deriver.name) + len(_DERIVATION_SUFFIX) <= MAX_NAME_LENGTH:
            lines.append(f"Deriver: {deriver.base_name}{_DERIVATION_SUFFIX}")
        lines += [f"Sig: {signature}" for signature in metadata.signatures if is_key_name(signature.name)]
        if metadata.ca is not None:
            lines.append(f"CA: {metadata.ca}")
        lines.append("")
        return "\n".join(lines).encode()


def _lines(data: bytes) -> list[str]:
    if len(data) > MAX_NARINFO_BYTES:
        raise LimitExceeded(f"narinfo: {len(data)} bytes, which is more than {MAX_NARINFO_BYTES}")
    for byte, name in ((b"\0", "NUL byte"), (b"\r", "carriage return")):
        if (found := data.find(byte)) >= 0:
            raise InvalidObject(f"narinfo line {_line_number(data, found)}: {name}")
    try:
        text = data.decode()
    except UnicodeDecodeError as exc:
        raise InvalidObject(f"narinfo line {_line_number(data, exc.start)}: not UTF-8") from exc
    return text.removesuffix("\n").split("\n")


def _line_number(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def _usable_signature(text: str) -> list[Signature]:
    try:
        signature = Signature.parse(text)
    except InvalidObject:
        return []
    return [signature] if is_key_name(signature.name) else []


def _text(text: str) -> str:
    if not text:
        raise InvalidObject("it is empty")
    if _CONTROL.search(text):
        raise InvalidObject(f"{shown(text)} contains control characters")
    return text


def _sha256(text: str) -> bytes:
    nix_hash = NixHash.parse(text)
    if nix_hash.algorithm is not HashAlgorithm.SHA256:
        raise InvalidObject(f"{shown(text)} is not a sha256")
    return nix_hash.digest


def _file_hash(text: str) -> NixHash | None:
    try:
        return NixHash.parse(text)
    except InvalidObject:
        return None


def _number(text: str) -> int:
    digits = text.removeprefix("+")
    if not (digits.isascii() and digits.isdigit()):
        raise InvalidObject(f"{shown(text)} is not a decimal number")
    # int() takes quadratic time, and refuses many digits with an error of its own.
    significant = digits.lstrip("0") or "0"
    if len(significant) > _U64_DIGITS or int(significant) > U64_MAX:
        raise InvalidObject(f"{shown(text)} does not fit 64 bits")
    return int(significant)


def _positive(text: str) -> int:
    number = _number(text)
    if number == 0:
        raise InvalidObject(f"{shown(text)} is not positive")
    return number


def _file_size(text: str) -> int | None:
    # Nix takes a size of 0 for one that is not known.
    return (_number(text) or None) if text else None


def _references(text: str) -> tuple[StorePath, ...]:
    return tuple([StorePath.from_base_name(name) for name in text.split(" ") if name])


def _deriver(text: str) -> StorePath | None:
    if text in ("", _UNKNOWN_DERIVER):
        return None
    return StorePath.from_base_name(text.removesuffix(_DERIVATION_SUFFIX))


def _content_address(text: str) -> ContentAddress | None:
    return ContentAddress.parse(text) if text else None
