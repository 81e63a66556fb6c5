"""Messages of ``tvix_store/batch/v1/batch.proto``. Made by protos/generate.py; do not edit."""

from google.protobuf import descriptor_pool as _descriptor_pool
from google.protobuf.internal import builder as _builder

DESCRIPTOR = _descriptor_pool.Default().AddSerializedFile(
    b'\n\x1ftvix_store/batch/v1/batch.proto\x12\x13tvix_store.batc'
    b'h.v1"\x11\n\x0fDescribeRequest"\xb5\x02\n\x10DescribeResponse\x12\x0f\n\x07ve'
    b'rsion\x18\x01 \x01(\r\x12\x17\n\x0fmax_batch_bytes\x18\x02 \x01(\x04\x12\x17\n\x0fmax_batch_'
    b'count\x18\x03 \x01(\r\x12\x16\n\x0emax_blob_bytes\x18\x04 \x01(\x04\x127\n\x05blobs\x18\x05 \x01(\x0b'
    b'2(.tvix_store.batch.v1.ServiceCapabilities\x12=\n\x0bdire'
    b'ctories\x18\x06 \x01(\x0b2(.tvix_store.batch.v1.ServiceCapabil'
    b'ities\x12<\n\npath_infos\x18\x07 \x01(\x0b2(.tvix_store.batch.v1.Se'
    b'rviceCapabilities\x12\x10\n\x08writable\x18\x08 \x01(\x08"W\n\x13ServiceCapa'
    b'bilities\x12\x0c\n\x04list\x18\x01 \x01(\x08\x12\x0e\n\x06delete\x18\x02 \x01(\x08\x12\x0e\n\x06chunks\x18\x03'
    b' \x01(\x08\x12\x12\n\ndurability\x18\x04 \x01(\t"\x1a\n\x07Digests\x12\x0f\n\x07digests\x18\x01 \x03'
    b'(\x0c"\x1b\n\x08Presence\x12\x0f\n\x07present\x18\x01 \x01(\x0c":\n\x0fGetBlobsRequest'
    b'\x12\x0f\n\x07digests\x18\x01 \x03(\x0c\x12\x16\n\x0emax_blob_bytes\x18\x02 \x01(\x04"A\n\x08BlobS'
    b'lot\x12\x15\n\x08contents\x18\x01 \x01(\x0cH\x00\x88\x01\x01\x12\x11\n\ttoo_large\x18\x02 \x01(\x08B\x0b\n\t_'
    b'contents"9\n\tBlobBatch\x12,\n\x05slots\x18\x01 \x03(\x0b2\x1d.tvix_store.'
    b'batch.v1.BlobSlot" \n\x0cBlobContents\x12\x10\n\x08contents\x18\x01 \x03('
    b'\x0c"Q\n\x0fReadBlobRequest\x12\x0e\n\x06digest\x18\x01 \x01(\x0c\x12\x0e\n\x06offset\x18\x02 \x01'
    b'(\x04\x12\x13\n\x06length\x18\x03 \x01(\x04H\x00\x88\x01\x01B\t\n\x07_length"\x19\n\tBlobChunk\x12\x0c\n'
    b'\x04data\x18\x01 \x01(\x0c"\r\n\x0bListRequest"1\n\rDirectorySlot\x12\x14\n\x07enc'
    b'oded\x18\x01 \x01(\x0cH\x00\x88\x01\x01B\n\n\x08_encoded"C\n\x0eDirectoryBatch\x121\n\x05s'
    b'lots\x18\x01 \x03(\x0b2".tvix_store.batch.v1.DirectorySlot"#\n\x11'
    b'GetClosureRequest\x12\x0e\n\x06digest\x18\x01 \x01(\x0c"%\n\x12EncodedDirect'
    b'ories\x12\x0f\n\x07encoded\x18\x01 \x03(\x0c"%\n\x0cPathInfoKeys\x12\x15\n\routput_h'
    b'ashes\x18\x01 \x03(\x0c"0\n\x0cPathInfoSlot\x12\x14\n\x07encoded\x18\x01 \x01(\x0cH\x00\x88\x01\x01B'
    b'\n\n\x08_encoded"A\n\rPathInfoBatch\x120\n\x05slots\x18\x01 \x03(\x0b2!.tvix'
    b'_store.batch.v1.PathInfoSlot"#\n\x10EncodedPathInfos\x12\x0f'
    b'\n\x07encoded\x18\x01 \x03(\x0c2\xf0\x08\n\x0cBatchService\x12W\n\x08Describe\x12$.tvi'
    b'x_store.batch.v1.DescribeRequest\x1a%.tvix_store.batc'
    b'h.v1.DescribeResponse\x12G\n\x08HasBlobs\x12\x1c.tvix_store.bat'
    b'ch.v1.Digests\x1a\x1d.tvix_store.batch.v1.Presence\x12R\n\x08Ge'
    b'tBlobs\x12$.tvix_store.batch.v1.GetBlobsRequest\x1a\x1e.tvi'
    b'x_store.batch.v1.BlobBatch0\x01\x12M\n\x08PutBlobs\x12!.tvix_st'
    b'ore.batch.v1.BlobContents\x1a\x1c.tvix_store.batch.v1.Di'
    b'gests(\x01\x12R\n\x08ReadBlob\x12$.tvix_store.batch.v1.ReadBlob'
    b'Request\x1a\x1e.tvix_store.batch.v1.BlobChunk0\x01\x12M\n\tListB'
    b'lobs\x12 .tvix_store.batch.v1.ListRequest\x1a\x1c.tvix_stor'
    b'e.batch.v1.Digests0\x01\x12U\n\x0eGetDirectories\x12\x1c.tvix_stor'
    b'e.batch.v1.Digests\x1a#.tvix_store.batch.v1.Directory'
    b'Batch0\x01\x12_\n\nGetClosure\x12&.tvix_store.batch.v1.GetClo'
    b"sureRequest\x1a'.tvix_store.batch.v1.EncodedDirectori"
    b"es0\x01\x12Y\n\x0ePutDirectories\x12'.tvix_store.batch.v1.Encod"
    b'edDirectories\x1a\x1c.tvix_store.batch.v1.Digests(\x01\x12U\n\nP'
    b"utClosure\x12'.tvix_store.batch.v1.EncodedDirectories"
    b'\x1a\x1c.tvix_store.batch.v1.Digests(\x01\x12S\n\x0fListDirectorie'
    b's\x12 .tvix_store.batch.v1.ListRequest\x1a\x1c.tvix_store.b'
    b'atch.v1.Digests0\x01\x12W\n\x0cGetPathInfos\x12!.tvix_store.bat'
    b'ch.v1.PathInfoKeys\x1a".tvix_store.batch.v1.PathInfoB'
    b'atch0\x01\x12`\n\x0cPutPathInfos\x12%.tvix_store.batch.v1.Encod'
    b'edPathInfos\x1a%.tvix_store.batch.v1.EncodedPathInfos'
    b'(\x010\x01b\x06proto3'
)

_globals = globals()
_builder.BuildMessageAndEnumDescriptors(DESCRIPTOR, _globals)
_builder.BuildTopDescriptorsAndMessages(DESCRIPTOR, "tvix_store.proto.tvix_store.batch.v1.batch_pb2", _globals)
