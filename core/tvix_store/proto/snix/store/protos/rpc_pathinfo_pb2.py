"""Messages of ``snix/store/protos/rpc_pathinfo.proto``. Made by protos/generate.py; do not edit."""

from google.protobuf import descriptor_pool as _descriptor_pool
from google.protobuf.internal import builder as _builder

import tvix_store.proto.snix.castore.protos.castore_pb2  # noqa: F401
import tvix_store.proto.snix.store.protos.pathinfo_pb2  # noqa: F401

DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile(
    b'\n$snix/store/protos/rpc_pathinfo.proto\x12\rsnix.store'
    b'.v1\x1a!snix/castore/protos/castore.proto\x1a snix/store'
    b'/protos/pathinfo.proto"9\n\x12GetPathInfoRequest\x12\x18\n\x0eby'
    b'_output_hash\x18\x01 \x01(\x0cH\x00B\t\n\x07by_what"\x15\n\x13ListPathInfoReq'
    b'uest"<\n\x14CalculateNARResponse\x12\x10\n\x08nar_size\x18\x01 \x01(\x04\x12\x12\n\n'
    b'nar_sha256\x18\x02 \x01(\x0c2\xa1\x02\n\x0fPathInfoService\x12A\n\x03Get\x12!.snix'
    b'.store.v1.GetPathInfoRequest\x1a\x17.snix.store.v1.PathI'
    b'nfo\x127\n\x03Put\x12\x17.snix.store.v1.PathInfo\x1a\x17.snix.store.v'
    b'1.PathInfo\x12K\n\x0cCalculateNAR\x12\x16.snix.castore.v1.Entry'
    b'\x1a#.snix.store.v1.CalculateNARResponse\x12E\n\x04List\x12".sn'
    b'ix.store.v1.ListPathInfoRequest\x1a\x17.snix.store.v1.Pa'
    b'thInfo0\x01B\x1eZ\x1csnix.dev/store/proto;storev1b\x06proto3'
)

_globals = globals()
_builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, _globals)
_builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, "tvix_store.proto.snix.store.protos.rpc_pathinfo_pb2", _globals)
