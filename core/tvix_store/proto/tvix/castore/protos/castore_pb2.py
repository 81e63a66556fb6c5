"""Messages of ``tvix/castore/protos/castore.proto``. Made by protos/generate.py; do not edit."""

from google.protobuf import descriptor_pool as _descriptor_pool
from google.protobuf.internal import builder as _builder

DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile(
    b'\n!tvix/castore/protos/castore.proto\x12\x0ftvix.castore.'
    b'v1"\x9a\x01\n\tDirectory\x123\n\x0bdirectories\x18\x01 \x03(\x0b2\x1e.tvix.casto'
    b're.v1.DirectoryNode\x12(\n\x05files\x18\x02 \x03(\x0b2\x19.tvix.castore.'
    b'v1.FileNode\x12.\n\x08symlinks\x18\x03 \x03(\x0b2\x1c.tvix.castore.v1.Sy'
    b'mlinkNode";\n\rDirectoryNode\x12\x0c\n\x04name\x18\x01 \x01(\x0c\x12\x0e\n\x06digest'
    b'\x18\x02 \x01(\x0c\x12\x0c\n\x04size\x18\x03 \x01(\x04"J\n\x08FileNode\x12\x0c\n\x04name\x18\x01 \x01(\x0c\x12\x0e\n\x06'
    b'digest\x18\x02 \x01(\x0c\x12\x0c\n\x04size\x18\x03 \x01(\x04\x12\x12\n\nexecutable\x18\x04 \x01(\x08"+\n\x0b'
    b'SymlinkNode\x12\x0c\n\x04name\x18\x01 \x01(\x0c\x12\x0e\n\x06target\x18\x02 \x01(\x0c"\x9f\x01\n\x04Node'
    b'\x123\n\tdirectory\x18\x01 \x01(\x0b2\x1e.tvix.castore.v1.DirectoryNod'
    b'eH\x00\x12)\n\x04file\x18\x02 \x01(\x0b2\x19.tvix.castore.v1.FileNodeH\x00\x12/\n\x07'
    b'symlink\x18\x03 \x01(\x0b2\x1c.tvix.castore.v1.SymlinkNodeH\x00B\x06\n\x04n'
    b'odeB(Z&code.tvl.fyi/tvix/castore-go;castorev1b\x06pro'
    b'to3'
)

_globals = globals()
_builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, _globals)
_builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, "tvix_store.proto.tvix.castore.protos.castore_pb2", _globals)
