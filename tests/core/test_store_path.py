import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvix_store import nixbase32
from tvix_store.content_address import ContentAddress, ContentAddressMethod
from tvix_store.errors import InvalidObject
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.store_path import (
    HashModulo,
    StorePath,
    compress_hash,
    make_store_path,
    placeholder,
    split_absolute,
    store_path_for_ca,
    validate_name,
)
from vectors import nix_store_paths as vectors

NAR_DIGESTS = {(tree, algorithm): bytes.fromhex(digest) for tree, algorithm, digest in vectors.NAR_DIGESTS}

DIGESTS = st.binary(min_size=20, max_size=20)
NAMES = st.from_regex(r"[A-Za-z0-9+_?=][A-Za-z0-9+\-._?=]{0,210}", fullmatch=True)
STORE_PATHS = st.builds(StorePath, DIGESTS, NAMES)


def nar_of_file(contents: bytes) -> bytes:
    """The NAR of a regular file."""
    strings = [b"nix-archive-1", b"(", b"type", b"regular", b"contents", contents, b")"]
    return b"".join(len(s).to_bytes(8, "little") + s + bytes(-len(s) % 8) for s in strings)


def ca_of_tree(method: str, tree: str) -> ContentAddress:
    """The content address of a sample tree; ``method`` is like ``fixed:r:sha1``."""
    name = method.split(":")[-1]
    if ":r:" in method:
        return ContentAddress(ContentAddressMethod.NAR, NixHash(HashAlgorithm(name), NAR_DIGESTS[tree, name]))
    return ContentAddress(ContentAddressMethod.FLAT, NixHash.of(HashAlgorithm(name), vectors.FILE_CONTENTS[tree]))


def text_ca(contents: bytes) -> ContentAddress:
    return ContentAddress(ContentAddressMethod.TEXT, NixHash.of(HashAlgorithm.SHA256, contents))


def modulo(stream: bytes, hash_part: str, cuts: list[int] | None = None) -> bytes:
    hasher = HashModulo(hash_part)
    at = 0
    for cut in sorted(cuts or []):
        hasher.update(stream[at:cut])
        at = max(at, cut)
    hasher.update(stream[at:])
    return hasher.digest()


def modulo_by_definition(stream: bytes, hash_part: str) -> bytes:
    needle = hash_part.encode()
    suffix = b""
    while (at := stream.find(needle)) >= 0:
        stream = stream[:at] + bytes(32) + stream[at + 32 :]
        suffix += b"|%d" % at
    return hashlib.sha256(stream + suffix).digest()


