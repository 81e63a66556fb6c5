"""The sizes that layers agree on: how large a batch, a message, a small blob or a closure may be."""

__all__ = [
    "BATCH_BYTES",
    "BATCH_COUNT",
    "CONCURRENCY",
    "KIB",
    "MAX_CLOSURE_BYTES",
    "MIB",
    "PIECE_BYTES",
    "SMALL_BLOB_BYTES",
    "U64_MAX",
]

KIB = 1024
MIB = 1024 * KIB

SMALL_BLOB_BYTES = 1 * MIB
"""Blobs up to this size travel whole, in batches; larger ones are streamed."""

BATCH_BYTES = 8 * MIB
"""A batch of blobs holds at most this many bytes of content."""

BATCH_COUNT = 1024
"""A batch holds at most this many objects."""

PIECE_BYTES = 256 * KIB
"""What streams of content are cut into: messages on the wire, reads from a file, pieces of a NAR."""

CONCURRENCY = 16
"""How many single-object calls a default batch method has under way at once."""

MAX_CLOSURE_BYTES = 128 * MIB
"""The encodings of one uploaded directory closure; they are held until the closure is known to be whole."""

U64_MAX = 2**64 - 1
