from __future__ import annotations

import pytest
from hypothesis import given

from core.directories import directories, directory
from tvix_store.digest import EMPTY_DIGEST, B3Digest
from tvix_store.errors import InvalidObject
from tvix_store.limits import U64_MAX
from tvix_store.nodes import (
    Directory,
    DirectoryNode,
    FileNode,
    Node,
    SymlinkNode,
    quote,
    validate_name,
    validate_target,
)
from tvix_store.testing.fixtures import DIRECTORY_DIGESTS, GOLDEN_DIRECTORIES
from vectors.castore import DIRECTORIES, DirectoryVector

ZERO = B3Digest(bytes(32))

VECTORS = [pytest.param(vector, id=vector.name) for vector in DIRECTORIES]


class TestGoldenDirectories:
    @pytest.mark.parametrize("vector", VECTORS)
    def test_encoding_and_digest(self, vector: DirectoryVector) -> None:
        made = directory(vector)
        assert made.encode().hex() == vector.encoded
        assert made.digest.hex() == vector.digest
        assert str(made.digest) == f"blake3-{vector.base64}"

    @pytest.mark.parametrize("vector", VECTORS)
    def test_sizes(self, vector: DirectoryVector) -> None:
        made = directory(vector)
        size, documented = vector.sizes
        assert size is None or made.size == size
        assert documented is None or made.documented_size == documented
        assert made.node() == DirectoryNode(made.digest, made.size)

    def test_fixtures_for_authors_are_golden(self) -> None:
        names = {"D_DOCUMENTED": "DIRECTORY_D_DOC", "WRONG_SIZE": "BROKEN_PARENT_DIRECTORY"}
        vectors = {vector.name: vector for vector in DIRECTORIES}
        for name, fixture in GOLDEN_DIRECTORIES.items():
            vector = vectors[names.get(name, f"DIRECTORY_{name}")]
            assert (fixture.encode().hex(), fixture.digest.hex()) == (vector.encoded, vector.digest)
            assert DIRECTORY_DIGESTS[name].hex() == vector.digest


class TestNames:
    @pytest.mark.parametrize("name", [b"a", b" ", b"...", b".a", b"\xff\xfe", b"a\\\n", b"n" * 255, "ü".encode()])
    def test_valid(self, name: bytes) -> None:
        validate_name(name)

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            (b"", "invalid name: empty"),
            (b".", "current directory"),
            (b"..", "parent directory"),
            (b"a\0", "contains a null byte"),
            (b"a/b", "contains a slash"),
            (b"/", "contains a slash"),
            (b"n" * 256, "is too long, at most 255 bytes"),
        ],
    )
    def test_invalid(self, name: bytes, reason: str) -> None:
        with pytest.raises(InvalidObject, match=reason):
            validate_name(name)
        with pytest.raises(InvalidObject, match=reason):
            Directory({name: FileNode(ZERO, 0)})

    @pytest.mark.parametrize(
        ("target", "reason"), [(b"", "empty"), (b"a\0b", "null byte"), (b"t" * 4096, "too long, 4096 bytes, at most")]
    )
    def test_invalid_targets(self, target: bytes, reason: str) -> None:
        with pytest.raises(InvalidObject, match=f"invalid symlink target: .*{reason}"):
            validate_target(target)
        with pytest.raises(InvalidObject):
            SymlinkNode(target)

    @pytest.mark.parametrize("target", [b"/", b"t" * 4095, b"..", b"a//b/", b"\xff\n"])
    def test_valid_targets(self, target: bytes) -> None:
        assert SymlinkNode(target).target == target

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            (b"a b", '"a b"'),
            (b"\xff", '"\\xff"'),
            (b"a\nb\x1b", '"a\\x0ab\\x1b"'),
            ("ü".encode(), '"ü"'),
            (b"n" * 100, '"' + "n" * 80 + '"... (100 bytes)'),
        ],
    )
    def test_quote_is_one_printable_line(self, name: bytes, text: str) -> None:
        assert quote(name) == text


class TestDirectory:
    def test_entries_are_in_order_of_bytes(self) -> None:
        names = [b"b", b"\xff", b"a", b"B", b"a.b", b"a b", b"ab"]
        assert list(Directory({name: FileNode(ZERO, 0) for name in names}).entries) == sorted(names)

    def test_empty_directory_has_the_digest_of_the_empty_blob(self) -> None:
        assert Directory().encode() == b""
        assert Directory().digest == EMPTY_DIGEST
        assert (Directory().size, Directory().documented_size, len(Directory())) == (0, 0, 0)

    def test_looking_up(self) -> None:
        made = Directory([(b"d", DirectoryNode(ZERO, 3)), (b"f", FileNode(ZERO, 1)), (b"c", DirectoryNode(ZERO, 4))])
        assert made.get(b"f") == FileNode(ZERO, 1)
        assert made.get(b"g") is None
        assert [name for name, _ in made.directories()] == [b"c", b"d"]
        assert [name for name, _ in made.items()] == [b"c", b"d", b"f"]

    @pytest.mark.parametrize(
        ("node", "documented", "size"),
        [
            (DirectoryNode(ZERO, 0), 1, 2),
            (DirectoryNode(ZERO, 4), 5, 6),
            (FileNode(ZERO, 42), 1, 2),
            (SymlinkNode(b"t"), 1, 2),
        ],
    )
    def test_size_of_one_entry(self, node: Node, documented: int, size: int) -> None:
        assert (Directory({b"a": node}).documented_size, Directory({b"a": node}).size) == (documented, size)

    def test_duplicate_name_is_refused(self) -> None:
        with pytest.raises(InvalidObject, match='"a" is a duplicate name'):
            Directory([(b"a", FileNode(ZERO, 0)), (b"b", FileNode(ZERO, 0)), (b"a", SymlinkNode(b"t"))])

    @pytest.mark.parametrize("sizes", [[U64_MAX], [2**63 - 1, 2**63 - 1], [U64_MAX - 1, 0]])
    def test_total_size_over_64_bits_is_refused(self, sizes: list[int]) -> None:
        with pytest.raises(InvalidObject, match="total size exceeds"):
            Directory({b"%d" % index: DirectoryNode(ZERO, size) for index, size in enumerate(sizes)})

    def test_total_size_of_64_bits_is_fine(self) -> None:
        made = Directory({b"d": DirectoryNode(ZERO, U64_MAX - 1)})
        assert made.documented_size == U64_MAX

    @pytest.mark.parametrize("size", [-1, U64_MAX + 1])
    def test_size_of_a_node_fits_64_bits(self, size: int) -> None:
        with pytest.raises(InvalidObject, match="does not fit 64 bits"):
            FileNode(ZERO, size)
        with pytest.raises(InvalidObject, match="does not fit 64 bits"):
            DirectoryNode(ZERO, size)

    def test_file_sizes_do_not_add_up(self) -> None:
        assert Directory({b"a": FileNode(ZERO, U64_MAX), b"b": FileNode(ZERO, U64_MAX)}).size == 4

    @given(made=directories)
    def test_equal_directories_have_equal_digests(self, made: Directory) -> None:
        again = Directory(reversed(list(made.items())))
        assert again == made
        assert hash(again) == hash(made)
        assert again.encode() == made.encode()
        assert made != Directory([*made.items(), (b"another" * 30, SymlinkNode(b"x"))])
        assert made != 1
