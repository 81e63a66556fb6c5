"""A mounted tree, against the tree that went in: what programs see of it."""

from __future__ import annotations

import base64
import errno
import hashlib
import io
import mmap
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from blake3 import blake3

from e2e.fuse_mount import DEADLINE_S, Mounted, add, local_store, required
from e2e.fuse_trees import SIZES, everything, files_of
from tvix_store.nixbase32 import encode as nixbase32
from vectors.nar import Dir, File, Link, encode, materialise, read_back

pytestmark = pytest.mark.usefixtures("needs_fuse")

TREE = everything()
EQUAL = TREE.entries[b"equal"]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree that goes in."""
    return materialise(TREE, tmp_path_factory.mktemp("source") / "everything")


@pytest.fixture(scope="module")
def mounted(needs_fuse: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """A store that can be listed."""
    folder = tmp_path_factory.mktemp("mounted")
    with Mounted.mount(local_store(folder), folder / "mnt", "--list-root") as mounted:
        yield mounted


@pytest.fixture(scope="module")
def tree(mounted: Mounted, source: Path) -> Path:
    """Where the tree is shown."""
    [name] = add(mounted.path.parent / "store.toml", source)
    return mounted.path / name


def output(*command: object, cwd: Path | None = None) -> bytes:
    """What a program prints that ends well and complains of nothing."""
    done = subprocess.run(list(map(str, command)), cwd=cwd, capture_output=True, timeout=DEADLINE_S, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout


def refusal(call: Callable[[], object]) -> str:
    """The name of the errno that a call is refused with."""
    with pytest.raises(OSError, match=r"\[Errno") as caught:
        call()
    assert caught.value.errno is not None
    return errno.errorcode[caught.value.errno]


def names_below(folder: Path) -> list[bytes]:
    """Names, types and link targets below a folder, as ``find`` has them."""
    return sorted(output("find", folder, "-printf", r"%P\t%y\t%l\0").split(b"\0"))


def test_find_lists_what_went_in(tree: Path, source: Path) -> None:
    assert names_below(tree) == names_below(source)


def test_diff_finds_no_difference(tree: Path, source: Path) -> None:
    assert output("diff", "-r", "--no-dereference", tree, source) == b""


def test_tar_packs_what_went_in(tree: Path) -> None:
    packed = {}
    with tarfile.open(fileobj=io.BytesIO(output("tar", "-cC", tree, ".")), errors="surrogateescape") as archive:
        for member in archive:
            assert (member.mtime, member.uid, member.gid) == (1, 0, 0)
            content = archive.extractfile(member) if member.isreg() else None
            contents = member.linkname if content is None else content.read()
            packed[member.name] = (member.type, member.mode, member.size, contents)
    assert packed == dict(members(TREE, "."))


def members(tree: Dir | File | Link, name: str) -> Iterator[tuple[str, tuple[bytes, int, int, bytes | str]]]:
    """What tar has to make of a tree: type, mode, size, contents or target."""
    match tree:
        case File(data, executable):
            yield name, (tarfile.REGTYPE, 0o555 if executable else 0o444, len(data), data)
        case Link(target):
            yield name, (tarfile.SYMTYPE, 0o777, 0, os.fsdecode(target))
        case Dir(entries):
            yield name, (tarfile.DIRTYPE, 0o555, 0, "")
            for child, node in entries.items():
                yield from members(node, f"{name}/{os.fsdecode(child)}")


def test_sha256sum_reads_what_went_in(tree: Path) -> None:
    files = dict(files_of(TREE))
    printed = output("sha256sum", "--zero", "--", *map(os.fsdecode, files), cwd=tree)
    expected = [hashlib.sha256(file.data).hexdigest().encode() + b"  " + path for path, file in files.items()]
    assert printed.split(b"\0")[:-1] == expected


def test_readlink_gives_every_target(tree: Path) -> None:
    links = {name: node.target for name, node in entries_of("links").items() if isinstance(node, Link)}
    printed = output("readlink", "--zero", "--", *map(os.fsdecode, links), cwd=tree / "links")
    assert printed.split(b"\0")[:-1] == list(links.values())


def entries_of(name: str) -> dict[bytes, Dir | File | Link]:
    directory = TREE.entries[name.encode()]
    assert isinstance(directory, Dir)
    return dict(directory.entries)


# Extended attributes


def digests(raw: bytes, kind: str) -> dict[str, str]:
    text = base64.b64encode(raw).decode()
    return {f"user.tvix.castore.{kind}.digest": f"b3:{text}", f"user.snix.castore.{kind}.digest": f"blake3-{text}"}


def directory_digest(*, files: dict[bytes, bytes]) -> bytes:
    """Of a directory with nothing but files that are not executable: the digest of its protobuf message."""

    def field(number: int, value: bytes) -> bytes:
        return bytes([number << 3 | 2, len(value)]) + value

    nodes = (
        field(1, name) + field(2, blake3(data).digest()) + bytes([3 << 3, len(data)]) for name, data in files.items()
    )
    return blake3(b"".join(field(2, node) for node in nodes)).digest()


def xattrs(path: Path) -> dict[str, str]:
    """As ``getfattr`` prints them."""
    required("getfattr", "attr")
    printed = output("getfattr", "--no-dereference", "--absolute-names", "-d", "-m", "-", path).decode()
    lines = (line.partition("=") for line in printed.splitlines() if line and not line.startswith("#"))
    return {name: value.strip('"') for name, _, value in lines}


def test_files_have_the_digest_of_their_blob(tree: Path) -> None:
    assert xattrs(tree / "equal/plain") == digests(blake3(b"equal").digest(), "blob")


def test_directories_have_their_digest(tree: Path) -> None:
    assert xattrs(tree / "equal/left/inside") == digests(directory_digest(files={b"file": b"the same"}), "directory")
    assert xattrs(tree / "empty/directory") == digests(blake3(b"").digest(), "directory")


def test_a_store_path_has_what_is_known_of_it(tree: Path) -> None:
    nar = encode(TREE)
    found = xattrs(tree)
    sha256 = f"sha256:{nixbase32(hashlib.sha256(nar).digest())}"
    assert found["user.tvix.store.nar_sha256"] == sha256
    assert found["user.tvix.store.nar_size"] == str(len(nar))
    assert found["user.tvix.store.ca"] == f"fixed:r:{sha256}"
    assert "user.tvix.store.references" not in found


@pytest.mark.parametrize("name", ["user.tvix.castore.directory.digest", "user.other", "security.selinux"])
def test_an_attribute_that_a_file_does_not_have(tree: Path, name: str) -> None:
    assert refusal(lambda: os.getxattr(tree / "equal/plain", name)) == "ENODATA"


def test_symlinks_and_the_mount_root_have_none(tree: Path) -> None:
    assert os.listxattr(tree / "links/dangling", follow_symlinks=False) == []
    assert os.listxattr(tree.parent) == []


# Files


@pytest.mark.parametrize("size", SIZES)
def test_files_around_the_sizes_of_reads(tree: Path, size: int) -> None:
    expected = entries_of("sizes")[b"%d" % size]
    path = tree / "sizes" / str(size)
    assert path.stat().st_size == size
    assert File(path.read_bytes()) == expected


def test_mmap(tree: Path) -> None:
    [expected] = [file.data for path, file in files_of(TREE) if path == b"sizes/%d" % SIZES[-1]]
    with (tree / "sizes" / str(SIZES[-1])).open("rb") as file:
        with closing(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)) as shared:
            assert shared[-5:] == expected[-5:]
            assert shared[:] == expected
        with closing(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)) as private:
            private[:2] = b"xx"
        assert file.read() == expected


def test_programs_run(tree: Path) -> None:
    output(tree / "bin/true")
    assert output(tree / "bin/script", "directly") == b"it ran: directly\n"
    assert output(tree / "bin/link", "by a symlink") == b"it ran: by a symlink\n"
    assert refusal(lambda: subprocess.run([tree / "equal/plain"], check=True)) == "EACCES"


def test_python_imports_a_package(tree: Path) -> None:
    program = f"import sys; sys.path.insert(0, {str(tree)!r}); import package; print(package.answer)"
    assert output(sys.executable, "-B", "-c", program) == b"forty-two\n"


def test_an_empty_file_and_an_empty_directory(tree: Path) -> None:
    assert (tree / "empty/file").read_bytes() == b""
    assert output("ls", "-a", tree / "empty/directory") == b".\n..\n"


def test_symlinks_lead_where_they_say(tree: Path) -> None:
    links = tree / "links"
    assert (links / "absolute").read_bytes() == Path("/proc/version").read_bytes()
    assert (links / "up").samefile(tree / "bin/script")
    assert refusal((links / "dangling").stat) == "ENOENT"
    assert refusal((links / "loop").stat) == "ELOOP"
    assert refusal((links / "ping").read_bytes) == "ELOOP"


# What stat shows


def test_equal_files_share_an_inode_and_each_has_one_link(tree: Path) -> None:
    plain, again, executable = ((tree / "equal" / name).stat() for name in ("plain", "again", "executable"))
    assert plain.st_ino == again.st_ino != executable.st_ino
    assert plain.st_nlink == again.st_nlink == executable.st_nlink == 1


def test_equal_files_keep_their_executable_bit(tree: Path) -> None:
    folder = tree / "equal"
    for _ in range(2):
        modes = {name: stat.filemode((folder / name).stat().st_mode) for name in ("plain", "executable", "again")}
        assert modes == {"plain": "-r--r--r--", "executable": "-r-xr-xr-x", "again": "-r--r--r--"}


def test_equal_directories_stay_where_they_are(tree: Path) -> None:
    script = (
        "cd left/inside && pwd -P && cat ../../right/inside/file && ls ../../right/inside && pwd -P && cd .. && pwd -P"
    )
    printed = output("sh", "-c", script, cwd=tree / "equal").decode()
    here = f"{tree}/equal/left"
    assert printed == f"{here}/inside\nthe samefile\n{here}/inside\n{here}\n"
    assert not (tree / "equal/left").samefile(tree / "equal/right")


def test_an_open_directory_stays_what_it_is(tree: Path) -> None:
    left = os.open(tree / "equal/left/inside", os.O_DIRECTORY)
    try:
        assert os.listdir(tree / "equal/right/inside") == ["file"]
        assert os.readlink(f"/proc/self/fd/{left}") == str(tree / "equal/left/inside")
        assert os.listdir(left) == ["file"]
    finally:
        os.close(left)


def test_blocks_are_those_of_the_contents(tree: Path) -> None:
    for path, file in files_of(TREE):
        assert (tree / os.fsdecode(path)).stat().st_blocks == -(-len(file.data) // 512)
    used, _, _ = output("du", "-s", "--block-size=512", tree / "sizes").partition(b"\t")
    assert int(used) == sum(-(-size // 512) for size in SIZES)


def test_everything_is_as_old_as_in_a_nix_store(tree: Path, source: Path) -> None:
    printed = output("find", tree, "-printf", r"%T@ %C@ %U %G\n").splitlines()
    assert set(printed) == {b"1.0000000000 1.0000000000 0 0"}
    assert len(printed) == sum(1 for _ in source.rglob("*")) + 1


def test_df_and_statvfs(mounted: Mounted) -> None:
    filesystem = os.statvfs(mounted.path)
    assert filesystem.f_namemax == 255
    assert filesystem.f_frsize == mmap.PAGESIZE
    assert filesystem.f_flag & (os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV) == os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV
    assert output("df", "--output=source", mounted.path).split()[-1] == b"tvix-store"


WRITES: dict[str, Callable[[Path], object]] = {
    "open": lambda tree: os.open(tree / "equal/plain", os.O_RDWR),
    "append": lambda tree: os.open(tree / "equal/plain", os.O_WRONLY | os.O_APPEND),
    "create": lambda tree: os.open(tree / "new", os.O_WRONLY | os.O_CREAT),
    "create in the root": lambda tree: os.open(tree.parent / "new", os.O_WRONLY | os.O_CREAT),
    "truncate": lambda tree: os.truncate(tree / "equal/plain", 0),
    "unlink": lambda tree: (tree / "equal/plain").unlink(),
    "mkdir": lambda tree: (tree / "new").mkdir(),
    "rmdir": lambda tree: (tree / "empty/directory").rmdir(),
    "rmdir in the root": lambda tree: tree.rmdir(),
    "rename": lambda tree: (tree / "equal/plain").rename(tree / "new"),
    "symlink": lambda tree: (tree / "new").symlink_to("target"),
    "link": lambda tree: (tree / "new").hardlink_to(tree / "equal/plain"),
    "mkfifo": lambda tree: os.mkfifo(tree / "new"),
    "chmod": lambda tree: (tree / "equal/plain").chmod(0o777),
    "chown": lambda tree: os.chown(tree / "equal/plain", 0, 0),
    "utime": lambda tree: os.utime(tree / "equal/plain"),
    "setxattr": lambda tree: os.setxattr(tree / "equal/plain", "user.new", b""),
    "removexattr": lambda tree: os.removexattr(tree / "equal/plain", "user.tvix.castore.blob.digest"),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_nobody_can_write(tree: Path, source: Path, write: Callable[[Path], object]) -> None:
    assert refusal(lambda: write(tree)) == "EROFS"


def test_what_went_in_is_what_is_read_back(tree: Path) -> None:
    assert read_back(tree) == TREE
