"""``tvix-store key``: keys that sign store paths."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from tvix_store.errors import StoreError
from tvix_store.signing import SecretKey

__all__ = ["key"]

_SECRET_MODE = 0o600
_PUBLIC_MODE = 0o644


@click.group(short_help="Keys that sign store paths.")
def key() -> None:
    """Keys that sign store paths, in the form that Nix uses."""


@key.command(short_help="Make a key.")
@click.argument("name")
@click.option("--secret", type=click.Path(path_type=Path), metavar="FILE", help="Write the secret key to FILE.")
@click.option("--public", type=click.Path(path_type=Path), metavar="FILE", help="Write the public key to FILE.")
def generate(name: str, secret: Path | None, public: Path | None) -> None:
    """Make a key called NAME, by convention the name of the cache and a number: cache.example.org-1.

    Without --secret, the secret key goes to stdout, and `key public` finds the public key from it; with it, the
    public key goes there, unless --public says where else. A file that is there is not overwritten. Only the user
    can read the secret key.
    """
    made = SecretKey.generate(name)
    if secret is not None:
        _write_new(secret, str(made), _SECRET_MODE)
    if public is not None:
        try:
            _write_new(public, str(made.public), _PUBLIC_MODE)
        except StoreError:
            if secret is not None:  # without anybody having the public key, it is of no use
                secret.unlink()
            raise
    if secret is None:
        print(made)
    elif public is None:
        print(made.public)


def _write_new(path: Path, text: str, mode: int) -> None:
    """Write a file that is not there yet, and see it safely on disk."""
    try:
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w")
    except FileExistsError as exc:
        raise StoreError(f"{path} is there already, and is not overwritten") from exc
    except OSError as exc:
        raise StoreError(f"{path}: {exc.strerror}") from exc
    try:
        with file:
            file.write(text)  # without a line end, as Nix has it
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        path.unlink()
        raise StoreError(f"{path}: {exc.strerror}") from exc


@key.command(short_help="Print the public key of a secret key.")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True), default="-")
def public(file: Path) -> None:
    """Print the public key that belongs to the secret key in FILE, or on stdin."""
    secret = SecretKey.parse(sys.stdin.read()) if str(file) == "-" else SecretKey.read(file)
    print(secret.public)
