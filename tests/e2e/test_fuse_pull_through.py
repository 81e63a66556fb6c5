"""A mount of a pull-through cache: what is looked up is fetched from a binary cache, once, and stays."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from e2e.fuse_mount import Mounted
from e2e.http_chain import Contents, Server, far_config, near_config
from tvix_store.signing import SecretKey
from vectors.nar import Dir, File, Link

pytestmark = pytest.mark.usefixtures("needs_fuse")

TREE = Dir(
    {
        b"bin": Dir({b"run": File(b"#!/bin/sh\n", True)}),
        b"data": File(bytes(300_000)),
        b"link": Link(b"bin/run"),
    }
)


@pytest.fixture
def contents(tmp_path: Path) -> Contents:
    (tmp_path / "far").mkdir()
    return Contents(tmp_path / "far")


def test_a_path_of_an_upstream_is_there_when_it_is_looked_up_and_stays(contents: Contents, tmp_path: Path) -> None:
    path = contents.add("hello", TREE)
    contents.store()
    with Server(far_config(contents.folder)) as far:
        config = near_config(tmp_path / "near", far.url, [contents.key.public])
        with Mounted.mount(config, tmp_path / "mnt") as mounted:
            assert (mounted.path / path.base_name / "link").read_bytes() == b"#!/bin/sh\n"
            assert not (mounted.path / f"{'0' * 32}-hello").exists()
            assert mounted.unmount().returncode == 0
            assert mounted.status() == 0
        assert far.stop() == 0
    with Mounted.mount(config, tmp_path / "mnt") as mounted:
        assert (mounted.path / path.base_name / "data").read_bytes() == bytes(300_000)


def test_a_path_that_nobody_trusted_has_signed_is_not_shown_and_not_absent(contents: Contents, tmp_path: Path) -> None:
    path = contents.add("hello", TREE)
    contents.store()
    with Server(far_config(contents.folder)) as far:
        config = near_config(tmp_path / "near", far.url, [SecretKey.generate("other-1").public])
        with Mounted.mount(config, tmp_path / "mnt") as mounted:
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                (mounted.path / path.base_name).stat()
            assert path.base_name in mounted.logged("which is not trusted")
