"""Messages of ``tvix_store/explain/v1/explain.proto``. Made by protos/generate.py; do not edit."""

from google.protobuf import descriptor_pool as _descriptor_pool
from google.protobuf.internal import builder as _builder

DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile(
    b'\n#tvix_store/explain/v1/explain.proto\x12\x15tvix_store.'
    b'explain.v1"A\n\x0eExplainRequest\x12\x10\n\x06digest\x18\x01 \x01(\x0cH\x00\x12\x15\n\x0b'
    b'output_hash\x18\x02 \x01(\x0cH\x00B\x06\n\x04what"K\n\x0fExplainResponse\x128\n\x0c'
    b'explanations\x18\x01 \x03(\x0b2".tvix_store.explain.v1.Explana'
    b'tion"Y\n\x0bExplanation\x12\x0c\n\x04kind\x18\x01 \x01(\t\x12\x0c\n\x04name\x18\x02 \x01(\t\x12.\n'
    b'\x07answers\x18\x03 \x03(\x0b2\x1d.tvix_store.explain.v1.Answer"\xb4\x01\n\x06'
    b'Answer\x12\r\n\x05entry\x18\x01 \x01(\t\x12\x0c\n\x04type\x18\x02 \x01(\t\x128\n\x08presence\x18\x03 '
    b'\x01(\x0e2&.tvix_store.explain.v1.Answer.Presence\x12\x0c\n\x04not'
    b'e\x18\x04 \x01(\t\x12\x13\n\x0bwould_serve\x18\x05 \x01(\x08"0\n\x08Presence\x12\x0b\n\x07UNKNOW'
    b'N\x10\x00\x12\x0b\n\x07PRESENT\x10\x01\x12\n\n\x06ABSENT\x10\x022j\n\x0eExplainService\x12X\n\x07'
    b'Explain\x12%.tvix_store.explain.v1.ExplainRequest\x1a&.t'
    b'vix_store.explain.v1.ExplainResponseb\x06proto3'
)

_globals = globals()
_builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, _globals)
_builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, "tvix_store.proto.tvix_store.explain.v1.explain_pb2", _globals)