class TestGrammar:
    @pytest.mark.parametrize(("text", "name"), vectors.BASE_NAMES)
    def test_base_name(self, text: str, name: str) -> None:
        path = StorePath.from_base_name(text)
        assert path.name == name
        assert path.base_name == str(path) == text
        assert path.hash_part == text[:32]

    def test_digest(self) -> None:
        assert StorePath.from_base_name(vectors.NET_TOOLS).digest.hex() == vectors.NET_TOOLS_DIGEST

    @pytest.mark.parametrize("text", vectors.REJECTED_BASE_NAMES)
    def test_refused_base_names(self, text: str) -> None:
        with pytest.raises(InvalidObject) as caught:
            StorePath.from_base_name(text)
        assert nixbase32.shown(text) in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_absolute(self) -> None:
        path = StorePath.from_absolute(f"/nix/store/{vectors.NET_TOOLS}")
        assert path == StorePath.from_base_name(vectors.NET_TOOLS)
        assert path.absolute() == f"/nix/store/{vectors.NET_TOOLS}"

    def test_absolute_in_another_store_dir(self) -> None:
        path = StorePath.from_absolute(f"/foo/store/{vectors.NET_TOOLS}", "/foo/store")
        assert path.absolute("/foo/store") == f"/foo/store/{vectors.NET_TOOLS}"
        with pytest.raises(InvalidObject, match="not an absolute path in /foo/store"):
            StorePath.from_absolute(path.absolute(), "/foo/store")

    @pytest.mark.parametrize("text", vectors.REJECTED_ABSOLUTE)
    def test_refused_absolute(self, text: str) -> None:
        with pytest.raises(InvalidObject):
            StorePath.from_absolute(text)
        with pytest.raises(InvalidObject):
            split_absolute(text)

    @pytest.mark.parametrize("text", [path for path, _ in vectors.SUB_PATHS[1:]])
    def test_absolute_ends_with_the_base_name(self, text: str) -> None:
        with pytest.raises(InvalidObject):
            StorePath.from_absolute(text)

    @pytest.mark.parametrize(("text", "rest"), vectors.SUB_PATHS)
    def test_split_absolute(self, text: str, rest: str) -> None:
        assert split_absolute(text) == (StorePath.from_base_name(vectors.NET_TOOLS), rest)

    def test_the_rest_is_never_absolute(self) -> None:
        assert split_absolute(f"/nix/store/{vectors.NET_TOOLS}//etc/passwd")[1] == "etc/passwd"

    def test_constructor_checks(self) -> None:
        with pytest.raises(InvalidObject, match="19 bytes instead of 20"):
            StorePath(bytes(19), "a")
        with pytest.raises(InvalidObject, match="empty"):
            StorePath(bytes(20), "")

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("", "empty"),
            ("a" * 212, "longer than 211"),
            ("a b", "' ' is not allowed"),
            (".", "first part is '.'"),
            ("..", "first part is '..'"),
            (".-", "first part is '.'"),
            ("..-x", "first part is '..'"),
        ],
    )
    def test_each_rule_has_its_reason(self, name: str, reason: str) -> None:
        with pytest.raises(InvalidObject) as caught:
            validate_name(name)
        assert reason in str(caught.value)

    @pytest.mark.parametrize("name", ["...", ".a", "..a", "...-a", "-", "-.", "a" * 211])
    def test_names_that_look_odd_but_are_fine(self, name: str) -> None:
        validate_name(name)

    @given(STORE_PATHS)
    def test_round_trip(self, path: StorePath) -> None:
        assert StorePath.from_base_name(path.base_name) == path
        assert StorePath.from_absolute(path.absolute("/a/b"), "/a/b") == path
        assert split_absolute(f"{path.absolute()}/c/d") == (path, "c/d")

    @given(st.text(max_size=260))
    def test_arbitrary_text_is_read_exactly_or_refused(self, text: str) -> None:
        try:
            path = StorePath.from_base_name(text)
        except InvalidObject:
            return
        assert path.base_name == text


class TestOrder:
    def test_known_order(self) -> None:
        paths = [StorePath.from_absolute(text) for text in vectors.ASCENDING]
        shuffled = random.Random(0).sample(paths, len(paths))
        assert sorted(shuffled) == paths

    @given(st.lists(st.builds(StorePath, st.sampled_from([bytes(20), b"\1" + bytes(19), bytes(19) + b"\1"]), NAMES)))
    def test_order_is_that_of_the_base_names(self, paths: list[StorePath]) -> None:
        assert [path.base_name for path in sorted(paths)] == sorted(path.base_name for path in paths)

    @given(STORE_PATHS, STORE_PATHS)
    def test_comparisons_agree(self, a: StorePath, b: StorePath) -> None:
        assert (a < b, a <= b, a == b, a > b) == (str(a) < str(b), str(a) <= str(b), str(a) == str(b), str(a) > str(b))

    def test_one_digest_under_two_names_is_two_paths(self) -> None:
        assert len({StorePath(bytes(20), "a"), StorePath(bytes(20), "b"), StorePath(bytes(20), "b")}) == 2


