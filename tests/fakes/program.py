"""What a run of the program came to, and what the tests of its commands share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vectors.nix_store_paths import TREE_PATHS

SOURCE_PATHS = {name: f"/nix/store/{path}" for method, name, path in TREE_PATHS if method == "fixed:r:sha256"}
MIXED = SOURCE_PATHS["mixed"]

GOOD = """
[blobservices.root]
type = "memory"
[directoryservices.root]
type = "memory"
[pathinfoservices.root]
type = "grpc"
url = "grpc+http://[::1]:1"
"""


@dataclass(frozen=True)
class Result:
    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        return self.out.decode()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    def error(self, code: int = 1) -> str:
        """The one line of an error."""
        assert (self.code, self.out) == (code, b""), self
        assert self.err.startswith("error: ")
        assert self.err.count("\n") == 1
        return self.err.removeprefix("error: ").rstrip("\n")


Program = Callable[..., Result]
Toml = Callable[[str], Path]
