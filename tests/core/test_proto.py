"""The generated messages: descriptors as other peers know them, and encodings, in both dialects."""

import hashlib
import importlib
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.message import Message

from tvix_store.proto.tvix_store.batch.v1 import batch_pb2
from vectors.castore_messages import NODES, PATH_INFOS, RPC_MESSAGES, MessageVector, PathInfoVector

# castore.md section 2, in the words of the tvix dialect: file, package, imports.
FILES = {
    "tvix/castore/protos/castore.proto": ("tvix.castore.v1", []),
    "tvix/castore/protos/rpc_blobstore.proto": ("tvix.castore.v1", []),
    "tvix/castore/protos/rpc_directory.proto": ("tvix.castore.v1", ["tvix/castore/protos/castore.proto"]),
    "tvix/store/protos/pathinfo.proto": ("tvix.store.v1", ["tvix/castore/protos/castore.proto"]),
    "tvix/store/protos/rpc_pathinfo.proto": (
        "tvix.store.v1",
        ["tvix/castore/protos/castore.proto", "tvix/store/protos/pathinfo.proto"],
    ),
}

GO_PACKAGES = {
    "tvix.castore.v1": "code.tvl.fyi/tvix/castore-go;castorev1",
    "tvix.store.v1": "code.tvl.fyi/tvix/store-go;storev1",
    "snix.castore.v1": "snix.dev/castore/proto;castorev1",
    "snix.store.v1": "snix.dev/store/proto;storev1",
}

# Message, field number, field name, type; a oneof member has the name of its oneof in front.
FIELDS = """
tvix.castore.v1.Directory 1 directories repeated tvix.castore.v1.DirectoryNode
tvix.castore.v1.Directory 2 files repeated tvix.castore.v1.FileNode
tvix.castore.v1.Directory 3 symlinks repeated tvix.castore.v1.SymlinkNode
tvix.castore.v1.DirectoryNode 1 name bytes
tvix.castore.v1.DirectoryNode 2 digest bytes
tvix.castore.v1.DirectoryNode 3 size uint64
tvix.castore.v1.FileNode 1 name bytes
tvix.castore.v1.FileNode 2 digest bytes
tvix.castore.v1.FileNode 3 size uint64
tvix.castore.v1.FileNode 4 executable bool
tvix.castore.v1.SymlinkNode 1 name bytes
tvix.castore.v1.SymlinkNode 2 target bytes
tvix.castore.v1.Node 1 node.directory tvix.castore.v1.DirectoryNode
tvix.castore.v1.Node 2 node.file tvix.castore.v1.FileNode
tvix.castore.v1.Node 3 node.symlink tvix.castore.v1.SymlinkNode
tvix.castore.v1.StatBlobRequest 1 digest bytes
tvix.castore.v1.StatBlobRequest 2 send_chunks bool
tvix.castore.v1.StatBlobRequest 3 send_bao bool
tvix.castore.v1.StatBlobResponse 2 chunks repeated tvix.castore.v1.StatBlobResponse.ChunkMeta
tvix.castore.v1.StatBlobResponse 3 bao bytes
tvix.castore.v1.StatBlobResponse.ChunkMeta 1 digest bytes
tvix.castore.v1.StatBlobResponse.ChunkMeta 2 size uint64
tvix.castore.v1.ReadBlobRequest 1 digest bytes
tvix.castore.v1.BlobChunk 1 data bytes
tvix.castore.v1.PutBlobResponse 1 digest bytes
tvix.castore.v1.GetDirectoryRequest 1 by_what.digest bytes
tvix.castore.v1.GetDirectoryRequest 2 recursive bool
tvix.castore.v1.PutDirectoryResponse 1 root_digest bytes
tvix.store.v1.PathInfo 1 node tvix.castore.v1.Node
tvix.store.v1.PathInfo 2 references repeated bytes
tvix.store.v1.PathInfo 3 narinfo tvix.store.v1.NARInfo
tvix.store.v1.StorePath 1 name string
tvix.store.v1.StorePath 2 digest bytes
tvix.store.v1.NARInfo 1 nar_size uint64
tvix.store.v1.NARInfo 2 nar_sha256 bytes
tvix.store.v1.NARInfo 3 signatures repeated tvix.store.v1.NARInfo.Signature
tvix.store.v1.NARInfo 4 reference_names repeated string
tvix.store.v1.NARInfo 5 deriver tvix.store.v1.StorePath
tvix.store.v1.NARInfo 6 ca tvix.store.v1.NARInfo.CA
tvix.store.v1.NARInfo.Signature 1 name string
tvix.store.v1.NARInfo.Signature 2 data bytes
tvix.store.v1.NARInfo.CA 1 type tvix.store.v1.NARInfo.CA.Hash
tvix.store.v1.NARInfo.CA 2 digest bytes
tvix.store.v1.GetPathInfoRequest 1 by_what.by_output_hash bytes
tvix.store.v1.CalculateNARResponse 1 nar_size uint64
tvix.store.v1.CalculateNARResponse 2 nar_sha256 bytes
"""

