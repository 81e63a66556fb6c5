"""Directories for tests: those of the vectors as values, and any at all for hypothesis."""

from __future__ import annotations

from hypothesis import strategies as st

from tvix_store.digest import B3Digest
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node, SymlinkNode
from vectors.castore import BLOBS, DIRECTORIES, DirectoryVector, Entry

_DIGESTS = {vector.name: B3Digest.parse(vector.hex) for vector in BLOBS}
_DIGESTS |= {vector.name: B3Digest.parse(vector.digest) for vector in DIRECTORIES}


def node(entry: Entry) -> Node:
    """The node that an entry of a vector describes."""
    if isinstance(entry.of, bytes):
        return SymlinkNode(entry.of)
    if entry.kind == "directory":
        return DirectoryNode(_DIGESTS[entry.of], entry.size)
    return FileNode(_DIGESTS[entry.of], entry.size, entry.kind == "executable")


def directory(vector: DirectoryVector) -> Directory:
    """The directory that a vector describes."""
    return Directory({entry.name: node(entry) for entry in vector.entries})


digests = st.binary(min_size=32, max_size=32).map(B3Digest)
sizes = st.sampled_from([0, 1, 127, 128, 2**32, 2**56]) | st.integers(0, 2**59)
nodes: st.SearchStrategy[Node] = st.one_of(
    st.builds(FileNode, digests, sizes | st.just(2**64 - 1), st.booleans()),
    st.builds(DirectoryNode, digests, sizes),
    st.builds(SymlinkNode, st.binary(min_size=1, max_size=200).filter(lambda target: b"\0" not in target)),
)
names = st.binary(min_size=1, max_size=255).filter(
    lambda name: name not in (b".", b"..") and not {0, ord("/")} & set(name)
)
directories = st.dictionaries(names, nodes, max_size=12).map(Directory)
