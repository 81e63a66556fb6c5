"""``tvix-store import``: paths of the file system into the store; with ``--from``, those of a binary cache."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click

from tvix_store.cli.import_cache import CacheSource, import_from
from tvix_store.cli.logs import report
from tvix_store.cli.progress import FilesProgress
from tvix_store.cli.stores import StoreOptions, store_options
from tvix_store.content_address import ContentAddress, ContentAddressMethod
from tvix_store.errors import InvalidObject, StoreError
from tvix_store.frontend import Services
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.ingest import Advance, ingest_path
from tvix_store.path_info import PathInfo
from tvix_store.signing import parse_public_keys
from tvix_store.store_path import store_path_for_ca, validate_name

__all__ = ["import_", "import_path"]


@click.command("import", short_help="Store paths of the file system, or of a binary cache.")
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path), metavar="PATH...")
@click.option("--name", help="Name in the store path, for a single PATH.  [default: last component of PATH]")
@click.option("--from", "cache", metavar="URL|DIR", help="Take store paths out of this binary cache instead.")
@click.option("--all", "all_", is_flag=True, help="With --from DIR: everything that is there, in place of PATHs.")
@click.option(
    "--trusted-public-keys",
    "--trusted-public-key",
    "trusted",
    multiple=True,
    metavar="KEYS",
    help="With --from: whose signatures count, NAME:BASE64 separated by white space; may be given several times.",
)
@click.option("--no-check-signatures", is_flag=True, help="With --from: take paths that nobody trusted has signed.")
@store_options()
def import_(
    stores: StoreOptions,
    paths: Sequence[Path],
    name: str | None,
    cache: str | None,
    all_: bool,
    trusted: Sequence[str],
    no_check_signatures: bool,
) -> None:
    """Store each PATH, without following symlinks, and print the store path that `nix-store --add` gives it.

    What the store has already is not sent again. A PATH that cannot be stored is reported and does not keep the
    others from being stored; the exit status is 1 then.

    With --from, each PATH is a store path, or the hash part of one, and is taken out of a binary cache with all that it
    refers to. What the store has already is passed over, so that an import that was interrupted goes on when it is
    repeated. Prints the paths that were stored. Unless their contents have the content address that the path follows
    from, paths are refused that have no signature by a trusted key; without --trusted-public-keys no key is trusted.
    """
    if cache is not None:
        if name is not None:
            raise click.UsageError("--name has no meaning with --from")
        if all_ == bool(paths):
            raise click.UsageError("give either store paths or --all")
        if trusted and no_check_signatures:
            raise click.UsageError("--trusted-public-keys and --no-check-signatures exclude each other")
        source = CacheSource(cache, None if no_check_signatures else parse_public_keys(" ".join(trusted)))
        if asyncio.run(import_from(stores, source, None if all_ else list(map(str, paths)))):
            click.get_current_context().exit(1)
        return
    if all_ or trusted or no_check_signatures:
        raise click.UsageError("--all, --trusted-public-keys and --no-check-signatures go with --from")
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
