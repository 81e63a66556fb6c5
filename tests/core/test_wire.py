from __future__ import annotations

import base64
import re
from collections.abc import Callable

import pytest
from blake3 import blake3
from hypothesis import given

from core.directories import directories
from tvix_store import wire
from tvix_store.content_address import ContentAddressMethod
from tvix_store.errors import InvalidObject
from tvix_store.hashes import HashAlgorithm
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node, SymlinkNode
from tvix_store.proto.snix.castore.protos import castore_pb2 as snix_castore
from tvix_store.proto.tvix.castore.protos import castore_pb2 as castore
from tvix_store.proto.tvix.store.protos import pathinfo_pb2 as store
from tvix_store.store_path import StorePath
from tvix_store.testing.fixtures import (
    DIRECTORY_COMPLICATED,
    DIRECTORY_WITH_KEEP,
    GOLDEN_PATH_INFOS,
    HELLOWORLD_BLOB,
    PATH_INFO,
)
from vectors.castore import (
    DIRECTORIES,
    INVALID_NODE,
    NODES,
    NOT_CANONICAL,
    VALIDATION,
    DirectoryVector,
    ValidationVector,
)
from vectors.castore_messages import PATH_INFOS, PathInfoVector

DUMMY = "00000000000000000000000000000000-dummy"


def message_of(directory: Directory) -> castore.Directory:
    """The message, put together by protobuf alone."""
    message = castore.Directory()
    for name, node in directory.items():
        match node:
            case DirectoryNode():
                message.directories.add(name=name, digest=node.digest.raw, size=node.size)
            case FileNode():
                message.files.add(name=name, digest=node.digest.raw, size=node.size, executable=node.executable)
            case SymlinkNode():
                message.symlinks.add(name=name, target=node.target)
    return message


