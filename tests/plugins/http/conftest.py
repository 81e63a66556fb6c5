"""Fixtures for the binary cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from plugins.http.nix_client import Nix


@pytest.fixture
def nix(tmp_path: Path) -> Nix:
    return Nix(tmp_path / "client")
