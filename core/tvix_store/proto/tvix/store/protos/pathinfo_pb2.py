"""Messages of ``tvix/store/protos/pathinfo.proto``. Made by protos/generate.py; do not edit."""

from google.protobuf import descriptor_pool as _descriptor_pool
from google.protobuf.internal import builder as _builder

import tvix_store.proto.tvix.castore.protos.castore_pb2  # noqa: F401

DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile(
    b'\n tvix/store/protos/pathinfo.proto\x12\rtvix.store.v1\x1a'
    b'!tvix/castore/protos/castore.proto"l\n\x08PathInfo\x12#\n\x04'
    b'node\x18\x01 \x01(\x0b2\x15.tvix.castore.v1.Node\x12\x12\n\nreferences\x18\x02 '
    b'\x03(\x0c\x12\'\n\x07narinfo\x18\x03 \x01(\x0b2\x16.tvix.store.v1.NARInfo")\n\tSt'
    b'orePath\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x0e\n\x06digest\x18\x02 \x01(\x0c"\xd2\x03\n\x07NARInfo\x12'
    b'\x10\n\x08nar_size\x18\x01 \x01(\x04\x12\x12\n\nnar_sha256\x18\x02 \x01(\x0c\x124\n\nsignature'
    b's\x18\x03 \x03(\x0b2 .tvix.store.v1.NARInfo.Signature\x12\x17\n\x0frefer'
    b'ence_names\x18\x04 \x03(\t\x12)\n\x07deriver\x18\x05 \x01(\x0b2\x18.tvix.store.v1.'
    b"StorePath\x12%\n\x02ca\x18\x06 \x01(\x0b2\x19.tvix.store.v1.NARInfo.CA\x1a'"
    b'\n\tSignature\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x0c\n\x04data\x18\x02 \x01(\x0c\x1a\xd6\x01\n\x02CA\x12,\n\x04'
    b'type\x18\x01 \x01(\x0e2\x1e.tvix.store.v1.NARInfo.CA.Hash\x12\x0e\n\x06dige'
    b'st\x18\x02 \x01(\x0c"\x91\x01\n\x04Hash\x12\x0e\n\nNAR_SHA256\x10\x00\x12\x0c\n\x08NAR_SHA1\x10\x01\x12\x0e\n'
    b'\nNAR_SHA512\x10\x02\x12\x0b\n\x07NAR_MD5\x10\x03\x12\x0f\n\x0bTEXT_SHA256\x10\x04\x12\r\n\tFLA'
    b'T_SHA1\x10\x05\x12\x0c\n\x08FLAT_MD5\x10\x06\x12\x0f\n\x0bFLAT_SHA256\x10\x07\x12\x0f\n\x0bFLAT_SH'
    b'A512\x10\x08B$Z"code.tvl.fyi/tvix/store-go;storev1b\x06prot'
    b'o3'
)

_globals = globals()
_builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, _globals)
_builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, "tvix_store.proto.tvix.store.protos.pathinfo_pb2", _globals)
