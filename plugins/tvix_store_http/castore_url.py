"""The names of NARs that carry their root node: ``nar/snix-castore/NODE?narsize=N``.

NODE is the encoded node in unpadded base64 for URLs. Source: the ``nar-bridge`` of tvix and snix.
"""

from __future__ import annotations

import base64
import binascii

from tvix_store.errors import InvalidObject, LimitExceeded
from tvix_store.nodes import Node
from tvix_store.wire import decode_node, encode_node

__all__ = ["MAX_NODE_BYTES", "castore_url", "parse_node", "parse_nar_size"]

MAX_NODE_BYTES = 4200
"""A symlink with the longest possible target takes 4,101 bytes. The reference takes no more than 4,096."""

_URL_BYTES = str.maketrans("-_", "+/")


def castore_url(package: str, node: Node, nar_size: int) -> str:
    """What a narinfo names the NAR by.

    Args:
        package: ``snix-castore`` or ``tvix-castore``.
        node: The root.
        nar_size: Of its NAR, in bytes.
    """
    name = base64.urlsafe_b64encode(encode_node(node)).rstrip(b"=").decode()
    return f"nar/{package}/{name}?narsize={nar_size}"


def parse_node(text: str) -> Node:
    """Read NODE.

    Raises:
        InvalidObject: It is not unpadded canonical base64 of a valid nameless node.
        LimitExceeded: It is longer than any such node.
    """
    n_bytes = len(text) * 3 // 4
    if n_bytes > MAX_NODE_BYTES:
        raise LimitExceeded(f"a node of {n_bytes} bytes, at most {MAX_NODE_BYTES} are possible")
    if not text.isascii() or "=" in text or "+" in text or "/" in text:
        raise InvalidObject("the node is not unpadded base64 for URLs")
    try:
        encoded = base64.b64decode(text.translate(_URL_BYTES) + "=" * (-len(text) % 4), validate=True)
    except binascii.Error as exc:
        raise InvalidObject(f"the node is not unpadded base64 for URLs: {exc}") from exc
    if base64.urlsafe_b64encode(encoded).rstrip(b"=").decode() != text:
        raise InvalidObject("the node has stray bits at its end")
    return decode_node(encoded)


def parse_nar_size(text: str | None) -> int:
    """Read the value of ``narsize``.

    Args:
        text: ``None`` if it is missing.

    Raises:
        InvalidObject: It is missing, or no decimal number of 64 bits.
    """
    if text is None or not text.isascii() or not text.isdecimal() or len(text) > 20 or int(text) >= 2**64:
        raise InvalidObject("narsize has to be the size of the NAR in bytes")
    return int(text)
