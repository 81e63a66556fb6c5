"""``tvix-store plugins new``: the beginning of a package that adds a type of one's own."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import click

from tvix_store.config import Kind
from tvix_store.errors import StoreError
from tvix_store.registry import Registry
from tvix_store.scaffold import KINDS, package_files, package_name

__all__ = ["new", "write_package"]


@click.command(short_help="Write the beginning of a plugin's package.")
@click.argument("name")
@click.argument("folder", metavar="[DIR]", type=click.Path(path_type=Path), required=False)
@click.option(
    "--kind", type=click.Choice(list(KINDS)), default="backend", show_default=True, help="What the package is to add."
)
def new(name: str, folder: Path | None, kind: str) -> None:
    """Write a package that adds the type NAME, into DIR or else ./tvix-store-NAME.

    It works as it is: its tests are the suites that every service has to pass. A folder with something in it is
    not written to.
    """
    folder = folder or Path(f"tvix-store-{name}")
    for path in write_package(kind, name, folder, Registry.load()):
        print(path)
    print(f"\nNext: cd {folder}, pip install -e '.[test]', pytest, tvix-store plugins")


def write_package(kind: str, name: str, folder: Path, registry: Registry) -> list[Path]:
    """Write a package.

    Args:
        kind: One of ``scaffold.KINDS``.
        name: The tag of the type that it adds.
        folder: Where to; must be empty or not be there.
        registry: The types that are installed.

    Returns:
        The files.

    Raises:
        ConfigError: The name does not do.
        StoreError: The type or the package is there already, or the folder is not empty, or cannot be written to.
    """
    texts = package_files(kind, name)
    kinds = [Kind.FRONTEND] if kind == "frontend" else [Kind.BLOB, Kind.DIRECTORY, Kind.PATH_INFO]
    for found in kinds:
        if name in registry.tags(found):
            raise StoreError(f"there is a {found.label} of the type {name!r} already: see tvix-store plugins")
    if find_spec(package_name(name)) is not None:
        raise StoreError(f"there is a package {package_name(name)} already, which this one would hide")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise StoreError(f"{folder} is not empty, and is not written to")
        paths = []
        for place, text in texts.items():
            path = folder / place
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
            paths.append(path)
    except OSError as exc:
        raise StoreError(f"{exc.filename or folder}: {exc.strerror}") from exc
    return paths
