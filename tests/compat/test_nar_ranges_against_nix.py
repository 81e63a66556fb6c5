"""Ranges of what is rendered against slices of what a real Nix dumps."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from tvix_store.ingest import ingest_path
from tvix_store.limits import MIB
from tvix_store.nar_render import load_tree, render_nar
from tvix_store.testing.fixtures import contents
from tvix_store.testing.minimal import MinimalBlobService, MinimalDirectoryService
from vectors.nar import Dir, File, Link, materialise

TREE = Dir(
    {
        b"bin": Dir({b"%03d" % i: File(contents(i * 37, i), i % 2 == 0) for i in range(300)}),
        b"lib": Dir({b"large": File(contents(3 * MIB + 5)), b"link": Link(b"large")}),
        b"z": File(b"the end"),
    }
)


def test_ranges_are_slices_of_what_nix_dumps(nix_store: str, tmp_path: Path) -> None:
    path = materialise(TREE, tmp_path / "tree")
    dump = subprocess.run([nix_store, "--dump", path], check=True, capture_output=True).stdout

    async def check() -> None:
        blobs, directories = MinimalBlobService(), MinimalDirectoryService()
        tree = await load_tree((await ingest_path(path, blobs, directories)).node, directories)
        assert tree.nar_size() == len(dump)
        for start in range(0, len(dump), 200_003):
            for end in (start + 1, start + 70_000, len(dump)):
                pieces = [piece async for piece in render_nar(tree, blobs, start=start, end=end)]
                assert b"".join(pieces) == dump[start:end]

    asyncio.run(check())
