"""``tvix-store copy``: store paths with their metadata, from this machine's Nix store."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import click

from tvix_store.cli.progress import ItemsProgress
from tvix_store.cli.stores import StoreOptions, store_options
from tvix_store.content_address import ContentAddress
from tvix_store.errors import InvalidObject, Unavailable
from tvix_store.frontend import Services
from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.ingest import ingest_path
from tvix_store.limits import BATCH_COUNT
from tvix_store.path_closure import references_first
from tvix_store.path_info import PathInfo, PathMetadata, Signature
from tvix_store.store_path import STORE_DIR, StorePath

__all__ = ["copy", "copy_closure", "parse_reference_graph"]


@click.command(short_help="Copy store paths listed in a reference graph from this machine.")
@click.argument("file", envvar="NIX_ATTRS_JSON_FILE")
@click.option("--store-dir", default=STORE_DIR, show_default=True, help="Where the paths lie on this machine.")
@store_options()
def copy(stores: StoreOptions, file: str, store_dir: str) -> None:
    """Copy the store paths that FILE lists, with their references, signatures and derivers.

    FILE is JSON (- for stdin): an object whose key `closure` has the list that exportReferencesGraph makes, or
    what `nix path-info --json --recursive` prints. Paths that are in the store are passed over. Each path is
    stored once what it refers to is, and only if size and hash of its contents are as FILE says.
    """
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except OSError as exc:
        raise Unavailable(f"{file}: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise InvalidObject(f"{file}: not JSON: {exc}") from exc
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise InvalidObject(f"{file}: not JSON: {exc}") from exc
    try:
        wanted = parse_reference_graph(document)
    except InvalidObject as exc:
        raise InvalidObject(f"{file}: {exc}") from exc
    asyncio.run(_copy(stores, wanted, Path(store_dir)))


async def _copy(stores: StoreOptions, wanted: Sequence[PathMetadata], store_dir: Path) -> None:
    async with stores.open() as services:
        with ItemsProgress("copying", len(wanted)) as progress:
            async with aclosing(copy_closure(services, wanted, store_dir)) as copied:
                async for _ in copied:
                    progress.advance()


async def copy_closure(services: Services, wanted: Sequence[PathMetadata], store_dir: Path) -> AsyncGenerator[PathInfo]:
    """Copy path after path, references first; yields each path info as it is found or stored.

    Args:
        services: Where to.
        wanted: What is known of them.
        store_dir: Where the paths lie in the file system.

    Raises:
        InvalidObject: Contents are not what their path info says. What was copied before stays.
    """
    ordered = references_first(wanted)
    for start in range(0, len(ordered), BATCH_COUNT):
        window = ordered[start : start + BATCH_COUNT]
        known = await services.path_infos.get_many([path_info.store_path.digest for path_info in window])
        for path_info, present in zip(window, known, strict=True):
            yield present or await _copy_path(services, path_info, store_dir)


async def _copy_path(services: Services, wanted: PathMetadata, store_dir: Path) -> PathInfo:
    path = store_dir / wanted.store_path.base_name
    ingested = await ingest_path(path, services.blobs, services.directories)
    if (ingested.nar.size, ingested.nar.sha256) != (wanted.nar_size, wanted.nar_sha256):
        expected, actual = (
            f"{NixHash(HashAlgorithm.SHA256, sha256).nix()} and {size} bytes"
            for size, sha256 in ((wanted.nar_size, wanted.nar_sha256), (ingested.nar.size, ingested.nar.sha256))
        )
        raise InvalidObject(f"{path}: the NAR has {actual}, the reference graph says {expected}")
    return await services.path_infos.put(PathInfo.of(wanted, ingested.node))


def parse_reference_graph(document: object) -> list[PathMetadata]:
    """The paths of a reference graph.

    Args:
        document: As a JSON parser gives it: an object with the list ``closure``, that list alone, or the object
            keyed by path that newer Nix prints.

    Raises:
        InvalidObject: A key is missing or wrong; names the entry.
    """
    if isinstance(document, dict) and "closure" in document:
        document = document["closure"]
    if isinstance(document, dict):
        document = [{"path": path, **entry} if isinstance(entry, dict) else entry for path, entry in document.items()]
    if not isinstance(document, list):
        raise InvalidObject("expected an object with the key 'closure', a list of store paths")
    return [_parse_entry(index, entry) for index, entry in enumerate(document)]


def _parse_entry(index: int, entry: object) -> PathMetadata:
    if not isinstance(entry, dict):
        raise InvalidObject(f"entry {index} is not an object")
    where = entry.get("path", f"entry {index}")
    try:
        references = sorted({StorePath.from_absolute(text) for text in _strings(entry, "references")})
        deriver = entry.get("deriver")
        ca = entry.get("ca")
        return PathMetadata(
            store_path=StorePath.from_absolute(_require(entry, "path", str)),
            nar_size=_require(entry, "narSize", int),
            nar_sha256=NixHash.parse(_require(entry, "narHash", str), HashAlgorithm.SHA256).digest,
            references=tuple(references),
            signatures=tuple(Signature.parse(text) for text in _strings(entry, "signatures", required=False)),
            deriver=_deriver(deriver) if isinstance(deriver, str) else None,
            ca=ContentAddress.parse(ca) if isinstance(ca, str) and ca else None,
        )
    except InvalidObject as exc:
        raise InvalidObject(f"{where}: {exc}") from exc


def _deriver(text: str) -> StorePath:
    """A path info has the deriver without the ``.drv`` of its name."""
    path = StorePath.from_absolute(text)
    return StorePath(path.digest, path.name.removesuffix(".drv"))


def _require(entry: dict[str, Any], key: str, type_: type) -> Any:
    value = entry.get(key)
    if not isinstance(value, type_) or isinstance(value, bool):
        raise InvalidObject(f"{key} is missing or not {'a string' if type_ is str else 'a number'}")
    return value


def _strings(entry: dict[str, Any], key: str, *, required: bool = True) -> Iterator[str]:
    values = entry.get(key) if required else entry.get(key) or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InvalidObject(f"{key} is missing or not a list of strings")
    yield from values
