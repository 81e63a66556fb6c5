"""Keys that sign what is known of store paths: made, read, used.

Ed25519 (RFC 8032) over the fingerprint. Written ``NAME:BASE64``: a secret key is the 32 bytes of the seed and the 32 of
the public key, a public key the latter alone. Source: Nix manual, "nix-store --generate-binary-cache-key".
"""

from __future__ import annotations

import base64
import logging
import os
import re
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from tvix_store.errors import ConfigError, InvalidObject
from tvix_store.nixbase32 import shown
from tvix_store.path_info import PathMetadata, Signature
from tvix_store.store_path import STORE_DIR

__all__ = ["PublicKey", "SecretKey", "in_signing_order", "is_key_name", "parse_public_keys"]

logger = logging.getLogger(__name__)

_SEED_BYTES = 32
_PUBLIC_BYTES = 32
_MAX_KEY_FILE_BYTES = 4096

# Neither a colon, nor white space, nor control characters, nor what cannot be encoded.
_KEY_NAME = re.compile(r"[^:\s\x00-\x1f\x7f-\x9f\ud800-\udfff]+")

_P = 2**255 - 19
# The y of the eight points of small order. Signatures by such a key can be made without knowing a secret.
_SMALL_ORDER_Y = frozenset(
    {
        0,
        1,
        _P - 1,
        int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
        int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
    }
)

_Metadata = TypeVar("_Metadata", bound=PathMetadata)


def is_key_name(name: str) -> bool:
    """Whether a key can have this name; signatures by other names cannot be written down."""
    return _KEY_NAME.fullmatch(name) is not None


def in_signing_order(metadata: _Metadata) -> _Metadata:
    """``metadata`` with its references sorted and unique, which is the order Nix signs and verifies them in."""
    ordered = tuple(sorted(set(metadata.references), key=lambda reference: (reference.digest[::-1], reference.name)))
    return metadata if ordered == metadata.references else replace(metadata, references=ordered)


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are verified with.

    Args:
        name: Of the key; any text without colons, white space and control characters.
        data: 32 bytes.

    Raises:
        InvalidObject: No key can have this name, or this value.
    """

    name: str
    data: bytes

    def __post_init__(self) -> None:
        _check_name("public key", self.name)
        if len(self.data) != _PUBLIC_BYTES:
            raise InvalidObject(
                f"public key {shown(self.name)}: {len(self.data)} bytes of data instead of {_PUBLIC_BYTES}"
            )
        y = int.from_bytes(self.data, "little") & (2**255 - 1)
        if y >= _P or y in _SMALL_ORDER_Y:
            raise InvalidObject(f"public key {shown(self.name)}: everybody can sign with this value")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``NAME:BASE64``; white space around it does not matter.

        Raises:
            InvalidObject: The text is not a public key.
        """
        text = text.strip()
        if ":" not in text:
            raise InvalidObject(f"public key {shown(text)}: expected NAME:BASE64")
        return cls(*_split("public key", text))

    def verify(self, fingerprint: str, signature: Signature) -> bool:
        """Whether ``signature`` is by this key, over this fingerprint; one by another name is not."""
        if signature.name != self.name:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.data).verify(signature.data, fingerprint.encode())
        except (InvalidSignature, ValueError):
            return False
        return True

    def __str__(self) -> str:
        return f"{self.name}:{base64.b64encode(self.data).decode()}"


