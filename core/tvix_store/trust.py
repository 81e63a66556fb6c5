"""Whether what is said of a store path may be believed: it is content-addressed, or somebody trusted signed it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from tvix_store.errors import InvalidObject
from tvix_store.nixbase32 import shown
from tvix_store.path_info import PathMetadata
from tvix_store.signing import PublicKey, in_signing_order
from tvix_store.store_path import STORE_DIR, store_path_for_ca

__all__ = ["Untrusted", "check_trusted", "is_content_addressed", "signed_by"]

_MAX_SIGNATURES_TRIED = 64
"""Signatures under trusted names; a narinfo has room for 20,000, and each takes two tries of 0.1 ms."""


class Untrusted(InvalidObject):
    """Nobody who is trusted stands for what is said of a store path."""


def is_content_addressed(metadata: PathMetadata, store_dir: str = STORE_DIR) -> bool:
    """Whether the store path follows from the content address, the name and the references.

    Then they need no signature: they are true of the path, whoever says so. Whether some contents have that content
    address is another question.
    """
    if metadata.ca is None:
        return False
    path = metadata.store_path
    references = set(metadata.references)
    try:
        computed = store_path_for_ca(path.name, metadata.ca, references - {path}, path in references, store_dir)
    except InvalidObject:  # contents addressed like this have no such references
        return False
    return computed == path


def signed_by(
    metadata: PathMetadata, public_keys: Collection[PublicKey], store_dir: str = STORE_DIR
) -> PublicKey | None:
    """The first of ``public_keys`` that signed this; ``None`` if none did.

    Signatures count over the references as they are listed, which old ones are, and over the sorted ones.
    """
    names = {key.name for key in public_keys}
    signatures = [signature for signature in metadata.signatures if signature.name in names][:_MAX_SIGNATURES_TRIED]
    if not signatures:
        return None
    for fingerprint in _fingerprints(metadata, store_dir):
        for key in public_keys:
            if any(key.verify(fingerprint, signature) for signature in signatures):
                return key
    return None


def _fingerprints(metadata: PathMetadata, store_dir: str) -> Iterator[str]:
    yield metadata.fingerprint(store_dir)
    ordered = in_signing_order(metadata)
    if ordered is not metadata:
        yield ordered.fingerprint(store_dir)


def check_trusted(metadata: PathMetadata, public_keys: Collection[PublicKey], store_dir: str = STORE_DIR) -> None:
    """Check that a path is content-addressed or signed by one of ``public_keys``.

    Raises:
        Untrusted: It is neither; the message names the path and what it lacks.
    """
    if is_content_addressed(metadata, store_dir) or signed_by(metadata, public_keys, store_dir) is not None:
        return
    path = metadata.store_path.absolute(store_dir)
    ca = "" if metadata.ca is None else f", and does not follow from its content address {metadata.ca}"
    signers = {signature.name for signature in metadata.signatures}
    if not signers:
        raise Untrusted(f"{path} has no signature{ca}")
    trusted = sorted(signers & {key.name for key in public_keys})
    if trusted:
        raise Untrusted(f"{path}: its signature by {shown(', '.join(trusted))} is wrong{ca}")
    raise Untrusted(f"{path} is signed by {shown(', '.join(sorted(signers)))} only, which is not trusted{ca}")