class TestCalculation:
    @pytest.mark.parametrize(("digest", "compressed", "text"), vectors.COMPRESSED)
    def test_compress_hash(self, digest: str, compressed: str, text: str) -> None:
        assert compress_hash(bytes.fromhex(digest)).hex() == compressed
        assert nixbase32.encode(compress_hash(bytes.fromhex(digest))) == text

    @given(st.binary(min_size=32, max_size=32))
    def test_compress_hash_agrees_with_the_definition(self, digest: bytes) -> None:
        folded = bytearray(20)
        for i, byte in enumerate(digest):
            folded[i % 20] ^= byte
        assert compress_hash(digest) == folded

    @pytest.mark.parametrize("size", [0, 20, 31, 33])
    def test_only_sha256_is_compressed(self, size: int) -> None:
        with pytest.raises(InvalidObject):
            compress_hash(bytes(size))
        with pytest.raises(InvalidObject):
            make_store_path("source", bytes(size), "a")

    @pytest.mark.parametrize(("output", "text"), vectors.PLACEHOLDERS)
    def test_placeholder(self, output: str, text: str) -> None:
        assert placeholder(output) == text

    @pytest.mark.parametrize(("path_type", "inner", "name", "base_name"), vectors.TYPED_PATHS)
    def test_make_store_path(self, path_type: str, inner: str, name: str, base_name: str) -> None:
        assert str(make_store_path(path_type, bytes.fromhex(inner), name)) == base_name

    @pytest.mark.parametrize("name", ["", "a/b", ".", "\ud800"])
    def test_bad_names_are_refused(self, name: str) -> None:
        with pytest.raises(InvalidObject):
            make_store_path("source", bytes(32), name)

    @pytest.mark.parametrize(("method", "tree", "base_name"), vectors.TREE_PATHS)
    def test_trees(self, method: str, tree: str, base_name: str) -> None:
        assert str(store_path_for_ca(tree, ca_of_tree(method, tree))) == base_name

    @pytest.mark.parametrize(("method", "tree", "base_name"), vectors.OTHER_STORE_DIR_PATHS)
    def test_another_store_dir(self, method: str, tree: str, base_name: str) -> None:
        assert str(store_path_for_ca(tree, ca_of_tree(method, tree), store_dir="/foo/store")) == base_name

    @pytest.mark.parametrize(("name", "contents", "references", "base_name"), vectors.TEXT_PATHS)
    def test_texts(self, name: str, contents: bytes, references: list[str], base_name: str) -> None:
        paths = [StorePath.from_base_name(reference) for reference in references]
        assert str(store_path_for_ca(name, text_ca(contents), paths)) == base_name

    @pytest.mark.parametrize(("ca", "references", "name", "base_name"), vectors.DIGEST_PATHS)
    def test_digests(self, ca: str, references: list[str], name: str, base_name: str) -> None:
        paths = [StorePath.from_base_name(reference) for reference in references]
        assert str(store_path_for_ca(name, ContentAddress.parse(ca), paths)) == base_name

    def test_references_may_come_in_any_order_and_twice(self) -> None:
        _, contents, references, base_name = next(row for row in vectors.TEXT_PATHS if row[0] == "two")
        a, b = map(StorePath.from_base_name, references)
        assert str(store_path_for_ca("two", text_ca(contents), iter([b, a, b]))) == base_name

    def test_references_lie_in_the_store_dir_given(self) -> None:
        reference = StorePath(bytes(20), "a")
        expected = make_store_path(
            f"text:{reference.absolute('/foo/store')}", hashlib.sha256().digest(), "b", "/foo/store"
        )
        assert store_path_for_ca("b", text_ca(b""), [reference], store_dir="/foo/store") == expected

    @pytest.mark.parametrize("method", ["fixed:r:md5", "fixed:r:sha1", "fixed:r:sha512", "fixed:sha1", "fixed:sha256"])
    def test_other_methods_allow_no_references(self, method: str) -> None:
        ca = ca_of_tree(method, "hello")
        with pytest.raises(InvalidObject, match="cannot have references"):
            store_path_for_ca("hello", ca, [StorePath(bytes(20), "a")])
        with pytest.raises(InvalidObject, match="cannot refer to itself"):
            store_path_for_ca("hello", ca, self_reference=True)

    def test_text_cannot_refer_to_itself(self) -> None:
        with pytest.raises(InvalidObject, match="cannot refer to itself"):
            store_path_for_ca("a", text_ca(b""), self_reference=True)


