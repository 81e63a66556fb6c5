"""The listing of a NAR, as ``.ls`` files beside a narinfo have it: what is in it, and where in it the contents are."""

from __future__ import annotations

import json
from collections.abc import Iterator

from tvix_store import nar
from tvix_store.errors import LimitExceeded
from tvix_store.limits import MIB
from tvix_store.nar_render import Tree
from tvix_store.nodes import DirectoryNode, FileNode, Node, SymlinkNode

__all__ = ["MAX_LISTING_BYTES", "listing"]

MAX_LISTING_BYTES = 64 * MIB
"""No listing is longer. A million files take about as much."""


def listing(tree: Tree) -> bytes:
    r"""The listing of the NAR of ``tree``, JSON in ASCII.

    Names and targets that are not UTF-8, which JSON cannot carry, have a lone surrogate, ``\udc80`` to ``\udcff``,
    in place of each byte that is wrong, as Python's "surrogateescape" has it. No two names become the same by that.

    Raises:
        LimitExceeded: The tree cannot be a NAR, or the listing would be longer than ``MAX_LISTING_BYTES``.
    """
    tree.nar_size()
    parts: list[str] = []
    left = MAX_LISTING_BYTES
    for part in _document(tree):
        left -= len(part)
        if left < 0:
            raise LimitExceeded(f"a listing of more than {MAX_LISTING_BYTES} bytes")
        parts.append(part)
    return "".join(parts).encode("ascii")


def _document(tree: Tree) -> Iterator[str]:
    yield '{"version":1,"root":'
    if isinstance(tree.root, DirectoryNode):
        yield from _directories(tree, tree.root)
    else:
        yield _leaf(tree.root, nar.ROOT_OVERHEAD)
    yield "}"


def _directories(tree: Tree, root: DirectoryNode) -> Iterator[str]:
    yield _OPEN
    stack = [iter(tree.directories[root.digest].items())]
    position = nar.ROOT_OVERHEAD + nar.DIRECTORY_OFFSET
    comma = ""
    while stack:
        for name, node in stack[-1]:
            position += nar.entry_offset(name)
            yield f"{comma}{_quoted(name)}:"
            comma = ","
            if isinstance(node, DirectoryNode):
                yield _OPEN
                comma = ""
                position += nar.DIRECTORY_OFFSET
                stack.append(iter(tree.directories[node.digest].items()))
                break
            yield _leaf(node, position)
            position += tree.size_of(node) + len(nar.CLOSE)
        else:
            stack.pop()
            yield "}}"
            comma = ","
            position += len(nar.CLOSE_IN_ENTRY)


_OPEN = '{"type":"directory","entries":{'


def _leaf(node: Node, position: int) -> str:
    """A file or symlink that begins at ``position`` of the NAR."""
    if isinstance(node, FileNode):
        offset = position + nar.content_offset(executable=node.executable)
        executable = ',"executable":true' if node.executable else ""
        return f'{{"type":"regular","size":{node.size}{executable},"narOffset":{offset}}}'
    assert isinstance(node, SymlinkNode)
    return f'{{"type":"symlink","target":{_quoted(node.target)}}}'


def _quoted(text: bytes) -> str:
    return json.dumps(text.decode("utf-8", "surrogateescape"))
