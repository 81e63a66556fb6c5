"""Known objects to put into services: golden ones, whose digests other stores agree on, and made-up contents.

Source of the golden objects: the fixtures that the tests of tvix and snix share, with the digests that follow from
the castore data model. Directories are in the form that today's reference produces (``Directory.size``).
"""

from __future__ import annotations

import base64
from dataclasses import dataclass

from blake3 import blake3

from tvix_store.content_address import ContentAddress, ContentAddressMethod
from tvix_store.digest import B3Digest
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.nodes import Directory, DirectoryNode, FileNode, SymlinkNode
from tvix_store.path_info import PathInfo, Signature
from tvix_store.store_path import StorePath

__all__ = [
    "BLOB_A",
    "BLOB_B",
    "DIRECTORY_A",
    "DIRECTORY_B",
    "DIRECTORY_C",
    "DIRECTORY_COMPLICATED",
    "DIRECTORY_D",
    "DIRECTORY_DIGESTS",
    "DIRECTORY_D_DOCUMENTED",
    "DIRECTORY_WITH_KEEP",
    "DIRECTORY_WRONG_SIZE",
    "EMPTY_BLOB",
    "GOLDEN_BLOBS",
    "GOLDEN_DIRECTORIES",
    "GOLDEN_PATH_INFOS",
    "HELLOWORLD_BLOB",
    "PATH_INFO",
    "PATH_INFO_FULL",
    "PATH_INFO_SIGNED",
    "PATH_INFO_SYMLINK",
    "SIGNATURE",
    "GoldenBlob",
    "contents",
    "store_path",
]


def contents(size: int, seed: int = 0) -> bytes:
    """``size`` bytes that do not compress, the same for each ``seed``; a longer one starts with the shorter."""
    return blake3(b"contents %d" % seed).digest(length=size)


def store_path(name: str) -> StorePath:
    """A store path with this name, whose digest is made from it."""
    return StorePath(blake3(name.encode()).digest(length=20), name)


@dataclass(frozen=True, slots=True)
class GoldenBlob:
    """Contents, and the digest that other implementations give them."""

    data: bytes
    digest: B3Digest


EMPTY_BLOB = GoldenBlob(b"", B3Digest.parse("b3:rxNJufX5oaagQE3qNtzJSZvLJcmtwRK3zJqTyuQfMmI="))
HELLOWORLD_BLOB = GoldenBlob(b"Hello World!", B3Digest.parse("b3:XKeBWty0hOmhNsEe/mnB1TAXbVSbXRjQOOtSgLSzRww="))
BLOB_A = GoldenBlob(b"\x00\x01", B3Digest.parse("b3:e3AVu5LPCzGAN3AqbN2B3uQSJPc0aEwsEizWNZyx7mM="))
BLOB_B = GoldenBlob(bytes(range(255)) * 4096, B3Digest.parse("b3:qCxRVKegwmLG/bkpoxdYVkb4+8+AMm0Ke4dH7a8tmdI="))

GOLDEN_BLOBS = {"EMPTY": EMPTY_BLOB, "HELLOWORLD": HELLOWORLD_BLOB, "A": BLOB_A, "B": BLOB_B}

DIRECTORY_A = Directory()
DIRECTORY_B = Directory({b"a": DIRECTORY_A.node()})
DIRECTORY_C = Directory({b"a": DIRECTORY_A.node(), b"a'": DIRECTORY_A.node()})
DIRECTORY_D = Directory({b"a": DIRECTORY_A.node(), b"b": DIRECTORY_B.node()})
DIRECTORY_WITH_KEEP = Directory({b".keep": FileNode(EMPTY_BLOB.digest, 0)})
DIRECTORY_COMPLICATED = Directory(
    [
        (b"keep", DIRECTORY_WITH_KEEP.node()),
        (b".keep", FileNode(EMPTY_BLOB.digest, 0)),
        (b"aa", SymlinkNode(b"/nix/store/somewhereelse")),
    ]
)
DIRECTORY_D_DOCUMENTED = Directory(
    {b"a": DIRECTORY_A.node(), b"b": DirectoryNode(DIRECTORY_B.digest, DIRECTORY_B.documented_size)}
)
"""As D, with the size of B as ``castore.proto`` documents it; accepted, never produced."""
DIRECTORY_WRONG_SIZE = Directory({b"foo": DirectoryNode(DIRECTORY_A.digest, 42)})
"""Valid by itself, refused in a closure: it states a size for A that A does not have."""

