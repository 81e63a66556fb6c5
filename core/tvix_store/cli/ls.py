"""``tvix-store ls``: what a store path holds, or which store paths there are."""

from __future__ import annotations

import asyncio
import os
import sys

import click

from tvix_store.cli.locate import locate
from tvix_store.cli.stores import StoreOptions, store_options
from tvix_store.errors import DanglingReference
from tvix_store.frontend import Services
from tvix_store.nar_render import Tree, load_tree
from tvix_store.nodes import Directory, DirectoryNode, FileNode, Node, SymlinkNode

__all__ = ["ls"]


@click.command(short_help="List store paths, or what is in one.")
@click.argument("location", required=False)
@click.option("-l", "--long", "long", is_flag=True, help="Show kind, size and symlink target.")
@click.option("-R", "--recursive", is_flag=True, help="List everything below.")
@store_options()
def ls(stores: StoreOptions, location: str | None, long: bool, recursive: bool) -> None:
    """List the directory at LOCATION, a store path with or without a path below it.

    Without LOCATION, list the store paths.
    """
    asyncio.run(_ls(stores, location, long, recursive))


async def _ls(stores: StoreOptions, location: str | None, long: bool, recursive: bool) -> None:
    async with stores.open() as services:
        if location is None:
            async for path_info in services.path_infos.list():
                size = f"{path_info.nar_size:>14}  " if long else ""
                print(f"{size}{path_info.store_path.absolute()}")
            return
        node = await locate(services, location)
        if not isinstance(node, DirectoryNode):
            _print(os.fsencode(location), node, long)
        elif recursive:
            _print_tree(await load_tree(node, services.directories), node, b"", long)
        else:
            for name, child in (await _directory(services, node)).items():
                _print(name, child, long)


async def _directory(services: Services, node: DirectoryNode) -> Directory:
    directory = await services.directories.get(node.digest)
    if directory is None:
        raise DanglingReference(f"directory {node.digest} does not exist")
    return directory


def _print_tree(tree: Tree, root: DirectoryNode, prefix: bytes, long: bool) -> None:
    stack = [(prefix, iter(tree.directories[root.digest].items()))]
    while stack:
        prefix, entries = stack[-1]
        for name, child in entries:
            _print(prefix + name, child, long)
            if isinstance(child, DirectoryNode):
                stack.append((prefix + name + b"/", iter(tree.directories[child.digest].items())))
                break
        else:
            stack.pop()


def _print(name: bytes, node: Node, long: bool) -> None:
    line = name
    if long:
        match node:
            case FileNode():
                line = b"%b %14d  %b" % (b"-r-x" if node.executable else b"-r--", node.size, name)
            case DirectoryNode():
                line = b"dr-x %14d  %b" % (node.size, name)
            case SymlinkNode():
                line = b"l--- %14d  %b -> %b" % (len(node.target), name, node.target)
    sys.stdout.buffer.write(line + b"\n")