class TestDirectories:
    @given(directory=directories)
    def test_encoding_is_that_of_protobuf(self, directory: Directory) -> None:
        message = message_of(directory)
        assert directory.encode() == message.SerializeToString(deterministic=True)
        assert snix_castore.Directory.FromString(directory.encode()).SerializeToString() == directory.encode()
        assert wire.decode_directory(directory.encode()) == wire.directory_from_message(message) == directory

    @pytest.mark.parametrize("vector", [pytest.param(vector, id=vector.name) for vector in DIRECTORIES])
    def test_golden_directories_are_read(self, vector: DirectoryVector) -> None:
        directory = wire.decode_directory(bytes.fromhex(vector.encoded))
        assert directory.encode().hex() == vector.encoded
        assert directory.digest.hex() == vector.digest

    @pytest.mark.parametrize(("variation", "encoded", "digest"), NOT_CANONICAL)
    def test_what_is_not_canonical_is_normalised(self, variation: str, encoded: str, digest: str) -> None:
        assert blake3(bytes.fromhex(encoded)).hexdigest() == digest
        directory = wire.decode_directory(bytes.fromhex(encoded))
        assert directory == DIRECTORY_WITH_KEEP
        assert directory.digest == DIRECTORY_WITH_KEEP.digest

    @pytest.mark.parametrize("vector", [pytest.param(vector, id=vector.case) for vector in VALIDATION])
    def test_rules(self, vector: ValidationVector) -> None:
        if vector.refused is None:
            assert wire.decode_directory(vector.encoded).encode() == vector.encoded
        else:
            with pytest.raises(InvalidObject, match=vector.refused):
                wire.decode_directory(vector.encoded)

    @pytest.mark.parametrize(
        ("fill", "refused"),
        [
            pytest.param(
                lambda m: (m.symlinks.add(name=b"b"), m.files.add(name=b"c"), m.files.add(name=b"a")),
                '"a" is not sorted',
                id="order before targets and digests",
            ),
            pytest.param(lambda m: m.files.add(name=b"..", digest=b"x"), "digest length", id="digest before name"),
            pytest.param(
                lambda m: (m.files.add(name=b"", digest=bytes(32)), m.files.add(name=b"", digest=bytes(32))),
                "invalid name: empty",
                id="empty name before duplicate",
            ),
            pytest.param(
                lambda m: (m.symlinks.add(name=b"a"), m.directories.add(name=b"a", digest=bytes(32))),
                "symlink target: empty",
                id="targets before names of two lists",
            ),
        ],
    )
    def test_which_rule_comes_first(self, fill: Callable[[castore.Directory], object], refused: str) -> None:
        message = castore.Directory()
        fill(message)
        with pytest.raises(InvalidObject, match=refused):
            wire.directory_from_message(message)

    @pytest.mark.parametrize("encoded", [b"\xff", b"\x12\x29\x0a", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"])
    def test_what_is_no_message_is_invalid(self, encoded: bytes) -> None:
        for decode in (wire.decode_directory, wire.decode_node, wire.decode_path_info):
            with pytest.raises(InvalidObject, match="not a protobuf message"):
                decode(encoded)


class TestNodes:
    @pytest.mark.parametrize(("name", "encoded", "in_url"), NODES)
    def test_golden_nodes(self, name: str, encoded: str, in_url: str) -> None:
        node = wire.decode_node(bytes.fromhex(encoded))
        assert wire.encode_node(node).hex() == encoded
        assert base64.urlsafe_b64encode(wire.encode_node(node)).decode().rstrip("=") == in_url

    def test_golden_nodes_have_the_values_described(self) -> None:
        assert [wire.decode_node(bytes.fromhex(encoded)) for _, encoded, _ in NODES[:5]] == [
            SymlinkNode(b"/nix/store/somewhereelse"),
            *(FileNode(HELLOWORLD_BLOB.digest, size) for size in (12, 42, 2)),
            DIRECTORY_COMPLICATED.node(),
        ]

    def test_invalid_node_is_refused(self) -> None:
        with pytest.raises(InvalidObject, match="invalid digest length: 11 bytes"):
            wire.decode_node(bytes.fromhex(INVALID_NODE))

    @pytest.mark.parametrize("encoded", [b"", b"\x78\x01"])
    def test_node_of_no_kind_is_refused(self, encoded: bytes) -> None:
        with pytest.raises(InvalidObject, match="no node set"):
            wire.decode_node(encoded)

    @pytest.mark.parametrize(
        "node", [FileNode(HELLOWORLD_BLOB.digest, 12, True), SymlinkNode(b"t"), DIRECTORY_COMPLICATED.node()]
    )
    def test_root_node_has_no_name(self, node: Node) -> None:
        named = wire.node_to_message(node, b"name")
        assert wire.node_from_message(named) == (b"name", node)
        with pytest.raises(InvalidObject, match='root node has the name "name"'):
            wire.decode_node(named.SerializeToString())


class TestPathInfos:
    @pytest.mark.parametrize("vector", [pytest.param(vector, id=vector.label) for vector in PATH_INFOS])
    def test_golden_path_infos(self, vector: PathInfoVector) -> None:
        path_info = wire.decode_path_info(vector.encoded)
        name = vector.label.removeprefix("X_").removeprefix("PATH_INFO").removeprefix("_") or "PATH_INFO"
        assert path_info == GOLDEN_PATH_INFOS[name]
        assert wire.encode_path_info(path_info) == vector.encoded
        assert wire.path_info_from_message(wire.path_info_to_message(path_info)) == path_info

    @pytest.mark.parametrize("number", store.NARInfo.CA.Hash.values())
    def test_every_kind_of_content_address(self, number: int) -> None:
        message = wire.path_info_to_message(PATH_INFO)
        kind, _, algorithm = store.NARInfo.CA.Hash.Name(number).partition("_")  # type: ignore[arg-type]
        message.narinfo.ca.type = number  # type: ignore[assignment]
        message.narinfo.ca.digest = bytes(HashAlgorithm[algorithm].digest_size)
        path_info = wire.path_info_from_message(message)
        assert path_info.ca is not None
        assert (path_info.ca.method, path_info.ca.hash.algorithm) == (
            ContentAddressMethod[kind],
            HashAlgorithm[algorithm],
        )
        assert wire.path_info_to_message(path_info) == message

    def test_content_address_may_be_left_out(self) -> None:
        message = wire.path_info_to_message(PATH_INFO)
        message.narinfo.ClearField("ca")
        assert wire.path_info_from_message(message).ca is None

    def test_deriver_is_accepted(self) -> None:
        message = wire.path_info_to_message(PATH_INFO)
        message.narinfo.deriver.name, message.narinfo.deriver.digest = "dummy", bytes(20)
        assert wire.path_info_from_message(message).deriver == StorePath(bytes(20), "dummy")

    def test_name_of_a_signature_is_any_text(self) -> None:
        message = wire.path_info_to_message(PATH_INFO)
        message.narinfo.signatures.add(name="a:b", data=bytes(64))
        message.narinfo.signatures.add(name="", data=bytes(64))
        assert [signature.name for signature in wire.path_info_from_message(message).signatures] == ["a:b", ""]


def _no_root(message: store.PathInfo) -> None:
    message.ClearField("node")


def _no_kind(message: store.PathInfo) -> None:
    message.node.ClearField("node")


def _no_directory_digest(message: store.PathInfo) -> None:
    message.node.directory.digest = b""


def _no_file_digest(message: store.PathInfo) -> None:
    message.node.file.name = DUMMY.encode()


def _directory_called(name: bytes) -> Callable[[store.PathInfo], None]:
    def change(message: store.PathInfo) -> None:
        message.node.directory.name = name

    return change


def _file_called_invalid(message: store.PathInfo) -> None:
    message.node.file.name, message.node.file.digest = b"invalid", bytes(32)


def _symlink_called_invalid(message: store.PathInfo) -> None:
    message.node.symlink.name, message.node.symlink.target = b"invalid", b"target"


def _empty_target(message: store.PathInfo) -> None:
    message.node.symlink.name = DUMMY.encode()


def _no_narinfo(message: store.PathInfo) -> None:
    message.ClearField("narinfo")


def _short_nar_sha256(message: store.PathInfo) -> None:
    message.narinfo.nar_sha256 = bytes.fromhex("beef")


def _no_reference_names(message: store.PathInfo) -> None:
    message.narinfo.ClearField("reference_names")


def _short_reference(message: store.PathInfo) -> None:
    message.references.append(b"\xff\xff")


def _absolute_reference_name(message: store.PathInfo) -> None:
    message.narinfo.reference_names[0] = f"/nix/store/{DUMMY}"


def _another_reference(message: store.PathInfo) -> None:
    message.references[0] = b"\xff" * 20


def _invalid_deriver(message: store.PathInfo) -> None:
    message.narinfo.deriver.name = "foo"


def _invalid_deriver_name(message: store.PathInfo) -> None:
    message.narinfo.deriver.name, message.narinfo.deriver.digest = "a b", bytes(20)


def _short_signature(message: store.PathInfo) -> None:
    message.narinfo.signatures.add(name="key", data=bytes(63))


def _unknown_content_address(message: store.PathInfo) -> None:
    message.narinfo.ca.type = 99  # type: ignore[assignment]


def _empty_content_address(message: store.PathInfo) -> None:
    message.narinfo.ca.Clear()
    message.narinfo.ca.SetInParent()


INVALID = [
    (_no_root, "no root node present"),
    (_no_kind, "invalid root node: no node set"),
    (_no_directory_digest, f'invalid root node: .*"{DUMMY}": invalid digest length: 0'),
    (_no_file_digest, f'invalid root node: .*"{DUMMY}": invalid digest length: 0'),
    (_empty_target, f'invalid root node: .*"{DUMMY}": invalid symlink target: empty'),
    (_directory_called(b"invalid"), 'invalid node name "invalid"'),
    (_file_called_invalid, 'invalid node name "invalid"'),
    (_symlink_called_invalid, 'invalid node name "invalid"'),
    (_directory_called(b""), "invalid root node: invalid name: empty"),
    (_directory_called(b"a/b"), "invalid root node: .*slash"),
    (_directory_called(b"\xff" * 40), "invalid node name"),
    (_no_narinfo, "the narinfo field is missing"),
    (_short_nar_sha256, f"{DUMMY}: invalid NAR SHA-256 length, 2 bytes"),
    (_no_reference_names, "inconsistent number of references: 1 digests, 0 names"),
    (_short_reference, "invalid reference digest at position 1: 2 bytes"),
    (_absolute_reference_name, f"invalid reference name at position 0: .*/nix/store/{DUMMY}"),
    (_another_reference, f"inconsistent reference at position 0: .* {'00' * 20}, .* {'ff' * 20}"),
    (_invalid_deriver, f"{DUMMY}: invalid deriver"),
    (_invalid_deriver_name, f"{DUMMY}: invalid deriver"),
    (_short_signature, f"{DUMMY}: signature 'key': 63 bytes"),
    (_unknown_content_address, f"{DUMMY}: invalid ca: unknown hash type 99"),
    (_empty_content_address, f"{DUMMY}: invalid ca"),
]


@pytest.mark.parametrize(("change", "reason"), [pytest.param(*case, id=case[0].__name__) for case in INVALID])
def test_invalid_path_info_is_refused(change: Callable[[store.PathInfo], None], reason: str) -> None:
    message = wire.path_info_to_message(PATH_INFO)
    change(message)
    with pytest.raises(InvalidObject, match=reason) as caught:
        wire.path_info_from_message(message)
    assert re.match(r"invalid path info[ :]|path info ", str(caught.value))
    assert "\n" not in str(caught.value)
    with pytest.raises(InvalidObject, match=reason):
        wire.decode_path_info(message.SerializeToString())


def test_first_broken_rule_of_a_path_info_is_named() -> None:
    """The order of the tests is that of the reference."""
    message = wire.path_info_to_message(PATH_INFO)
    last_to_first = [
        _empty_content_address,
        _short_signature,
        _invalid_deriver,
        _short_nar_sha256,
        _directory_called(b"invalid"),
        _no_directory_digest,
        _another_reference,
        _no_reference_names,
        _short_reference,
        _no_narinfo,
    ]
    reasons = [
        "invalid ca",
        "signature 'key'",
        "invalid deriver",
        "NAR SHA-256",
        "invalid node name",
        "invalid root node",
        "inconsistent reference",
        "inconsistent number",
        "invalid reference digest",
        "narinfo field",
    ]
    for change, reason in zip(last_to_first, reasons, strict=True):
        change(message)
        with pytest.raises(InvalidObject, match=reason):
            wire.path_info_from_message(message)
