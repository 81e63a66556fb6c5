"""Store paths: how they are written, and how they follow from contents.

A store path is a directory entry ``DIGEST-NAME`` of the store directory, where DIGEST is 20 bytes in nixbase32.
Source: Nix manual, "Complete Store Path Calculation"; Dolstra's PhD thesis, section 5.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import total_ordering
from typing import Self

from tvix_store import nixbase32
from tvix_store.content_address import ContentAddress, ContentAddressMethod
from tvix_store.errors import InvalidObject
from tvix_store.hashes import HashAlgorithm
from tvix_store.nixbase32 import shown

__all__ = [
    "DIGEST_SIZE",
    "HASH_PART_LENGTH",
    "MAX_NAME_LENGTH",
    "STORE_DIR",
    "HashModulo",
    "StorePath",
    "compress_hash",
    "make_store_path",
    "placeholder",
    "split_absolute",
    "store_path_for_ca",
    "validate_name",
]

STORE_DIR = "/nix/store"
"""The default store directory; hashed into every store path, so stores of different directories share none."""

DIGEST_SIZE = 20
HASH_PART_LENGTH = nixbase32.encoded_length(DIGEST_SIZE)
MAX_NAME_LENGTH = 211

_BLANKED = bytes(HASH_PART_LENGTH)
_FOREIGN_CHARACTER = re.compile(r"[^A-Za-z0-9+\-._?=]")


def validate_name(name: str) -> None:
    """Check the name part of a store path by the rules of Nix 2.21 and later.

    Raises:
        InvalidObject: The name breaks a rule; the message says which.
    """
    if not name:
        raise InvalidObject("store path name '': it is empty")
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidObject(f"store path name {shown(name)}: longer than {MAX_NAME_LENGTH} characters")
    if foreign := _FOREIGN_CHARACTER.search(name):
        raise InvalidObject(f"store path name {shown(name)}: {foreign[0]!r} is not allowed in it")
    # Whatever appends "-suffix" to a name must not be able to make these out of one another.
    for dots in (".", ".."):
        if name == dots or name.startswith(f"{dots}-"):
            raise InvalidObject(f"store path name {shown(name)}: its first part is {dots!r}")


@total_ordering
@dataclass(frozen=True, slots=True)
class StorePath:
    """A store path without its store directory; ordered as the base names are.

    Args:
        digest: 20 bytes.
        name: What follows the digest and a dash.

    Raises:
        InvalidObject: The digest has another length, or the name breaks a rule.
    """

    digest: bytes
    name: str

    def __post_init__(self) -> None:
        if len(self.digest) != DIGEST_SIZE:
            raise InvalidObject(
                f"store path digest {shown(self.digest.hex())}: {len(self.digest)} bytes instead of {DIGEST_SIZE}"
            )
        validate_name(self.name)

    @classmethod
    def from_base_name(cls, text: str) -> Self:
        """Read ``DIGEST-NAME``.

        Raises:
            InvalidObject: The text is not the base name of a store path.
        """
        if len(text) < HASH_PART_LENGTH + 2:
            raise InvalidObject(f"store path {shown(text)}: too short for a digest, a dash and a name")
        try:
            digest = nixbase32.decode_fixed(text[:HASH_PART_LENGTH], DIGEST_SIZE)
            if text[HASH_PART_LENGTH] != "-":
                raise InvalidObject(f"no dash after the {HASH_PART_LENGTH} characters of the digest")
            return cls(digest, text[HASH_PART_LENGTH + 1 :])
        except InvalidObject as exc:
            raise InvalidObject(f"store path {shown(text)}: {exc}") from exc

    @classmethod
    def from_absolute(cls, text: str, store_dir: str = STORE_DIR) -> Self:
        """Read ``STORE_DIR/DIGEST-NAME``, and nothing below it.

        Raises:
            InvalidObject: The text is not a store path in this store directory.
        """
        return cls.from_base_name(_below(text, store_dir))

    @property
    def hash_part(self) -> str:
        """The digest as the 32 characters the base name starts with."""
        return nixbase32.encode(self.digest)

    @property
    def base_name(self) -> str:
        """``DIGEST-NAME``, which is the name of the directory entry."""
        return f"{self.hash_part}-{self.name}"

    def absolute(self, store_dir: str = STORE_DIR) -> str:
        """The path in the file system."""
        return f"{store_dir}/{self.base_name}"

    def __str__(self) -> str:
        return self.base_name

    def __repr__(self) -> str:
        return f"StorePath.from_base_name({self.base_name!r})"

    def __lt__(self, other: object) -> bool:
        if not isinstance(other, StorePath):
            return NotImplemented
        # The order of the base names, without encoding the digests: nixbase32 starts with the last byte.
        return (self.digest[::-1], self.name) < (other.digest[::-1], other.name)


def split_absolute(text: str, store_dir: str = STORE_DIR) -> tuple[StorePath, str]:
    """Split a path in or below a store path.

    Args:
        text: An absolute path.
        store_dir: The store directory it should be in.

    Returns:
        The store path, and what follows the slash after it: a relative path as given (dots and trailing
        slashes included), empty if there is none.

    Raises:
        InvalidObject: The text is not such a path.
    """
    base_name, _, rest = _below(text, store_dir).partition("/")
    # Further slashes would make the rest an absolute path.
    return StorePath.from_base_name(base_name), rest.lstrip("/")


def _below(text: str, store_dir: str) -> str:
    prefix = f"{store_dir}/"
    if not text.startswith(prefix):
        raise InvalidObject(f"store path {shown(text)}: not an absolute path in {store_dir}")
    return text.removeprefix(prefix)


def compress_hash(digest: bytes) -> bytes:
    """Fold a SHA-256 into the digest of a store path.

    Args:
        digest: SHA-256 of the fingerprint, 32 bytes.

    Returns:
        20 bytes; byte ``i`` is the XOR of the input bytes whose index is ``i`` modulo 20.

    Raises:
        InvalidObject: ``digest`` is not 32 bytes long.
    """
    _check_sha256(digest)
    folded = int.from_bytes(digest[:DIGEST_SIZE], "little") ^ int.from_bytes(digest[DIGEST_SIZE:], "little")
    return folded.to_bytes(DIGEST_SIZE, "little")


def make_store_path(path_type: str, inner_digest: bytes, name: str, store_dir: str = STORE_DIR) -> StorePath:
    """Compute a store path by the rule all of them follow.

    Args:
        path_type: What kind of path it is and, for some kinds, the references: ``source``, ``text``,
            ``output:out``.
        inner_digest: SHA-256 of what the kind has it made from, 32 bytes.
        name: The name part.
        store_dir: The store directory, without a trailing slash.

    Raises:
        InvalidObject: The digest has another length, or the name breaks a rule.
    """
    _check_sha256(inner_digest)
    fingerprint = f"{path_type}:sha256:{inner_digest.hex()}:{store_dir}:{name}"
    validate_name(name)
    return StorePath(compress_hash(hashlib.sha256(fingerprint.encode()).digest()), name)


def store_path_for_ca(
    name: str,
    ca: ContentAddress,
    references: Iterable[StorePath] = (),
    self_reference: bool = False,
    store_dir: str = STORE_DIR,
) -> StorePath:
    """Compute the store path of contents from their content address.

    Args:
        name: The name part.
        ca: The content address; that of contents referring to themselves is taken modulo the reference.
        references: The other store paths the contents refer to, in any order.
        self_reference: Whether the contents refer to themselves.
        store_dir: The store directory, without a trailing slash.

    Raises:
        InvalidObject: The name breaks a rule, or contents addressed like this cannot have such references.
    """
    # By base name is by absolute path too: they all start with the same directory.
    ordered = sorted(set(references))
    digest = ca.hash.digest
    if ca.method is ContentAddressMethod.NAR and ca.hash.algorithm is HashAlgorithm.SHA256:
        return make_store_path(
            _type_with_references("source", ordered, self_reference, store_dir), digest, name, store_dir
        )
    if self_reference:
        raise InvalidObject(f"store path {shown(name)}: content addressed by {ca} cannot refer to itself")
    if ca.method is ContentAddressMethod.TEXT:
        return make_store_path(_type_with_references("text", ordered, False, store_dir), digest, name, store_dir)
    if ordered:
        raise InvalidObject(f"store path {shown(name)}: content addressed by {ca} cannot have references")
    inner = f"fixed:out:{'r:' if ca.method is ContentAddressMethod.NAR else ''}{ca.hash.algorithm}:{ca.hash.hex()}:"
    return make_store_path("output:out", hashlib.sha256(inner.encode()).digest(), name, store_dir)


def _type_with_references(kind: str, ordered: list[StorePath], self_reference: bool, store_dir: str) -> str:
    parts = [kind, *(reference.absolute(store_dir) for reference in ordered)]
    if self_reference:
        parts.append("self")
    return ":".join(parts)


class HashModulo:
    """The SHA-256 of a NAR modulo a hash part it contains; used as objects of `hashlib` are.

    A store path that follows from a hash cannot be covered by it: each occurrence of its hash part counts as
    NUL bytes, and the offsets of the occurrences are hashed after the stream. Without any occurrence the
    result is the plain SHA-256. Takes linear time, and memory only for the offsets, however the stream is
    cut into updates.

    Args:
        hash_part: The 32 characters a store path's base name starts with.

    Raises:
        InvalidObject: ``hash_part`` is something else.

    Source: Nix manual, "Content-Addressing Store Objects"; Dolstra's PhD thesis, section 6.3.
    """

    def __init__(self, hash_part: str) -> None:
        nixbase32.decode_fixed(hash_part, DIGEST_SIZE)
        self._needle = hash_part.encode()
        self._hasher = hashlib.sha256()
        # The end of the stream, where an occurrence may have begun; not hashed yet. Occurrences in it are
        # blanked already, so they cannot overlap with the next one.
        self._tail = b""
        self._tail_offset = 0
        self._suffix = bytearray()

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Append to the stream."""
        window = self._tail + data
        found = window.find(self._needle)
        if found >= 0:
            pieces: list[bytes] = []
            done = 0
            while found >= 0:
                self._suffix += b"|%d" % (self._tail_offset + found)
                pieces += (window[done:found], _BLANKED)
                done = found + HASH_PART_LENGTH
                found = window.find(self._needle, done)
            window = b"".join((*pieces, window[done:]))
        consumed = max(0, len(window) - HASH_PART_LENGTH + 1)
        self._hasher.update(memoryview(window)[:consumed])
        self._tail = window[consumed:]
        self._tail_offset += consumed

    def digest(self) -> bytes:
        """The 32 bytes for the stream so far, which may still be continued."""
        hasher = self._hasher.copy()
        hasher.update(self._tail)
        hasher.update(self._suffix)
        return hasher.digest()


def placeholder(output: str) -> str:
    """What stands for the path of a derivation's output as long as that path is not known."""
    return f"/{nixbase32.encode(hashlib.sha256(f'nix-output:{output}'.encode()).digest())}"


def _check_sha256(digest: bytes) -> None:
    if len(digest) != HashAlgorithm.SHA256.digest_size:
        raise InvalidObject(f"sha256 digest {shown(digest.hex())}: {len(digest)} bytes instead of 32")
