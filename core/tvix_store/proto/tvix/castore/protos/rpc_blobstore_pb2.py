"""Messages of ``tvix/castore/protos/rpc_blobstore.proto``. Made by protos/generate.py; do not edit."""

from google.protobuf import descriptor_pool as _descriptor_pool
from google.protobuf.internal import builder as _builder

DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile(
    b"\n'tvix/castore/protos/rpc_blobstore.proto\x12\x0ftvix.ca"
    b'store.v1"H\n\x0fStatBlobRequest\x12\x0e\n\x06digest\x18\x01 \x01(\x0c\x12\x13\n\x0bsen'
    b'd_chunks\x18\x02 \x01(\x08\x12\x10\n\x08send_bao\x18\x03 \x01(\x08"\x87\x01\n\x10StatBlobRespo'
    b'nse\x12;\n\x06chunks\x18\x02 \x03(\x0b2+.tvix.castore.v1.StatBlobResp'
    b'onse.ChunkMeta\x12\x0b\n\x03bao\x18\x03 \x01(\x0c\x1a)\n\tChunkMeta\x12\x0e\n\x06digest'
    b'\x18\x01 \x01(\x0c\x12\x0c\n\x04size\x18\x02 \x01(\x04"!\n\x0fReadBlobRequest\x12\x0e\n\x06digest\x18'
    b'\x01 \x01(\x0c"\x19\n\tBlobChunk\x12\x0c\n\x04data\x18\x01 \x01(\x0c"!\n\x0fPutBlobRespons'
    b'e\x12\x0e\n\x06digest\x18\x01 \x01(\x0c2\xe9\x01\n\x0bBlobService\x12K\n\x04Stat\x12 .tvix.c'
    b'astore.v1.StatBlobRequest\x1a!.tvix.castore.v1.StatBl'
    b'obResponse\x12F\n\x04Read\x12 .tvix.castore.v1.ReadBlobReque'
    b'st\x1a\x1a.tvix.castore.v1.BlobChunk0\x01\x12E\n\x03Put\x12\x1a.tvix.cas'
    b'tore.v1.BlobChunk\x1a .tvix.castore.v1.PutBlobRespons'
    b'e(\x01B(Z&code.tvl.fyi/tvix/castore-go;castorev1b\x06pro'
    b'to3'
)

_globals = globals()
_builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, _globals)
_builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, "tvix_store.proto.tvix.castore.protos.rpc_blobstore_pb2", _globals)
