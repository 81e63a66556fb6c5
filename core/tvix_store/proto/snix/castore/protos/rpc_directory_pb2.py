"""Messages of ``snix/castore/protos/rpc_directory.proto``. Made by protos/generate.py; do not edit."""

from google.protobuf import descriptor_pool as _descriptor_pool
from google.protobuf.internal import builder as _builder

import tvix_store.proto.snix.castore.protos.castore_pb2  # noqa: F401

DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile(
    b"\n'snix/castore/protos/rpc_directory.proto\x12\x0fsnix.ca"
    b'store.v1\x1a!snix/castore/protos/castore.proto"E\n\x13Get'
    b'DirectoryRequest\x12\x10\n\x06digest\x18\x01 \x01(\x0cH\x00\x12\x11\n\trecursive\x18\x02 '
    b'\x01(\x08B\t\n\x07by_what"+\n\x14PutDirectoryResponse\x12\x13\n\x0broot_dig'
    b'est\x18\x01 \x01(\x0c2\xa9\x01\n\x10DirectoryService\x12I\n\x03Get\x12$.snix.casto'
    b're.v1.GetDirectoryRequest\x1a\x1a.snix.castore.v1.Direct'
    b'ory0\x01\x12J\n\x03Put\x12\x1a.snix.castore.v1.Directory\x1a%.snix.ca'
    b'store.v1.PutDirectoryResponse(\x01B"Z snix.dev/castor'
    b'e/proto;castorev1b\x06proto3'
)

_globals = globals()
_builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, _globals)
_builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, "tvix_store.proto.snix.castore.protos.rpc_directory_pb2", _globals)
