"""Messages of ``snix/store/protos/pathinfo.proto``. Made by protos/generate.py; do not edit."""

from google.protobuf import descriptor_pool as _descriptor_pool
from google.protobuf.internal import builder as _builder

import tvix_store.proto.snix.castore.protos.castore_pb2  # noqa: F401

DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile(
    b'\n snix/store/protos/pathinfo.proto\x12\rsnix.store.v1\x1a'
    b'!snix/castore/protos/castore.proto"n\n\x08PathInfo\x12%\n\x05'
    b'entry\x18\x01 \x01(\x0b2\x16.snix.castore.v1.Entry\x12\x12\n\nreferences\x18'
    b'\x02 \x03(\x0c\x12\'\n\x07narinfo\x18\x03 \x01(\x0b2\x16.snix.store.v1.NARInfo")\n\t'
    b'StorePath\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x0e\n\x06digest\x18\x02 \x01(\x0c"\xd2\x03\n\x07NARInf'
    b'o\x12\x10\n\x08nar_size\x18\x01 \x01(\x04\x12\x12\n\nnar_sha256\x18\x02 \x01(\x0c\x124\n\nsignatu'
    b'res\x18\x03 \x03(\x0b2 .snix.store.v1.NARInfo.Signature\x12\x17\n\x0fref'
    b'erence_names\x18\x04 \x03(\t\x12)\n\x07deriver\x18\x05 \x01(\x0b2\x18.snix.store.v'
    b'1.StorePath\x12%\n\x02ca\x18\x06 \x01(\x0b2\x19.snix.store.v1.NARInfo.CA'
    b"\x1a'\n\tSignature\x12\x0c\n\x04name\x18\x01 \x01(\t\x12\x0c\n\x04data\x18\x02 \x01(\x0c\x1a\xd6\x01\n\x02CA\x12,"
    b'\n\x04type\x18\x01 \x01(\x0e2\x1e.snix.store.v1.NARInfo.CA.Hash\x12\x0e\n\x06di'
    b'gest\x18\x02 \x01(\x0c"\x91\x01\n\x04Hash\x12\x0e\n\nNAR_SHA256\x10\x00\x12\x0c\n\x08NAR_SHA1\x10\x01\x12'
    b'\x0e\n\nNAR_SHA512\x10\x02\x12\x0b\n\x07NAR_MD5\x10\x03\x12\x0f\n\x0bTEXT_SHA256\x10\x04\x12\r\n\tF'
    b'LAT_SHA1\x10\x05\x12\x0c\n\x08FLAT_MD5\x10\x06\x12\x0f\n\x0bFLAT_SHA256\x10\x07\x12\x0f\n\x0bFLAT_'
    b'SHA512\x10\x08B\x1eZ\x1csnix.dev/store/proto;storev1b\x06proto3'
)

_globals = globals()
_builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, _globals)
_builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, "tvix_store.proto.snix.store.protos.pathinfo_pb2", _globals)
