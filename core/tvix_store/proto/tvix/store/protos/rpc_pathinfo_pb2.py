"""Messages of ``tvix/store/protos/rpc_pathinfo.proto``. Made by protos/generate.py; do not edit."""

from google.protobuf import descriptor_pool as _descriptor_pool
from google.protobuf.internal import builder as _builder

import tvix_store.proto.tvix.castore.protos.castore_pb2  # noqa: F401
import tvix_store.proto.tvix.store.protos.pathinfo_pb2  # noqa: F401

DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile(
    b'\n$tvix/store/protos/rpc_pathinfo.proto\x12\rtvix.store'
    b'.v1\x1a!tvix/castore/protos/castore.proto\x1a tvix/store'
    b'/protos/pathinfo.proto"9\n\x12GetPathInfoRequest\x12\x18\n\x0eby'
    b'_output_hash\x18\x01 \x01(\x0cH\x00B\t\n\x07by_what"\x15\n\x13ListPathInfoReq'
    b'uest"<\n\x14CalculateNARResponse\x12\x10\n\x08nar_size\x18\x01 \x01(\x04\x12\x12\n\n'
    b'nar_sha256\x18\x02 \x01(\x0c2\xa0\x02\n\x0fPathInfoService\x12A\n\x03Get\x12!.tvix'
    b'.store.v1.GetPathInfoRequest\x1a\x17.tvix.store.v1.PathI'
    b'nfo\x127\n\x03Put\x12\x17.tvix.store.v1.PathInfo\x1a\x17.tvix.store.v'
    b'1.PathInfo\x12J\n\x0cCalculateNAR\x12\x15.tvix.castore.v1.Node\x1a'
    b'#.tvix.store.v1.CalculateNARResponse\x12E\n\x04List\x12".tvi'
    b'x.store.v1.ListPathInfoRequest\x1a\x17.tvix.store.v1.Pat'
    b'hInfo0\x01B$Z"code.tvl.fyi/tvix/store-go;storev1b\x06pro'
    b'to3'
)

_globals = globals()
_builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, _globals)
_builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, "tvix_store.proto.tvix.store.protos.rpc_pathinfo_pb2", _globals)