METHODS = """
tvix.castore.v1.BlobService.Stat tvix.castore.v1.StatBlobRequest -> tvix.castore.v1.StatBlobResponse
tvix.castore.v1.BlobService.Read tvix.castore.v1.ReadBlobRequest -> stream tvix.castore.v1.BlobChunk
tvix.castore.v1.BlobService.Put stream tvix.castore.v1.BlobChunk -> tvix.castore.v1.PutBlobResponse
tvix.castore.v1.DirectoryService.Get tvix.castore.v1.GetDirectoryRequest -> stream tvix.castore.v1.Directory
tvix.castore.v1.DirectoryService.Put stream tvix.castore.v1.Directory -> tvix.castore.v1.PutDirectoryResponse
tvix.store.v1.PathInfoService.Get tvix.store.v1.GetPathInfoRequest -> tvix.store.v1.PathInfo
tvix.store.v1.PathInfoService.Put tvix.store.v1.PathInfo -> tvix.store.v1.PathInfo
tvix.store.v1.PathInfoService.CalculateNAR tvix.castore.v1.Node -> tvix.store.v1.CalculateNARResponse
tvix.store.v1.PathInfoService.List tvix.store.v1.ListPathInfoRequest -> stream tvix.store.v1.PathInfo
"""

CA_HASHES = [
    *("NAR_SHA256", "NAR_SHA1", "NAR_SHA512", "NAR_MD5"),
    *("TEXT_SHA256", "FLAT_SHA1", "FLAT_MD5", "FLAT_SHA256", "FLAT_SHA512"),
]

TYPES = {
    FieldDescriptor.TYPE_BYTES: "bytes",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_UINT64: "uint64",
}