class SecretKey:
    """A key that signs. ``str()`` is the whole key, for its file; ``repr()`` and error messages never show it.

    Args:
        name: Of the key; any text without colons, white space and control characters.
        seed: 32 random bytes, from which everything else follows.

    Raises:
        InvalidObject: No key can have this name, or the seed has another length.
    """

    __slots__ = ("_private", "_seed", "public")

    def __init__(self, name: str, seed: bytes) -> None:
        _check_name("secret key", name)
        if len(seed) != _SEED_BYTES:
            raise InvalidObject(f"secret key {shown(name)}: a seed of {len(seed)} bytes instead of {_SEED_BYTES}")
        self._seed = seed
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = PublicKey(name, self._private.public_key().public_bytes_raw())
        """What verifies the signatures of this key."""

    @classmethod
    def generate(cls, name: str) -> Self:
        """Make a new key.

        Raises:
            InvalidObject: No key can have this name.
        """
        return cls(name, Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``NAME:BASE64``; white space around it does not matter.

        Raises:
            InvalidObject: The text is not a secret key, or its halves do not belong together.
        """
        text = text.strip()
        if ":" not in text:  # which may be the secret alone
            raise InvalidObject("secret key: expected NAME:BASE64, and there is no colon")
        name, data = _split("secret key", text)
        if len(data) != _SEED_BYTES + _PUBLIC_BYTES:
            raise InvalidObject(
                f"secret key {shown(name)}: {len(data)} bytes of data instead of {_SEED_BYTES + _PUBLIC_BYTES}"
            )
        key = cls(name, data[:_SEED_BYTES])
        if key.public.data != data[_SEED_BYTES:]:
            raise InvalidObject(f"secret key {shown(name)}: its second half is not the public key of its first half")
        return key

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a key file, as ``nix-store --generate-binary-cache-key`` makes it.

        Raises:
            ConfigError: The file cannot be read, or does not hold a secret key.
        """
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_KEY_FILE_BYTES + 1)
                if os.fstat(file.fileno()).st_mode & stat.S_IROTH:
                    logger.warning("key file %s can be read by everybody", path)
        except OSError as exc:
            raise ConfigError(f"key file {path}: {exc.strerror or exc}") from exc
        if len(data) > _MAX_KEY_FILE_BYTES:
            raise ConfigError(f"key file {path}: more than {_MAX_KEY_FILE_BYTES} bytes")
        try:
            return cls.parse(data.decode())
        except UnicodeDecodeError:
            raise ConfigError(f"key file {path}: not UTF-8") from None  # the cause would show the key
        except InvalidObject as exc:
            raise ConfigError(f"key file {path}: {exc}") from exc

    @property
    def name(self) -> str:
        """The name that signatures carry."""
        return self.public.name

    def sign(self, metadata: PathMetadata, store_dir: str = STORE_DIR) -> Signature:
        """Sign what ``metadata`` says, over its references sorted and unique, as Nix does."""
        return self._sign(in_signing_order(metadata).fingerprint(store_dir))

    def signed(self, metadata: _Metadata, store_dir: str = STORE_DIR) -> _Metadata:
        """``metadata`` with the signature of this key added, unless it has it.

        If its references are in another order than that of Nix, they stay so, because other signatures may be over
        that order. Then there is a second signature, over the references as they stand: tvix and snix verify that.
        """
        ordered = in_signing_order(metadata)
        signatures = [self._sign(ordered.fingerprint(store_dir))]
        if ordered is not metadata:
            signatures.append(self._sign(metadata.fingerprint(store_dir)))
        return metadata.with_signatures(*signatures)

    def _sign(self, fingerprint: str) -> Signature:
        return Signature(self.name, self._private.sign(fingerprint.encode()))

    def __str__(self) -> str:
        return f"{self.name}:{base64.b64encode(self._seed + self.public.data).decode()}"

    def __repr__(self) -> str:
        return f"<SecretKey {self.name!r}>"


def parse_public_keys(text: str) -> tuple[PublicKey, ...]:
    """Read a list of public keys separated by white space, each once.

    Raises:
        InvalidObject: One of them is not a public key.
    """
    return tuple(dict.fromkeys(PublicKey.parse(word) for word in text.split()))


def _check_name(kind: str, name: str) -> None:
    if not is_key_name(name):
        raise InvalidObject(
            f"{kind} {shown(name)}: a name is not empty and has no colons, white space or control characters"
        )


def _split(kind: str, text: str) -> tuple[str, bytes]:
    """The name and the data of ``NAME:BASE64``; what the data is never gets into a message."""
    name, _, encoded = text.partition(":")
    _check_name(kind, name)
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError:
        data = None
    # Two texts for one key would be one too many: unused bits have to be zero.
    if data is None or base64.b64encode(data).decode() != encoded:
        raise InvalidObject(f"{kind} {shown(name)}: what follows the colon is not padded base64")
    return name, data
