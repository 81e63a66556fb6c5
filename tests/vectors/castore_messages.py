"""Encodings of the messages of the castore and store protocols; see PROVENANCE.md.

Messages are given without their dialect, by file and name, with the fields to construct them from.
Names are those of the tvix dialect.
"""

from typing import Any, NamedTuple

HELLOWORLD_BLOB = bytes.fromhex("5ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c")
DIRECTORY_COMPLICATED = bytes.fromhex("424a7f6ce08d805d15b428062faae96299a1675d708c3a39261afe38cdd04feb")
DIRECTORY_A = bytes.fromhex("af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262")
NAR_SYMLINK = bytes.fromhex("097d397e9b5826384eaa16c457715d1c1a51670313ead0f58566e0b232539cf1")
NAR_HELLOWORLD = bytes.fromhex("03e7f63be30b065d78bcf615f5473545fdb4eb69aa416f43495b4e05cdfb8040")
NAR_COMPLICATED = bytes.fromhex("ebd52279a8df024c9fd5718de4103bf5e760dc7f2cf49044ee7dea87ab16911a")


class MessageVector(NamedTuple):
    """One message: where it is declared, its fields, its encoding."""

    label: str
    file: str
    message: str
    fields: dict[str, Any]
    encoded: bytes


class PathInfoVector(NamedTuple):
    """One PathInfo: its fields, its encoding, the SHA-256 of the encoding in hexadecimal."""

    label: str
    fields: dict[str, Any]
    encoded: bytes
    sha256: str


