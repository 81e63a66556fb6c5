"""``tvix-store import``: paths of the file system into the store."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click

from tvix_store.cli.logs import report
from tvix_store.cli.progress import FilesProgress
from tvix_store.cli.stores import StoreOptions, store_options
from tvix_store.content_address import ContentAddress, ContentAddressMethod
from tvix_store.errors import InvalidObject, StoreError
from tvix_store.frontend import Services
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.ingest import Advance, ingest_path
from tvix_store.path_info import PathInfo
from tvix_store.store_path import store_path_for_ca, validate_name

__all__ = ["import_", "import_path"]


@click.command("import", short_help="Store paths of the file system and print their store paths.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--name", help="Name in the store path, for a single PATH.  [default: last component of PATH]")
@store_options()
def import_(stores: StoreOptions, paths: Sequence[Path], name: str | None) -> None:
    """Store each PATH, without following symlinks, and print the store path that `nix-store --add` gives it.

    What the store has already is not sent again. A PATH that cannot be stored is reported and does not keep the
    others from being stored; the exit status is 1 then.
    """
    if name is not None and len(paths) != 1:
        raise click.UsageError("--name goes with exactly one PATH")
    names = [name if name is not None else _name_of(path) for path in paths]
    for name_ in names:
        validate_name(name_)
    if asyncio.run(_import_all(stores, paths, names)):
        click.get_current_context().exit(1)


def _name_of(path: Path) -> str:
    """The last component as it stands: ``a/b/..`` has no name of its own, ``a/b/../c`` is ``c``."""
    if path.name in ("", ".."):
        raise InvalidObject(f"{str(path)!r} does not end in a name; give one with --name")
    return path.name


async def _import_all(stores: StoreOptions, paths: Sequence[Path], names: Sequence[str]) -> int:
    """Import one path after the other; returns how many failed."""
    failed = 0
    async with stores.open() as services:
        with FilesProgress() as progress:
            for path, name in zip(paths, names, strict=True):
                progress.start(f"importing {path}")
                try:
                    path_info = await import_path(services, path, name, progress.advance)
                except StoreError as exc:
                    failed += 1
                    with progress.paused():
                        report(str(exc) if str(path) in str(exc) else f"{path}: {exc}")
                else:
                    with progress.paused():
                        print(path_info.store_path.absolute())
    return failed


async def import_path(services: Services, path: Path, name: str, advance: Advance) -> PathInfo:
    """Store ``path`` as a source path: content-addressed by its NAR's SHA-256, without references.

    Raises:
        StoreError: As ``ingest_path``; nothing that refers to the contents is stored then.
    """
    ingested = await ingest_path(path, services.blobs, services.directories, advance)
    ca = ContentAddress(ContentAddressMethod.NAR, NixHash(HashAlgorithm.SHA256, ingested.nar.sha256))
    path_info = PathInfo(
        store_path=store_path_for_ca(name, ca),
        node=ingested.node,
        nar_size=ingested.nar.size,
        nar_sha256=ingested.nar.sha256,
        ca=ca,
    )
    return await services.path_infos.put(path_info)