GOLDEN_DIRECTORIES = {
    "A": DIRECTORY_A,
    "B": DIRECTORY_B,
    "C": DIRECTORY_C,
    "D": DIRECTORY_D,
    "D_DOCUMENTED": DIRECTORY_D_DOCUMENTED,
    "WITH_KEEP": DIRECTORY_WITH_KEEP,
    "COMPLICATED": DIRECTORY_COMPLICATED,
    "WRONG_SIZE": DIRECTORY_WRONG_SIZE,
}
DIRECTORY_DIGESTS = {
    name: B3Digest.parse(f"b3:{text}")
    for name, text in {
        "A": "rxNJufX5oaagQE3qNtzJSZvLJcmtwRK3zJqTyuQfMmI=",
        "B": "hwH0ci2Nrn8sQPoAMzG4Q3o4Jfnhv9OneZjGTMImucw=",
        "C": "eOsgCuDMldTqlUZV+8+R4oUBOiYTEOFhkn8kAdK8qAM=",
        "D": "ds2LVbNzM5YcF3i6mX5X35LiGZJq5aZsQUuBAzGndgM=",
        "D_DOCUMENTED": "mZIqXBgBgFKHpkevc7yg7XNSpffzc+VJknlbzEojUhM=",
        "WITH_KEEP": "i1tdZCtka7jtUEsIYsOUE+h+V0kUl9570HWVP3uDgQ4=",
        "COMPLICATED": "Qkp/bOCNgF0VtCgGL6rpYpmhZ11wjDo5Jhr+OM3QT+s=",
        "WRONG_SIZE": "1HqvS51yxd0XF1aQGpgprs7/Ab4hdcLZdEI5xypaVy4=",
    }.items()
}

_DUMMY_PATH = StorePath(bytes(20), "dummy")
SIGNATURE = Signature(
    "do.not.use",
    base64.b64decode("xl4q2L5wQMou13ZQ9/YPqK1z/DSIYycTtndVNfp2ybT8Cpg+yPv1sCQN8VVWppnq5BXTuMhjaq7K/ebYN4LYBg=="),
)
"""Of ``PATH_INFO``, by the key that the reference's tests use."""
PATH_INFO = PathInfo(
    store_path=_DUMMY_PATH,
    node=DirectoryNode(B3Digest(bytes(32)), 0),
    nar_size=0,
    nar_sha256=bytes(32),
    references=(_DUMMY_PATH,),
    ca=ContentAddress(ContentAddressMethod.NAR, NixHash(HashAlgorithm.SHA256, bytes(32))),
)
PATH_INFO_SYMLINK = PathInfo(
    store_path=_DUMMY_PATH,
    node=SymlinkNode(b"/nix/store/somewhereelse"),
    nar_size=136,
    nar_sha256=bytes.fromhex("097d397e9b5826384eaa16c457715d1c1a51670313ead0f58566e0b232539cf1"),
)
PATH_INFO_SIGNED = PATH_INFO.with_signatures(SIGNATURE)
PATH_INFO_FULL = PathInfo(
    store_path=_DUMMY_PATH,
    node=DIRECTORY_COMPLICATED.node(),
    nar_size=840,
    nar_sha256=bytes.fromhex("ebd52279a8df024c9fd5718de4103bf5e760dc7f2cf49044ee7dea87ab16911a"),
    references=(_DUMMY_PATH,),
    signatures=(SIGNATURE,),
    deriver=_DUMMY_PATH,
    ca=ContentAddress(
        ContentAddressMethod.NAR,
        NixHash(HashAlgorithm.SHA1, bytes.fromhex("47de7b79dd27fcac4e1202fe761d0890c1321e59")),
    ),
)
"""Every field set; the signature is not of this one."""

GOLDEN_PATH_INFOS = {
    "PATH_INFO": PATH_INFO,
    "SYMLINK": PATH_INFO_SYMLINK,
    "SIGNED": PATH_INFO_SIGNED,
    "FULL": PATH_INFO_FULL,
}
"""All of one store path."""
