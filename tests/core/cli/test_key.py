"""``key``: made once, kept secret, and the same for Nix."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fakes.program import Program
from tvix_store.signing import PublicKey, SecretKey
from vectors.nix_keys import KEYS

SECRET, PUBLIC = KEYS[0]


def test_a_key_goes_into_two_files(program: Program, tmp_path: Path) -> None:
    secret, public = tmp_path / "secret", tmp_path / "public"
    result = program("key", "generate", "cache.example.org-1", "--secret", secret, "--public", public)
    assert (result.code, result.out, result.err) == (0, b"", "")
    key = SecretKey.parse(secret.read_text())
    assert secret.read_text() == str(key)
    assert public.read_text() == str(key.public)
    assert key.name == "cache.example.org-1"
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600


def test_the_secret_key_goes_to_stdout_without_a_file(program: Program, tmp_path: Path) -> None:
    key = SecretKey.parse(program("key", "generate", "a").text)
    assert program("key", "public", stdin=f"{key}\n").text == f"{key.public}\n"
    assert program("key", "generate", "a", "--public", tmp_path / "public").text.startswith("a:")
    assert PublicKey.parse((tmp_path / "public").read_text()).name == "a"


def test_the_public_key_goes_to_stdout_when_only_the_secret_has_a_file(program: Program, tmp_path: Path) -> None:
    result = program("key", "generate", "a", "--secret", tmp_path / "secret")
    assert result.text == f"{SecretKey.read(tmp_path / 'secret').public}\n"


@pytest.mark.parametrize("there", ["secret", "public"])
def test_no_file_is_overwritten_and_none_is_left_alone(program: Program, there: str, tmp_path: Path) -> None:
    (tmp_path / there).write_text("precious")
    result = program("key", "generate", "a", "--secret", tmp_path / "secret", "--public", tmp_path / "public")
    assert result.error() == f"{tmp_path}/{there} is there already, and is not overwritten"
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir() if path.is_file()] == [(there, "precious")]


def test_a_symlink_is_not_followed(program: Program, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    assert "is there already" in program("key", "generate", "a", "--secret", tmp_path / "link").error()
    assert not (tmp_path / "elsewhere").exists()


def test_a_folder_that_is_not_there(program: Program, tmp_path: Path) -> None:
    result = program("key", "generate", "a", "--secret", tmp_path / "absent" / "secret")
    assert result.error() == f"{tmp_path}/absent/secret: No such file or directory"


def test_a_name_no_key_can_have(program: Program) -> None:
    assert "a name is not empty and has no colons" in program("key", "generate", "a b").error()


def test_the_public_key_of_a_file(program: Program, tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    assert program("key", "public", path).text == f"{PUBLIC}\n"


def test_what_is_no_secret_key_is_not_shown(program: Program) -> None:
    data = SECRET.partition(":")[2]
    error = program("key", "public", stdin=data).error()
    assert error == "secret key: expected NAME:BASE64, and there is no colon"
    assert data[:10] not in program("key", "public", stdin=f"a:{data[:-1]}").error()
