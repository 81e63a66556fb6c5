"""Messages of ``snix/castore/protos/castore.proto``. Made by protos/generate.py; do not edit."""

from google.protobuf import descriptor_pool as _descriptor_pool
from google.protobuf.internal import builder as _builder

DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile(
    b'\n!snix/castore/protos/castore.proto\x12\x0fsnix.castore.'
    b'v1"\x9d\x01\n\tDirectory\x124\n\x0bdirectories\x18\x01 \x03(\x0b2\x1f.snix.casto'
    b're.v1.DirectoryEntry\x12)\n\x05files\x18\x02 \x03(\x0b2\x1a.snix.castore'
    b'.v1.FileEntry\x12/\n\x08symlinks\x18\x03 \x03(\x0b2\x1d.snix.castore.v1.'
    b'SymlinkEntry"<\n\x0eDirectoryEntry\x12\x0c\n\x04name\x18\x01 \x01(\x0c\x12\x0e\n\x06di'
    b'gest\x18\x02 \x01(\x0c\x12\x0c\n\x04size\x18\x03 \x01(\x04"K\n\tFileEntry\x12\x0c\n\x04name\x18\x01 \x01('
    b'\x0c\x12\x0e\n\x06digest\x18\x02 \x01(\x0c\x12\x0c\n\x04size\x18\x03 \x01(\x04\x12\x12\n\nexecutable\x18\x04 \x01('
    b'\x08",\n\x0cSymlinkEntry\x12\x0c\n\x04name\x18\x01 \x01(\x0c\x12\x0e\n\x06target\x18\x02 \x01(\x0c"\xa4\x01'
    b'\n\x05Entry\x124\n\tdirectory\x18\x01 \x01(\x0b2\x1f.snix.castore.v1.Direc'
    b'toryEntryH\x00\x12*\n\x04file\x18\x02 \x01(\x0b2\x1a.snix.castore.v1.FileEn'
    b'tryH\x00\x120\n\x07symlink\x18\x03 \x01(\x0b2\x1d.snix.castore.v1.SymlinkEn'
    b'tryH\x00B\x07\n\x05entryB"Z snix.dev/castore/proto;castorev1'
    b'b\x06proto3'
)

_globals = globals()
_builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, _globals)
_builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, "tvix_store.proto.snix.castore.protos.castore_pb2", _globals)
