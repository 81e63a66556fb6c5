"""Golden blobs, directories and their encodings, good and bad; see PROVENANCE.md."""

from typing import Literal, NamedTuple


class BlobVector(NamedTuple):
    """Contents and their BLAKE3, in hexadecimal and base64."""

    name: str
    data: bytes
    hex: str
    base64: str


class Entry(NamedTuple):
    """An entry of a directory: ``of`` is the name of a blob or directory vector, or the target of a symlink."""

    kind: Literal["directory", "file", "executable", "symlink"]
    name: bytes
    of: str | bytes
    size: int = 0


class DirectoryVector(NamedTuple):
    """A directory in one of the two size conventions.

    ``sizes`` are what a reference to it carries, by the convention of today's reference and as documented.
    """

    name: str
    entries: list[Entry]
    sizes: tuple[int | None, int | None]
    encoded: str
    digest: str
    base64: str


class ValidationVector(NamedTuple):
    """An encoded Directory, and what it is refused for (a word of the message), if it is."""

    case: str
    refused: str | None
    encoded: bytes


# vectors-castore.md section 1
BLOBS = [
    BlobVector(
        "EMPTY_BLOB",
        b"",
        "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "rxNJufX5oaagQE3qNtzJSZvLJcmtwRK3zJqTyuQfMmI=",
    ),
    BlobVector(
        "HELLOWORLD_BLOB",
        b"Hello World!",
        "5ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c",
        "XKeBWty0hOmhNsEe/mnB1TAXbVSbXRjQOOtSgLSzRww=",
    ),
    BlobVector(
        "layout comment",
        b"Hello World",
        "41f8394111eb713a22165c46c90ab8f0fd9399c92028fd6d288944b23ff5bf76",
        "Qfg5QRHrcToiFlxGyQq48P2TmckgKP1tKIlEsj/1v3Y=",
    ),
    BlobVector(
        "BLOB_A",
        bytes.fromhex("0001"),
        "7b7015bb92cf0b318037702a6cdd81dee41224f734684c2c122cd6359cb1ee63",
        "e3AVu5LPCzGAN3AqbN2B3uQSJPc0aEwsEizWNZyx7mM=",
    ),
    BlobVector(
        "BLOB_B",
        bytes(range(255)) * 4096,
        "a82c5154a7a0c262c6fdb929a317585646f8fbcf80326d0a7b8747edaf2d99d2",
        "qCxRVKegwmLG/bkpoxdYVkb4+8+AMm0Ke4dH7a8tmdI=",
    ),
    BlobVector(
        "DUMMY_DATA_1",
        bytes.fromhex("010203"),
        "b177ec1bf26dfb3b7010d473e6d44713b29b765b99c6e60ecbfae742de496543",
        "sXfsG/Jt+ztwENRz5tRHE7KbdluZxuYOy/rnQt5JZUM=",
    ),
    BlobVector(
        "DUMMY_DATA_2",
        bytes.fromhex("0405"),
        "5f805527aa94f2a9a3a782cad8cc18b63cf6017e7bc65ca96aeada8392d4c525",
        "X4BVJ6qU8qmjp4LK2MwYtjz2AX57xlypaurag5LUxSU=",
    ),
    BlobVector(
        "Go tests",
        bytes.fromhex("01"),
        "48fc721fbbc172e0925fa27af1671de225ba927134802998b10a1568a188652b",
        "SPxyH7vBcuCSX6J68Wcd4iW6knE0gCmYsQoVaKGIZSs=",
    ),
    BlobVector(
        "CHUNK_1",
        bytes.fromhex("0001"),
        "7b7015bb92cf0b318037702a6cdd81dee41224f734684c2c122cd6359cb1ee63",
        "e3AVu5LPCzGAN3AqbN2B3uQSJPc0aEwsEizWNZyx7mM=",
    ),
    BlobVector(
        "CHUNK_2",
        bytes.fromhex("02030405"),
        "024a7fdb2a86c4eae9600a1cfbfd4487ddc15c0a8fa59abfebd6f92bd0031fe5",
        "Akp/2yqGxOrpYAoc+/1Eh93BXAqPpZq/69b5K9ADH+U=",
    ),
    BlobVector(
        "CHUNK_3",
        bytes.fromhex("06"),
        "1c310b6bdadd69991cd4e5dbef96c2638536c32b534e3ed64785846bfcebd206",
        "HDELa9rdaZkc1OXb75bCY4U2wytTTj7WR4WEa/zr0gY=",
    ),
    BlobVector(
        "CHUNK_4",
        bytes.fromhex("0708"),
        "d241b5ab32d2206564b51c8ec05944f6af6d7622c2f607f34c0622223a2b3cd7",
        "0kG1qzLSIGVktRyOwFlE9q9tdiLC9gfzTAYiIjorPNc=",
    ),
    BlobVector(
        "CHUNK_5",
        bytes.fromhex("090a0b0c0d0e0f"),
        "465ded54852258aadefafc109bac1cb1c1275ad9ac15af4fe9996dff9473f50e",
        "Rl3tVIUiWKre+vwQm6wcscEnWtmsFa9P6Zlt/5Rz9Q4=",
    ),
    BlobVector(
        "BLOB_1",
        bytes(range(16)),
        "a6a492965517a830cb75fdb713465aa465f2f098233896fea44c1d98268bf9e3",
        "pqSSllUXqDDLdf23E0ZapGXy8JgjOJb+pEwdmCaL+eM=",
    ),
    BlobVector(
        "INDEX_HTML",
        b"<!DOCTYPE html><html><body>Hello World!</body></html>",
        "293c5a67b2722328177aedb6ad541c8dd7d02e45317a0e1a17147ef535694283",
        "KTxaZ7JyIygXeu22rVQcjdfQLkUxeg4aFxR+9TVpQoM=",
    ),
]