class TestSelfReference:
    def test_dependency(self) -> None:
        ca = ContentAddress.parse(vectors.DEP_NAR_CA)
        assert ca.hash == NixHash.of(HashAlgorithm.SHA256, nar_of_file(vectors.DEP_CONTENTS))
        assert str(store_path_for_ca("dep", ca)) == vectors.DEP_NAR_PATH
        assert str(store_path_for_ca("dep", text_ca(vectors.DEP_CONTENTS))) == vectors.DEP_TEXT_PATH

    def test_store_path(self) -> None:
        path = store_path_for_ca(
            vectors.SELF_NAME,
            ContentAddress.parse(vectors.SELF_CA),
            [StorePath.from_base_name(vectors.DEP_NAR_PATH)],
            self_reference=True,
        )
        assert str(path) == f"{vectors.SELF_HASH_PART}-{vectors.SELF_NAME}"

    def test_hash_modulo(self) -> None:
        nar = nar_of_file(vectors.SELF_CONTENTS)
        assert len(nar) == 224
        assert hashlib.sha256(nar).hexdigest() == vectors.SELF_NAR_DIGEST
        assert modulo(nar, vectors.SELF_HASH_PART).hex() == vectors.SELF_MODULO_DIGEST
        assert ContentAddress.parse(vectors.SELF_CA).hash.hex() == vectors.SELF_MODULO_DIGEST

    def test_two_occurrences(self) -> None:
        nar = nar_of_file(vectors.TWICE_CONTENTS)
        blanked = nar.replace(vectors.SELF_HASH_PART.encode(), bytes(32))
        assert len(nar) == 184
        assert hashlib.sha256(blanked + vectors.TWICE_SUFFIX).hexdigest() == vectors.TWICE_MODULO_DIGEST
        assert modulo(nar, vectors.SELF_HASH_PART).hex() == vectors.TWICE_MODULO_DIGEST

    def test_no_occurrence_is_the_plain_hash(self) -> None:
        nar = nar_of_file(b"Hello World!")
        assert modulo(nar, vectors.SELF_HASH_PART) == NAR_DIGESTS["hello", "sha256"]
        assert modulo(b"", vectors.SELF_HASH_PART) == hashlib.sha256().digest()

    @pytest.mark.parametrize("size", [1, 2, 7, 31, 32, 33, 100])
    def test_update_boundaries_do_not_matter(self, size: int) -> None:
        nar = nar_of_file(vectors.TWICE_CONTENTS)
        cuts = list(range(size, len(nar), size))
        assert modulo(nar, vectors.SELF_HASH_PART, cuts).hex() == vectors.TWICE_MODULO_DIGEST

    def test_asking_for_the_digest_changes_nothing(self) -> None:
        nar = nar_of_file(vectors.TWICE_CONTENTS)
        hasher = HashModulo(vectors.SELF_HASH_PART)
        for at in range(len(nar)):
            hasher.update(memoryview(nar)[at : at + 1])
            assert hasher.digest() == modulo_by_definition(nar[: at + 1], vectors.SELF_HASH_PART)

    @pytest.mark.parametrize("hash_part", ["0" * 32, "01" * 16])
    @given(data=st.data())
    def test_overlaps_are_found_from_the_left(self, hash_part: str, data: st.DataObject) -> None:
        stream = data.draw(st.text("01", max_size=3)).encode() + hash_part.encode() * 3
        stream += data.draw(st.text("01x", max_size=40)).encode()
        cuts = data.draw(st.lists(st.integers(0, len(stream))))
        assert modulo(stream, hash_part, cuts) == modulo_by_definition(stream, hash_part)

    @given(st.lists(st.binary(max_size=40)), st.lists(st.integers(0, 400)))
    def test_agrees_with_the_definition(self, pieces: list[bytes], cuts: list[int]) -> None:
        stream = vectors.SELF_HASH_PART.encode().join(pieces)
        assert modulo(stream, vectors.SELF_HASH_PART, cuts) == modulo_by_definition(stream, vectors.SELF_HASH_PART)

    @pytest.mark.parametrize("hash_part", ["", "a" * 31, "e" * 32, vectors.NET_TOOLS])
    def test_other_hash_parts_are_refused(self, hash_part: str) -> None:
        with pytest.raises(InvalidObject):
            HashModulo(hash_part)
