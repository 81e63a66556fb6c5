"""Protobuf messages to values and back, with every rule a message must keep.

The tvix and snix messages are the same bytes under two names, so one set serves both. Received messages are
normalised as the reference does: field order, explicit defaults and unknown fields make no difference to the
value, and the value's digest is that of its canonical encoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from google.protobuf.message import DecodeError, Message

from tvix_store.content_address import ContentAddress, ContentAddressMethod
from tvix_store.digest import B3Digest
from tvix_store.errors import InvalidObject
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node, SymlinkNode, quote, validate_name
from tvix_store.path_info import OUTPUT_HASH_BYTES, PathInfo, Signature, validate_nar_sha256
from tvix_store.proto.tvix.castore.protos import castore_pb2 as castore
from tvix_store.proto.tvix.store.protos import pathinfo_pb2 as store
from tvix_store.store_path import StorePath

__all__ = [
    "decode_directory",
    "decode_node",
    "decode_path_info",
    "directory_from_message",
    "encode_node",
    "encode_path_info",
    "node_from_message",
    "node_to_message",
    "path_info_from_message",
    "path_info_to_message",
]

_Entry = castore.DirectoryNode | castore.FileNode | castore.SymlinkNode


def _parse(message: Message, encoded: bytes, what: str) -> None:
    try:
        message.ParseFromString(encoded)
    except DecodeError as exc:
        raise InvalidObject(f"{what}: not a protobuf message: {exc}") from exc


def _digest(raw: bytes, name: bytes) -> B3Digest:
    try:
        return B3Digest(raw)
    except InvalidObject as exc:
        raise InvalidObject(f"invalid node with name {quote(name)}: {exc}") from exc


def _file(entry: castore.FileNode, name: bytes) -> FileNode:
    return FileNode(_digest(entry.digest, name), entry.size, entry.executable)


def _directory(entry: castore.DirectoryNode, name: bytes) -> DirectoryNode:
    return DirectoryNode(_digest(entry.digest, name), entry.size)


def _symlink(entry: castore.SymlinkNode, name: bytes) -> SymlinkNode:
    try:
        return SymlinkNode(entry.target)
    except InvalidObject as exc:
        raise InvalidObject(f"invalid node with name {quote(name)}: {exc}") from exc


def _check_order(entries: Iterable[_Entry]) -> None:
    previous = b""
    for entry in entries:
        if entry.name < previous:
            raise InvalidObject(f"{quote(entry.name)} is not sorted")
        if entry.name == previous:
            validate_name(entry.name)  # an invalid name is the better message; so an empty first one surfaces
            raise InvalidObject(f"{quote(entry.name)} is a duplicate name")
        previous = entry.name


def directory_from_message(message: castore.Directory) -> Directory:
    """The value of a ``Directory`` message.

    Raises:
        InvalidObject: It breaks a rule; which one is found first is as in the reference: order within the three
            lists, then digests, targets and names, then total size and names that two lists share.
    """
    for entries in (message.directories, message.files, message.symlinks):
        _check_order(entries)
    pairs: list[tuple[bytes, Node]] = []
    for directory in message.directories:
        pairs.append((directory.name, _directory(directory, directory.name)))
        validate_name(directory.name)
    for file in message.files:
        pairs.append((file.name, _file(file, file.name)))
        validate_name(file.name)
    for symlink in message.symlinks:
        pairs.append((symlink.name, _symlink(symlink, symlink.name)))
        validate_name(symlink.name)
    return Directory(pairs)


def decode_directory(encoded: bytes) -> Directory:
    """The value of an encoded ``Directory`` message, canonical or not.

    Whoever looked it up by digest compares ``Directory.digest``, which differs if ``encoded`` was not canonical.

    Raises:
        InvalidObject: Not a protobuf message, or it breaks a rule.
    """
    if (directory := Directory.decode_canonical(encoded)) is not None:  # as nearly all are
        return directory
    message = castore.Directory()
    _parse(message, encoded, "directory")
    return directory_from_message(message)


def node_from_message(message: castore.Node) -> tuple[bytes, Node]:
    """Name (empty if it has none) and value of a ``Node`` message.

    Raises:
        InvalidObject: No kind is set, or digest or target break a rule. The name is not checked.
    """
    match message.WhichOneof("node"):
        case "directory":
            return message.directory.name, _directory(message.directory, message.directory.name)
        case "file":
            return message.file.name, _file(message.file, message.file.name)
        case "symlink":
            return message.symlink.name, _symlink(message.symlink, message.symlink.name)
        case _:
            raise InvalidObject("no node set")


def node_to_message(node: Node, name: bytes = b"") -> castore.Node:
    """The ``Node`` message of a node, nameless by default, as ``CalculateNAR`` wants it."""
    match node:
        case DirectoryNode():
            entry = castore.DirectoryNode(name=name, digest=node.digest.raw, size=node.size)
            return castore.Node(directory=entry)
        case FileNode():
            file = castore.FileNode(name=name, digest=node.digest.raw, size=node.size, executable=node.executable)
            return castore.Node(file=file)
        case SymlinkNode():
            return castore.Node(symlink=castore.SymlinkNode(name=name, target=node.target))


def encode_node(node: Node) -> bytes:
    """A nameless ``Node`` message, as NAR URLs embed it."""
    return node_to_message(node).SerializeToString(deterministic=True)


def decode_node(encoded: bytes) -> Node:
    """The value of a nameless ``Node`` message.

    Raises:
        InvalidObject: Not a protobuf message, invalid, or it has a name.
    """
    message = castore.Node()
    _parse(message, encoded, "node")
    name, node = node_from_message(message)
    if name:
        raise InvalidObject(f"root node has the name {quote(name)}, but none is allowed here")
    return node


_CA_TYPES: dict[int, tuple[ContentAddressMethod, HashAlgorithm]] = {
    store.NARInfo.CA.NAR_SHA256: (ContentAddressMethod.NAR, HashAlgorithm.SHA256),
    store.NARInfo.CA.NAR_SHA1: (ContentAddressMethod.NAR, HashAlgorithm.SHA1),
    store.NARInfo.CA.NAR_SHA512: (ContentAddressMethod.NAR, HashAlgorithm.SHA512),
    store.NARInfo.CA.NAR_MD5: (ContentAddressMethod.NAR, HashAlgorithm.MD5),
    store.NARInfo.CA.TEXT_SHA256: (ContentAddressMethod.TEXT, HashAlgorithm.SHA256),
    store.NARInfo.CA.FLAT_SHA1: (ContentAddressMethod.FLAT, HashAlgorithm.SHA1),
    store.NARInfo.CA.FLAT_MD5: (ContentAddressMethod.FLAT, HashAlgorithm.MD5),
    store.NARInfo.CA.FLAT_SHA256: (ContentAddressMethod.FLAT, HashAlgorithm.SHA256),
    store.NARInfo.CA.FLAT_SHA512: (ContentAddressMethod.FLAT, HashAlgorithm.SHA512),
}
_CA_NUMBERS = {kind: number for number, kind in _CA_TYPES.items()}


def _references(digests: Sequence[bytes], names: Sequence[str]) -> tuple[StorePath, ...]:
    for index, digest in enumerate(digests):
        if len(digest) != OUTPUT_HASH_BYTES:
            raise InvalidObject(
                f"invalid reference digest at position {index}: {len(digest)} bytes instead of {OUTPUT_HASH_BYTES}"
            )
    if len(digests) != len(names):
        raise InvalidObject(f"inconsistent number of references: {len(digests)} digests, {len(names)} names")
    references: list[StorePath] = []
    for index, (digest, name) in enumerate(zip(digests, names, strict=True)):
        try:
            reference = StorePath.from_base_name(name)
        except InvalidObject as exc:
            raise InvalidObject(f"invalid reference name at position {index}: {exc}") from exc
        if reference.digest != digest:
            raise InvalidObject(
                f"inconsistent reference at position {index}: name {name[:80]!r} has digest "
                f"{reference.digest.hex()}, the digest is {digest.hex()}"
            )
        references.append(reference)
    return tuple(references)


def _content_address(message: store.NARInfo.CA) -> ContentAddress:
    kind = _CA_TYPES.get(message.type)
    if kind is None:
        raise InvalidObject(f"invalid ca: unknown hash type {message.type}")
    method, algorithm = kind
    try:
        return ContentAddress(method, NixHash(algorithm, message.digest))
    except InvalidObject as exc:
        raise InvalidObject(f"invalid ca: {exc}") from exc


def path_info_from_message(message: store.PathInfo) -> PathInfo:
    """The value of a ``PathInfo`` message.

    Raises:
        InvalidObject: It breaks a rule; they are tested in the order of the reference. The message names the path
            once that is known to be valid.
    """
    if not message.HasField("narinfo"):
        raise InvalidObject("invalid path info: the narinfo field is missing")
    narinfo = message.narinfo
    try:
        references = _references(message.references, narinfo.reference_names)
        if not message.HasField("node"):
            raise InvalidObject("no root node present")
        name, node = _root_node(message.node)
        store_path = _store_path(name)
    except InvalidObject as exc:
        raise InvalidObject(f"invalid path info: {exc}") from exc
    try:
        validate_nar_sha256(store_path, narinfo.nar_sha256)
        deriver = _deriver(narinfo.deriver) if narinfo.HasField("deriver") else None
        return PathInfo(
            store_path=store_path,
            node=node,
            nar_size=narinfo.nar_size,
            nar_sha256=narinfo.nar_sha256,
            references=references,
            signatures=tuple(Signature(signature.name, signature.data) for signature in narinfo.signatures),
            deriver=deriver,
            ca=_content_address(narinfo.ca) if narinfo.HasField("ca") else None,
        )
    except InvalidObject as exc:
        raise InvalidObject(f"invalid path info {store_path}: {exc}") from exc


def _root_node(message: castore.Node) -> tuple[bytes, Node]:
    try:
        name, node = node_from_message(message)
        validate_name(name)
    except InvalidObject as exc:
        raise InvalidObject(f"invalid root node: {exc}") from exc
    return name, node


def _store_path(name: bytes) -> StorePath:
    try:
        return StorePath.from_base_name(name.decode("ascii"))
    except (UnicodeDecodeError, InvalidObject) as exc:
        raise InvalidObject(f"invalid node name {quote(name)}: {exc}") from exc


def _deriver(message: store.StorePath) -> StorePath:
    try:
        return StorePath(message.digest, message.name)
    except InvalidObject as exc:
        raise InvalidObject(f"invalid deriver: {exc}") from exc


def path_info_to_message(path_info: PathInfo) -> store.PathInfo:
    """The ``PathInfo`` message of a path info; its root node carries the base name of the path."""
    narinfo = store.NARInfo(
        nar_size=path_info.nar_size,
        nar_sha256=path_info.nar_sha256,
        signatures=[store.NARInfo.Signature(name=s.name, data=s.data) for s in path_info.signatures],
        reference_names=[str(reference) for reference in path_info.references],
    )
    if path_info.deriver is not None:
        narinfo.deriver.CopyFrom(store.StorePath(name=path_info.deriver.name, digest=path_info.deriver.digest))
    if path_info.ca is not None:
        number = _CA_NUMBERS[path_info.ca.method, path_info.ca.hash.algorithm]
        narinfo.ca.CopyFrom(store.NARInfo.CA(type=number, digest=path_info.ca.hash.digest))  # type: ignore[arg-type]
    return store.PathInfo(
        node=node_to_message(path_info.node, str(path_info.store_path).encode()),
        references=[reference.digest for reference in path_info.references],
        narinfo=narinfo,
    )


def encode_path_info(path_info: PathInfo) -> bytes:
    """The canonical protobuf encoding of a path info."""
    return path_info_to_message(path_info).SerializeToString(deterministic=True)


def decode_path_info(encoded: bytes) -> PathInfo:
    """The value of an encoded ``PathInfo`` message.

    Raises:
        InvalidObject: Not a protobuf message, or it breaks a rule.
    """
    message = store.PathInfo()
    _parse(message, encoded, "path info")
    return path_info_from_message(message)