# vectors-castore.md section 2; a name ending in _DOC is the directory with documented sizes below it
DIRECTORIES = [
    DirectoryVector(
        "DIRECTORY_A",
        [],
        (0, 0),
        "",
        "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "rxNJufX5oaagQE3qNtzJSZvLJcmtwRK3zJqTyuQfMmI=",
    ),
    DirectoryVector(
        "DIRECTORY_WITH_KEEP",
        [Entry("file", b".keep", "EMPTY_BLOB", 0)],
        (2, 1),
        "12290a052e6b6565701220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "8b5b5d642b646bb8ed504b0862c39413e87e57491497de7bd075953f7b83810e",
        "i1tdZCtka7jtUEsIYsOUE+h+V0kUl9570HWVP3uDgQ4=",
    ),
    DirectoryVector(
        "DIRECTORY_COMPLICATED",
        [
            Entry("directory", b"keep", "DIRECTORY_WITH_KEEP", 2),
            Entry("file", b".keep", "EMPTY_BLOB", 0),
            Entry("symlink", b"aa", b"/nix/store/somewhereelse"),
        ],
        (8, None),
        "0a2a0a046b65657012208b5b5d642b646bb8ed504b0862c39413e87e57491497de7bd075953f7b83810e180212290a052e6b6565701220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f32621a1e0a02616112182f6e69782f73746f72652f736f6d657768657265656c7365",
        "424a7f6ce08d805d15b428062faae96299a1675d708c3a39261afe38cdd04feb",
        "Qkp/bOCNgF0VtCgGL6rpYpmhZ11wjDo5Jhr+OM3QT+s=",
    ),
    DirectoryVector(
        "DIRECTORY_COMPLICATED_DOC",
        [
            Entry("directory", b"keep", "DIRECTORY_WITH_KEEP", 1),
            Entry("file", b".keep", "EMPTY_BLOB", 0),
            Entry("symlink", b"aa", b"/nix/store/somewhereelse"),
        ],
        (None, 4),
        "0a2a0a046b65657012208b5b5d642b646bb8ed504b0862c39413e87e57491497de7bd075953f7b83810e180112290a052e6b6565701220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f32621a1e0a02616112182f6e69782f73746f72652f736f6d657768657265656c7365",
        "3f951a15afd586fb3121ef4d13d582e811ce0e5a7f21c0497fd87490e9e2355a",
        "P5UaFa/VhvsxIe9NE9WC6BHODlp/IcBJf9h0kOniNVo=",
    ),
    DirectoryVector(
        "DIRECTORY_B",
        [Entry("directory", b"a", "DIRECTORY_A", 0)],
        (2, 1),
        "0a250a01611220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "8701f4722d8dae7f2c40fa003331b8437a3825f9e1bfd3a77998c64cc226b9cc",
        "hwH0ci2Nrn8sQPoAMzG4Q3o4Jfnhv9OneZjGTMImucw=",
    ),
    DirectoryVector(
        "DIRECTORY_C",
        [Entry("directory", b"a", "DIRECTORY_A", 0), Entry("directory", b"a'", "DIRECTORY_A", 0)],
        (4, 2),
        "0a250a01611220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f32620a260a0261271220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "78eb200ae0cc95d4ea954655fbcf91e285013a261310e161927f2401d2bca803",
        "eOsgCuDMldTqlUZV+8+R4oUBOiYTEOFhkn8kAdK8qAM=",
    ),
    DirectoryVector(
        "DIRECTORY_D",
        [Entry("directory", b"a", "DIRECTORY_A", 0), Entry("directory", b"b", "DIRECTORY_B", 2)],
        (6, None),
        "0a250a01611220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f32620a270a016212208701f4722d8dae7f2c40fa003331b8437a3825f9e1bfd3a77998c64cc226b9cc1802",
        "76cd8b55b37333961c1778ba997e57df92e219926ae5a66c414b810331a77603",
        "ds2LVbNzM5YcF3i6mX5X35LiGZJq5aZsQUuBAzGndgM=",
    ),
    DirectoryVector(
        "DIRECTORY_D_DOC",
        [Entry("directory", b"a", "DIRECTORY_A", 0), Entry("directory", b"b", "DIRECTORY_B", 1)],
        (None, 3),
        "0a250a01611220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f32620a270a016212208701f4722d8dae7f2c40fa003331b8437a3825f9e1bfd3a77998c64cc226b9cc1801",
        "99922a5c1801805287a647af73bca0ed7352a5f7f373e54992795bcc4a235213",
        "mZIqXBgBgFKHpkevc7yg7XNSpffzc+VJknlbzEojUhM=",
    ),
    DirectoryVector(
        "BROKEN_PARENT_DIRECTORY",
        [Entry("directory", b"foo", "DIRECTORY_A", 42)],
        (44, 43),
        "0a290a03666f6f1220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262182a",
        "d47aaf4b9d72c5dd171756901a9829aeceff01be2175c2d9744239c72a5a572e",
        "1HqvS51yxd0XF1aQGpgprs7/Ab4hdcLZdEI5xypaVy4=",
    ),
    DirectoryVector(
        "DIRECTORY_WITH_SYMLINK",
        [
            Entry("file", b"index.html", "INDEX_HTML", 53),
            Entry("symlink", b"dot", b"."),
            Entry("symlink", b"dot_symlink", b"./index.html"),
            Entry("symlink", b"dotdot_same_symlink", b"../nested/index.html"),
            Entry("symlink", b"dotdot_symlink", b"../index.htm"),
            Entry("symlink", b"symlink", b"index.html"),
        ],
        (12, 6),
        "12300a0a696e6465782e68746d6c1220293c5a67b2722328177aedb6ad541c8dd7d02e45317a0e1a17147ef53569428318351a080a03646f7412012e1a1b0a0b646f745f73796d6c696e6b120c2e2f696e6465782e68746d6c1a2b0a13646f74646f745f73616d655f73796d6c696e6b12142e2e2f6e65737465642f696e6465782e68746d6c1a1e0a0e646f74646f745f73796d6c696e6b120c2e2e2f696e6465782e68746d1a150a0773796d6c696e6b120a696e6465782e68746d6c",
        "9ab0e05253167373594f33e63ea3ca46119d8dc9b1336b111aba20903ad7a8d5",
        "mrDgUlMWc3NZTzPmPqPKRhGdjcmxM2sRGrogkDrXqNU=",
    ),
    DirectoryVector(
        "DIRECTORY_NESTED_WITH_SYMLINK",
        [
            Entry("directory", b"nested", "DIRECTORY_WITH_SYMLINK", 12),
            Entry("file", b"index.htm", "INDEX_HTML", 53),
            Entry("symlink", b"out_of_base_path_symlink", b"../index.htm"),
        ],
        (18, None),
        "0a2c0a066e657374656412209ab0e05253167373594f33e63ea3ca46119d8dc9b1336b111aba20903ad7a8d5180c122f0a09696e6465782e68746d1220293c5a67b2722328177aedb6ad541c8dd7d02e45317a0e1a17147ef53569428318351a280a186f75745f6f665f626173655f706174685f73796d6c696e6b120c2e2e2f696e6465782e68746d",
        "7763105d9dc4b39fac12feb4a9ee6284c2e5bffed48ba1f0ab7afd3f45e52ec9",
        "d2MQXZ3Es5+sEv60qe5ihMLlv/7Ui6Hwq3r9P0XlLsk=",
    ),
    DirectoryVector(
        "DIRECTORY_NESTED_WITH_SYMLINK_DOC",
        [
            Entry("directory", b"nested", "DIRECTORY_WITH_SYMLINK", 6),
            Entry("file", b"index.htm", "INDEX_HTML", 53),
            Entry("symlink", b"out_of_base_path_symlink", b"../index.htm"),
        ],
        (None, 9),
        "0a2c0a066e657374656412209ab0e05253167373594f33e63ea3ca46119d8dc9b1336b111aba20903ad7a8d51806122f0a09696e6465782e68746d1220293c5a67b2722328177aedb6ad541c8dd7d02e45317a0e1a17147ef53569428318351a280a186f75745f6f665f626173655f706174685f73796d6c696e6b120c2e2e2f696e6465782e68746d",
        "eb78e61c554edabe6e4475140f713744756055902648938cd164cf4e9922d660",
        "63jmHFVO2r5uRHUUD3E3RHVgVZAmSJOM0WTPTpki1mA=",
    ),
    DirectoryVector(
        "X_EXE",
        [
            Entry("executable", b"run", "BLOB_A", 2),
            Entry("file", b"\xff\xfe", "HELLOWORLD_BLOB", 12),
            Entry("symlink", b"L", b"\xc5\xc4\xd6"),
        ],
        (6, 3),
        "122b0a0372756e12207b7015bb92cf0b318037702a6cdd81dee41224f734684c2c122cd6359cb1ee631802200112280a02fffe12205ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c180c1a080a014c1203c5c4d6",
        "2af6c445488083ef56d47cfe2c36dced447a7254918dd21863d10a3df9a7b0cc",
        "KvbERUiAg+9W1Hz+LDbc7UR6clSRjdIYY9EKPfmnsMw=",
    ),
    DirectoryVector(
        "X_DEMO",
        [Entry("directory", b"sub", "DIRECTORY_COMPLICATED", 8), Entry("executable", b"hello", "HELLOWORLD_BLOB", 12)],
        (12, None),
        "0a290a037375621220424a7f6ce08d805d15b428062faae96299a1675d708c3a39261afe38cdd04feb1808122d0a0568656c6c6f12205ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c180c2001",
        "c77c4d1ac151bd05c3f6880414b5d749caa25eea76387ece91a9e026ed5e0f08",
        "x3xNGsFRvQXD9ogEFLXXScqiXup2OH7OkangJu1eDwg=",
    ),
    DirectoryVector(
        "X_DEMO_DOC",
        [
            Entry("directory", b"sub", "DIRECTORY_COMPLICATED_DOC", 4),
            Entry("executable", b"hello", "HELLOWORLD_BLOB", 12),
        ],
        (None, 6),
        "0a290a0373756212203f951a15afd586fb3121ef4d13d582e811ce0e5a7f21c0497fd87490e9e2355a1804122d0a0568656c6c6f12205ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c180c2001",
        "ae92ecd9ea671a67425c5ed98c35ddde8d2b325a0674c5a71787c492f334804f",
        "rpLs2epnGmdCXF7ZjDXd3o0rMloGdMWnF4fEkvM0gE8=",
    ),
]