@pytest.fixture(params=["tvix", "snix"])
def dialect(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def spelt(text: str, dialect: str) -> str:
    """A line of the tables above in the words of ``dialect``."""
    if dialect == "tvix":
        return text
    text = re.sub(r"\btvix\b", "snix", text)
    text = re.sub(r"(Directory|File|Symlink|v1\.)Node\b", r"\1Entry", text)
    return re.sub(r"\bnode\b", "entry", text)


def module(file: str) -> ModuleType:
    return importlib.import_module(f"tvix_store.proto.{file.removesuffix('.proto').replace('/', '.')}_pb2")


def descriptors(dialect: str) -> list[FileDescriptor]:
    return [module(spelt(file, dialect)).DESCRIPTOR for file in FILES]


def all_messages(parent: FileDescriptor | Descriptor) -> Iterator[Descriptor]:
    children = parent.message_types_by_name if isinstance(parent, FileDescriptor) else parent.nested_types_by_name
    for message in children.values():
        yield message
        yield from all_messages(message)


def describe_field(field: Any) -> str:
    named = field.message_type or field.enum_type
    kind = named.full_name if named else TYPES[field.type]
    oneof = f"{field.containing_oneof.name}." if field.containing_oneof else ""
    repeated = "repeated " if field.is_repeated else ""
    return f"{field.containing_type.full_name} {field.number} {oneof}{field.name} {repeated}{kind}"


def construct(vector: MessageVector | PathInfoVector, file: str, name: str, dialect: str) -> Message:
    """The message of ``vector`` from its fields."""
    fields = {spelt(key, dialect): value for key, value in vector.fields.items()}
    message = getattr(module(f"{dialect}/{file}"), spelt(f"v1.{name}", dialect).removeprefix("v1."))(**fields)
    assert isinstance(message, Message)
    return message


@pytest.mark.parametrize("file", FILES)
def test_files_have_the_names_packages_and_imports_of_the_reference(file: str, dialect: str) -> None:
    package, imports = FILES[file]
    found = module(spelt(file, dialect)).DESCRIPTOR
    assert found.name == spelt(file, dialect)
    assert found.package == spelt(package, dialect)
    assert [dependency.name for dependency in found.dependencies] == [spelt(name, dialect) for name in imports]
    assert found.GetOptions().go_package == GO_PACKAGES[found.package]


def test_fields_are_those_of_the_reference(dialect: str) -> None:
    found = {describe_field(f) for d in descriptors(dialect) for message in all_messages(d) for f in message.fields}
    assert found == set(spelt(FIELDS, dialect).strip().splitlines())


def test_messages_without_fields_are_those_of_the_reference(dialect: str) -> None:
    found = [m.full_name for d in descriptors(dialect) for m in all_messages(d) if not m.fields]
    assert found == [f"{dialect}.store.v1.ListPathInfoRequest"]


def test_methods_stream_as_in_the_reference(dialect: str) -> None:
    found = {
        f"{method.full_name} {'stream ' if method.client_streaming else ''}{method.input_type.full_name}"
        f" -> {'stream ' if method.server_streaming else ''}{method.output_type.full_name}"
        for descriptor in descriptors(dialect)
        for service in descriptor.services_by_name.values()
        for method in service.methods
    }
    assert found == set(spelt(METHODS, dialect).strip().splitlines())


def test_content_address_kinds_are_numbered_as_in_the_reference(dialect: str) -> None:
    kinds = module(f"{dialect}/store/protos/pathinfo.proto").NARInfo.CA.Hash
    assert dict(kinds.items()) == {name: number for number, name in enumerate(CA_HASHES)}


@pytest.mark.parametrize("vector", [*RPC_MESSAGES, *NODES], ids=lambda vector: vector.label)
def test_message_encodes_to_the_golden_bytes_and_back(vector: MessageVector, dialect: str) -> None:
    message = construct(vector, vector.file, vector.message, dialect)
    assert message.SerializeToString() == vector.encoded
    assert type(message).FromString(vector.encoded) == message


@pytest.mark.parametrize("vector", PATH_INFOS, ids=lambda vector: vector.label)
def test_path_info_encodes_to_the_golden_bytes_and_back(vector: PathInfoVector, dialect: str) -> None:
    message = construct(vector, "store/protos/pathinfo.proto", "PathInfo", dialect)
    assert message.SerializeToString() == vector.encoded
    assert hashlib.sha256(vector.encoded).hexdigest() == vector.sha256
    assert type(message).FromString(vector.encoded) == message


def test_empty_digest_is_a_set_oneof_member_and_an_empty_message_has_none(dialect: str) -> None:
    request = module(f"{dialect}/castore/protos/rpc_directory.proto").GetDirectoryRequest
    assert request.FromString(b"").WhichOneof("by_what") is None
    assert request.FromString(b"\x0a\x00").WhichOneof("by_what") == "digest"


def test_batch_slots_tell_empty_from_absent() -> None:
    assert batch_pb2.BlobSlot.FromString(batch_pb2.BlobSlot(contents=b"").SerializeToString()).HasField("contents")
    assert batch_pb2.DirectorySlot(encoded=b"").HasField("encoded")
    assert not batch_pb2.BlobSlot(too_large=True).HasField("contents")
    assert not batch_pb2.PathInfoSlot().HasField("encoded")


def test_batch_service_reuses_no_name_of_the_standard_protocols() -> None:
    assert batch_pb2.DESCRIPTOR.name == "tvix_store/batch/v1/batch.proto"
    assert list(batch_pb2.DESCRIPTOR.services_by_name) == ["BatchService"]
    assert batch_pb2.DESCRIPTOR.package == "tvix_store.batch.v1"
    assert not batch_pb2.DESCRIPTOR.dependencies
