"""Binary caches as a real Nix writes them, and variants of their files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tvix_store.narinfo import NarInfo
from tvix_store.path_info import PathMetadata
from tvix_store.signing import PublicKey, SecretKey
from tvix_store.store_path import StorePath

__all__ = ["BIG_BYTES", "METHODS", "CacheFiles", "RealCache", "path_named"]

METHODS = ["none", "xz", "bzip2", "gzip", "zstd", "br", "lzma", "lzip"]

BIG_BYTES = 3 << 20
"""Of the largest file; more than what is held back of a NAR until all was checked."""

_NIX_CONF = """
experimental-features = nix-command
sandbox = false
build-users-group =
substituters =
"""


@dataclass(frozen=True)
class RealCache:
    """A store that Nix made, and binary caches of it that Nix wrote.

    Args:
        folder: Of all of it.
        public_key: Signed everything.
        secret_key: Its other half.
        tree: A path with a large file.
        referring: A path that refers to ``referred``.
        referred: A path.
        nar: What ``nix-store --dump`` writes of ``tree``.
    """

    folder: Path
    public_key: PublicKey
    secret_key: SecretKey
    tree: StorePath
    referring: StorePath
    referred: StorePath
    nar: bytes

    @classmethod
    def make(cls, folder: Path) -> RealCache:
        (folder / "nix.conf").write_text(_NIX_CONF)
        tree = folder / "tree"
        (tree / "sub").mkdir(parents=True)
        (tree / "hello").write_text("Hello World!")
        (tree / "sub" / "run").write_text("#!/bin/sh\n")
        (tree / "sub" / "run").chmod(0o755)
        (tree / "sub" / "link").symlink_to("../hello")
        (tree / "big").write_bytes(os.urandom(BIG_BYTES // 2) + bytes(BIG_BYTES // 2))
        store = f"{folder}/store"
        path = _run(folder, "nix-store", "--store", store, "--add", str(tree))
        refer = 'builtins.toFile "referring" "see ${builtins.toFile "referred" "text"}"'
        referring = _run(folder, "nix", "eval", "--store", store, "--raw", "--expr", refer)
        referred = _run(folder, "nix-store", "--store", store, "--query", "--references", referring)
        _run(folder, "nix-store", "--generate-binary-cache-key", "test-1", "secret", "public")
        dump = subprocess.run(["nix-store", "--dump", tree], check=True, capture_output=True).stdout
        return cls(
            folder,
            PublicKey.parse((folder / "public").read_text()),
            SecretKey.parse((folder / "secret").read_text()),
            StorePath.from_absolute(path),
            StorePath.from_absolute(referring),
            StorePath.from_absolute(referred),
            dump,
        )

    def written(self, compression: str) -> Path:
        """The folder of a cache whose NARs are compressed like this."""
        folder = self.folder / f"cache-{compression}"
        if not folder.exists():
            url = f"file://{folder}?compression={compression}&secret-key={self.folder}/secret"
            _run(self.folder, "nix", "copy", "--no-check-sigs", "--from", f"{self.folder}/store", "--to", url, "--all")
        return folder


def _run(folder: Path, *command: str) -> str:
    environment = {**os.environ, "NIX_CONF_DIR": str(folder), "HOME": str(folder), "TMPDIR": str(folder)}
    return subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=folder, env=environment
    ).stdout.strip()


class CacheFiles(dict[str, bytes]):
    """The files of a cache, by their names relative to it; to be changed by tests."""

    @classmethod
    def of(cls, folder: Path) -> CacheFiles:
        return cls({str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()})

    def narinfo(self, path: StorePath) -> NarInfo:
        return NarInfo.parse(self[f"{path.hash_part}.narinfo"])

    def nar_name(self, path: StorePath) -> str:
        return self.narinfo(path).url

    def change_narinfo(self, path: StorePath, change: Callable[[NarInfo], NarInfo]) -> None:
        self[f"{path.hash_part}.narinfo"] = change(self.narinfo(path)).render()

    def change_metadata(self, path: StorePath, change: Callable[[PathMetadata], PathMetadata]) -> None:
        self.change_narinfo(path, lambda narinfo: replace(narinfo, metadata=change(narinfo.metadata)))

    def change_nar(self, path: StorePath, change: Callable[[bytes], bytes]) -> None:
        name = self.nar_name(path)
        self[name] = change(self[name])


def path_named(name: str) -> StorePath:
    """Some path that no cache here has."""
    return StorePath(bytes(range(20)), name)