# vectors-castore.md section 4: variation, encoding of DIRECTORY_WITH_KEEP, BLAKE3 of these bytes
NOT_CANONICAL = [
    (
        "canonical",
        "12290a052e6b6565701220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "8b5b5d642b646bb8ed504b0862c39413e87e57491497de7bd075953f7b83810e",
    ),
    (
        "unknown top-level field 15 appended",
        "12290a052e6b6565701220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f32627801",
        "88b040f13a49a015784ee8425b6d1795230545db98eb36e65e6f2f79f7976d48",
    ),
    (
        "unknown field 9 inside the file entry",
        "122b0a052e6b6565701220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f32624801",
        "a582d43e94b636580e9d97d2f3d1524e735051fffdaaf187e579b8428510937b",
    ),
    (
        "explicit size = 0",
        "122b0a052e6b6565701220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f32621800",
        "43e5a57c9eb561f5930980fd587a49cc8dbe1d49d268ad9bd412c8e420c20ee5",
    ),
    (
        "explicit executable = false",
        "122b0a052e6b6565701220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f32622000",
        "75d3562b91a5fe7e4a2c6a072fd3975a617cf1ba3573bcb9cf364e7eba2fbda0",
    ),
    (
        "digest before name",
        "12291220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f32620a052e6b656570",
        "33daaf2e7ea333a4dba52c1282b9bc472243d0bcafbcc8bf077c2e21ce28a612",
    ),
    (
        "over-long length varint",
        "12a9000a052e6b6565701220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "1bc8de107541198e7e6c1d9ba9d3c4b26f5423a53562e93d8f54ce43dd7fac35",
    ),
]