# vectors-castore.md section 11
RPC_MESSAGES = [
    MessageVector(
        "StatBlobRequest, HELLOWORLD_BLOB, send_chunks",
        "castore/protos/rpc_blobstore.proto",
        "StatBlobRequest",
        {"digest": HELLOWORLD_BLOB, "send_chunks": True},
        bytes.fromhex("0a205ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c1001"),
    ),
    MessageVector(
        "StatBlobRequest, HELLOWORLD_BLOB, no flags",
        "castore/protos/rpc_blobstore.proto",
        "StatBlobRequest",
        {"digest": HELLOWORLD_BLOB},
        bytes.fromhex("0a205ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c"),
    ),
    MessageVector(
        "StatBlobResponse for an unchunked blob",
        "castore/protos/rpc_blobstore.proto",
        "StatBlobResponse",
        {},
        bytes.fromhex(""),
    ),
    MessageVector(
        "ReadBlobRequest, HELLOWORLD_BLOB",
        "castore/protos/rpc_blobstore.proto",
        "ReadBlobRequest",
        {"digest": HELLOWORLD_BLOB},
        bytes.fromhex("0a205ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c"),
    ),
    MessageVector(
        "BlobChunk `Hello World!`",
        "castore/protos/rpc_blobstore.proto",
        "BlobChunk",
        {"data": b"Hello World!"},
        bytes.fromhex("0a0c48656c6c6f20576f726c6421"),
    ),
    MessageVector(
        "PutBlobResponse, HELLOWORLD_BLOB",
        "castore/protos/rpc_blobstore.proto",
        "PutBlobResponse",
        {"digest": HELLOWORLD_BLOB},
        bytes.fromhex("0a205ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c"),
    ),
    MessageVector(
        "GetDirectoryRequest, DIRECTORY_COMPLICATED (S_ref), recursive",
        "castore/protos/rpc_directory.proto",
        "GetDirectoryRequest",
        {"digest": DIRECTORY_COMPLICATED, "recursive": True},
        bytes.fromhex("0a20424a7f6ce08d805d15b428062faae96299a1675d708c3a39261afe38cdd04feb1001"),
    ),
    MessageVector(
        "GetDirectoryRequest, DIRECTORY_A, not recursive",
        "castore/protos/rpc_directory.proto",
        "GetDirectoryRequest",
        {"digest": DIRECTORY_A},
        bytes.fromhex("0a20af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
    ),
    MessageVector(
        "PutDirectoryResponse, DIRECTORY_COMPLICATED (S_ref)",
        "castore/protos/rpc_directory.proto",
        "PutDirectoryResponse",
        {"root_digest": DIRECTORY_COMPLICATED},
        bytes.fromhex("0a20424a7f6ce08d805d15b428062faae96299a1675d708c3a39261afe38cdd04feb"),
    ),
    MessageVector(
        "GetPathInfoRequest, zero digest",
        "store/protos/rpc_pathinfo.proto",
        "GetPathInfoRequest",
        {"by_output_hash": bytes(20)},
        bytes.fromhex("0a140000000000000000000000000000000000000000"),
    ),
    MessageVector(
        "ListPathInfoRequest", "store/protos/rpc_pathinfo.proto", "ListPathInfoRequest", {}, bytes.fromhex("")
    ),
    MessageVector(
        "CalculateNARResponse for CASTORE_NODE_SYMLINK",
        "store/protos/rpc_pathinfo.proto",
        "CalculateNARResponse",
        {"nar_size": 136, "nar_sha256": NAR_SYMLINK},
        bytes.fromhex("0888011220097d397e9b5826384eaa16c457715d1c1a51670313ead0f58566e0b232539cf1"),
    ),
    MessageVector(
        "CalculateNARResponse for CASTORE_NODE_HELLOWORLD",
        "store/protos/rpc_pathinfo.proto",
        "CalculateNARResponse",
        {"nar_size": 128, "nar_sha256": NAR_HELLOWORLD},
        bytes.fromhex("088001122003e7f63be30b065d78bcf615f5473545fdb4eb69aa416f43495b4e05cdfb8040"),
    ),
    MessageVector(
        "CalculateNARResponse for CASTORE_NODE_COMPLICATED",
        "store/protos/rpc_pathinfo.proto",
        "CalculateNARResponse",
        {"nar_size": 840, "nar_sha256": NAR_COMPLICATED},
        bytes.fromhex("08c8061220ebd52279a8df024c9fd5718de4103bf5e760dc7f2cf49044ee7dea87ab16911a"),
    ),
]

# vectors-castore.md section 6
NODES = [
    MessageVector(
        "CASTORE_NODE_SYMLINK",
        "castore/protos/castore.proto",
        "Node",
        {"symlink": {"target": b"/nix/store/somewhereelse"}},
        bytes.fromhex("1a1a12182f6e69782f73746f72652f736f6d657768657265656c7365"),
    ),
    MessageVector(
        "CASTORE_NODE_HELLOWORLD",
        "castore/protos/castore.proto",
        "Node",
        {"file": {"digest": HELLOWORLD_BLOB, "size": 12}},
        bytes.fromhex("122412205ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c180c"),
    ),
    MessageVector(
        "CASTORE_NODE_TOO_BIG",
        "castore/protos/castore.proto",
        "Node",
        {"file": {"digest": HELLOWORLD_BLOB, "size": 42}},
        bytes.fromhex("122412205ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c182a"),
    ),
    MessageVector(
        "CASTORE_NODE_TOO_SMALL",
        "castore/protos/castore.proto",
        "Node",
        {"file": {"digest": HELLOWORLD_BLOB, "size": 2}},
        bytes.fromhex("122412205ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c1802"),
    ),
    MessageVector(
        "CASTORE_NODE_COMPLICATED, S_ref",
        "castore/protos/castore.proto",
        "Node",
        {"directory": {"digest": DIRECTORY_COMPLICATED, "size": 8}},
        bytes.fromhex("0a241220424a7f6ce08d805d15b428062faae96299a1675d708c3a39261afe38cdd04feb1808"),
    ),
    MessageVector(
        "empty directory",
        "castore/protos/castore.proto",
        "Node",
        {"directory": {"digest": DIRECTORY_A}},
        bytes.fromhex("0a221220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
    ),
    MessageVector(
        "invalid",
        "castore/protos/castore.proto",
        "Node",
        {"directory": {"digest": b"invalid b64", "size": 1}},
        bytes.fromhex("0a0f120b696e76616c6964206236341801"),
    ),
]

DUMMY_PATH = "00000000000000000000000000000000-dummy"
SIGNATURE = {
    "name": "do.not.use",
    "data": bytes.fromhex(
        "c65e2ad8be7040ca2ed77650f7f60fa8ad73fc3488632713b6775535fa76c9b4"
        "fc0a983ec8fbf5b0240df15556a699eae415d3b8c8636aaecafde6d83782d806"
    ),
}

# vectors-castore.md section 7
PATH_INFOS = [
    PathInfoVector(
        "PATH_INFO",
        {
            "node": {"directory": {"name": DUMMY_PATH.encode(), "digest": bytes(32)}},
            "references": [bytes(20)],
            "narinfo": {
                "nar_sha256": bytes(32),
                "reference_names": [DUMMY_PATH],
                "ca": {"type": "NAR_SHA256", "digest": bytes(32)},
            },
        },
        bytes.fromhex(
            "0a4c0a4a0a2630303030303030303030303030303030303030303030303030303030303030302d64756d6d7912200000"
            "000000000000000000000000000000000000000000000000000000000000121400000000000000000000000000000000"
            "000000001a6e122000000000000000000000000000000000000000000000000000000000000000002226303030303030"
            "30303030303030303030303030303030303030303030303030302d64756d6d7932221220000000000000000000000000"
            "0000000000000000000000000000000000000000"
        ),
        "373a90ac35f1886e9f9579cf28f4b9d25c59fa2fe22830e884e2ed128cc187b6",
    ),
    PathInfoVector(
        "PATH_INFO_SYMLINK",
        {
            "node": {"symlink": {"name": DUMMY_PATH.encode(), "target": b"/nix/store/somewhereelse"}},
            "narinfo": {"nar_size": 136, "nar_sha256": NAR_SYMLINK},
        },
        bytes.fromhex(
            "0a441a420a2630303030303030303030303030303030303030303030303030303030303030302d64756d6d7912182f6e"
            "69782f73746f72652f736f6d657768657265656c73651a250888011220097d397e9b5826384eaa16c457715d1c1a5167"
            "0313ead0f58566e0b232539cf1"
        ),
        "1bf3da64339b73db8c8fac72a8b44ccbdad85f48e1c3b4dbdc982876f091d135",
    ),
    PathInfoVector(
        "X_PATH_INFO_SIGNED",
        {
            "node": {"directory": {"name": DUMMY_PATH.encode(), "digest": bytes(32)}},
            "references": [bytes(20)],
            "narinfo": {
                "nar_sha256": bytes(32),
                "signatures": [SIGNATURE],
                "reference_names": [DUMMY_PATH],
                "ca": {"digest": bytes(32)},
            },
        },
        bytes.fromhex(
            "0a4c0a4a0a2630303030303030303030303030303030303030303030303030303030303030302d64756d6d7912200000"
            "000000000000000000000000000000000000000000000000000000000000121400000000000000000000000000000000"
            "000000001abe01122000000000000000000000000000000000000000000000000000000000000000001a4e0a0a646f2e"
            "6e6f742e7573651240c65e2ad8be7040ca2ed77650f7f60fa8ad73fc3488632713b6775535fa76c9b4fc0a983ec8fbf5"
            "b0240df15556a699eae415d3b8c8636aaecafde6d83782d8062226303030303030303030303030303030303030303030"
            "30303030303030303030302d64756d6d7932221220000000000000000000000000000000000000000000000000000000"
            "0000000000"
        ),
        "b5ad104662d873711daa2f706fa71cdec3b8eff71dc17e3d657cb617d0b071ad",
    ),
    PathInfoVector(
        "X_PATH_INFO_FULL",
        {
            "node": {"directory": {"name": DUMMY_PATH.encode(), "digest": DIRECTORY_COMPLICATED, "size": 8}},
            "references": [bytes(20)],
            "narinfo": {
                "nar_size": 840,
                "nar_sha256": NAR_COMPLICATED,
                "signatures": [SIGNATURE],
                "reference_names": [DUMMY_PATH],
                "deriver": {"name": "dummy", "digest": bytes(20)},
                "ca": {"type": "NAR_SHA1", "digest": bytes.fromhex("47de7b79dd27fcac4e1202fe761d0890c1321e59")},
            },
        },
        bytes.fromhex(
            "0a4e0a4c0a2630303030303030303030303030303030303030303030303030303030303030302d64756d6d791220424a"
            "7f6ce08d805d15b428062faae96299a1675d708c3a39261afe38cdd04feb180812140000000000000000000000000000"
            "0000000000001ad60108c8061220ebd52279a8df024c9fd5718de4103bf5e760dc7f2cf49044ee7dea87ab16911a1a4e"
            "0a0a646f2e6e6f742e7573651240c65e2ad8be7040ca2ed77650f7f60fa8ad73fc3488632713b6775535fa76c9b4fc0a"
            "983ec8fbf5b0240df15556a699eae415d3b8c8636aaecafde6d83782d806222630303030303030303030303030303030"
            "303030303030303030303030303030302d64756d6d792a1d0a0564756d6d791214000000000000000000000000000000"
            "000000000032180801121447de7b79dd27fcac4e1202fe761d0890c1321e59"
        ),
        "8e8c6debca64e92ac060b70dae5522185060f24bfd9694ffffc393fe40dc13cd",
    ),
]