def varint(value: int) -> bytes:
    """For the encodings that are given as a length only."""
    return bytes((value,)) if value < 128 else bytes((value & 127 | 128,)) + varint(value >> 7)


def _field(tag: int, data: bytes) -> bytes:
    return bytes((tag,)) + varint(len(data)) + data


def symlink_entry(name: bytes, target: bytes) -> bytes:
    """A Directory with one symlink."""
    return _field(0x1A, _field(0x0A, name) + _field(0x12, target))


def file_entry(name: bytes) -> bytes:
    """A Directory with one empty file, of a digest of zeros."""
    return _field(0x12, _field(0x0A, name) + _field(0x12, bytes(32)))


# vectors-castore.md section 5
VALIDATION = [
    ValidationVector(
        "directory named byte 0x00",
        "contains a null byte",
        bytes.fromhex("0a270a010012200000000000000000000000000000000000000000000000000000000000000000182a"),
    ),
    ValidationVector(
        "directory named .",
        "current directory",
        bytes.fromhex("0a270a012e12200000000000000000000000000000000000000000000000000000000000000000182a"),
    ),
    ValidationVector(
        "file named ..",
        "parent directory",
        bytes.fromhex("12280a022e2e12200000000000000000000000000000000000000000000000000000000000000000182a"),
    ),
    ValidationVector("symlink named byte 0x00", "contains a null byte", bytes.fromhex("1a080a01001203666f6f")),
    ValidationVector("symlink named foo/bar", "contains a slash", bytes.fromhex("1a0e0a07666f6f2f6261721203666f6f")),
    ValidationVector("symlink named 500 times X", "is too long", symlink_entry(b"X" * 500, b"foo")),
    ValidationVector(
        "file with empty name",
        "invalid name: empty",
        bytes.fromhex("122212200000000000000000000000000000000000000000000000000000000000000000"),
    ),
    ValidationVector(
        "directory digest of 2 bytes",
        'node with name "foo": invalid digest length: 2',
        bytes.fromhex("0a0b0a03666f6f12020042182a"),
    ),
    ValidationVector(
        "empty symlink target", 'node with name "foo": invalid symlink target: empty', bytes.fromhex("1a050a03666f6f")
    ),
    ValidationVector(
        "symlink target foo + 0x00",
        'node with name "foo": invalid symlink target: .*null byte',
        bytes.fromhex("1a0b0a03666f6f1204666f6f00"),
    ),
    ValidationVector(
        "symlink target of 5000 bytes",
        'node with name "foo": invalid symlink target: too long',
        symlink_entry(b"foo", b"X" * 5000),
    ),
    ValidationVector(
        "directories b, a in this order",
        '"a" is not sorted',
        bytes.fromhex(
            "0a270a016212200000000000000000000000000000000000000000000000000000000000000000182a0a270a016112200000000000000000000000000000000000000000000000000000000000000000182a"
        ),
    ),
    ValidationVector(
        "directory a twice",
        '"a" is a duplicate name',
        bytes.fromhex(
            "0a270a016112200000000000000000000000000000000000000000000000000000000000000000182a0a270a016112200000000000000000000000000000000000000000000000000000000000000000182a"
        ),
    ),
    ValidationVector(
        "directory a and symlink a",
        '"a" is a duplicate name',
        bytes.fromhex(
            "0a270a016112200000000000000000000000000000000000000000000000000000000000000000182a1a060a0161120162"
        ),
    ),
    ValidationVector(
        "directory size 2^64-1",
        "total size exceeds",
        bytes.fromhex(
            "0a320a03666f6f1220000000000000000000000000000000000000000000000000000000000000000018ffffffffffffffffff01"
        ),
    ),
    ValidationVector(
        "two directories of size 2^63-1 each",
        "total size exceeds",
        bytes.fromhex(
            "0a2f0a01611220000000000000000000000000000000000000000000000000000000000000000018ffffffffffffffff7f0a2f0a01621220000000000000000000000000000000000000000000000000000000000000000018ffffffffffffffff7f"
        ),
    ),
    ValidationVector(
        "directory size 2^64-2",
        None,
        bytes.fromhex(
            "0a320a03666f6f1220000000000000000000000000000000000000000000000000000000000000000018feffffffffffffffff01"
        ),
    ),
    ValidationVector(
        "directories a, b",
        None,
        bytes.fromhex(
            "0a270a016112200000000000000000000000000000000000000000000000000000000000000000182a0a270a016212200000000000000000000000000000000000000000000000000000000000000000182a"
        ),
    ),
    ValidationVector(
        "directories b, c and symlink a",
        None,
        bytes.fromhex(
            "0a270a016212200000000000000000000000000000000000000000000000000000000000000000182a0a270a016312200000000000000000000000000000000000000000000000000000000000000000182a1a080a01611203666f6f"
        ),
    ),
    ValidationVector("file name of 255 bytes", None, file_entry(b"n" * 255)),
    ValidationVector("file name of 256 bytes", "is too long", file_entry(b"n" * 256)),
    ValidationVector("symlink target of 4095 bytes", None, symlink_entry(b"l", b"t" * 4095)),
    ValidationVector(
        "symlink target of 4096 bytes",
        'node with name "l": invalid symlink target: too long',
        symlink_entry(b"l", b"t" * 4096),
    ),
    ValidationVector(
        "file name a, backslash, newline",
        None,
        bytes.fromhex("12270a03615c0a12200000000000000000000000000000000000000000000000000000000000000000"),
    ),
]

# vectors-castore.md section 6: node, its message, the form in URLs
NODES = [
    (
        "CASTORE_NODE_SYMLINK (target `/nix/store/somewhereelse`)",
        "1a1a12182f6e69782f73746f72652f736f6d657768657265656c7365",
        "GhoSGC9uaXgvc3RvcmUvc29tZXdoZXJlZWxzZQ",
    ),
    (
        "CASTORE_NODE_HELLOWORLD (file, 12 bytes)",
        "122412205ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c180c",
        "EiQSIFyngVrctITpoTbBHv5pwdUwF21Um10Y0DjrUoC0s0cMGAw",
    ),
    (
        "CASTORE_NODE_TOO_BIG (same digest, size 42)",
        "122412205ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c182a",
        "EiQSIFyngVrctITpoTbBHv5pwdUwF21Um10Y0DjrUoC0s0cMGCo",
    ),
    (
        "CASTORE_NODE_TOO_SMALL (same digest, size 2)",
        "122412205ca7815adcb484e9a136c11efe69c1d530176d549b5d18d038eb5280b4b3470c1802",
        "EiQSIFyngVrctITpoTbBHv5pwdUwF21Um10Y0DjrUoC0s0cMGAI",
    ),
    (
        "CASTORE_NODE_COMPLICATED, S_ref",
        "0a241220424a7f6ce08d805d15b428062faae96299a1675d708c3a39261afe38cdd04feb1808",
        "CiQSIEJKf2zgjYBdFbQoBi-q6WKZoWddcIw6OSYa_jjN0E_rGAg",
    ),
    (
        "CASTORE_NODE_COMPLICATED, S_doc",
        "0a2412203f951a15afd586fb3121ef4d13d582e811ce0e5a7f21c0497fd87490e9e2355a1804",
        "CiQSID-VGhWv1Yb7MSHvTRPVgugRzg5afyHASX_YdJDp4jVaGAQ",
    ),
    (
        "empty directory",
        "0a221220af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
        "CiISIK8TSbn1-aGmoEBN6jbcyUmbyyXJrcESt8yak8rkHzJi",
    ),
    (
        "X_DEMO, S_ref",
        "0a241220c77c4d1ac151bd05c3f6880414b5d749caa25eea76387ece91a9e026ed5e0f08180c",
        "CiQSIMd8TRrBUb0Fw_aIBBS110nKol7qdjh-zpGp4CbtXg8IGAw",
    ),
]
INVALID_NODE = "0a0f120b696e76616c6964206236341801"
