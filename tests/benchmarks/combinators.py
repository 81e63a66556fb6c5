"""What combinators cost: import of a tree, and its NAR, through five that only pass calls on, against none.

The store is ``fs`` for blobs and ``sqlite`` for directories and path infos; each of the three has the same five
combinators before it. Nothing fails, so that nothing is repeated or held back. The page cache is warmed by the first
run, which is not counted.
"""

from __future__ import annotations

import asyncio
import time
import tomllib
from contextlib import aclosing
from pathlib import Path

from _harness import arguments, compare, scratch

from tvix_store.composition import Composition
from tvix_store.ingest import ingest_path
from tvix_store.nar_render import load_tree, render_nar
from tvix_store.nodes import Node
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig

COMBINATORS = ("observe", "retry", "timeout", "limit", "breaker")
SETTINGS = {"timeout": "seconds = 60.0", "limit": "concurrency = 1000"}


def document(directory: Path, combinators: tuple[str, ...]) -> str:
    """The configuration."""
    parts = []
    for kind in ("blob", "directory", "pathinfo"):
        names = [*(f"{tag}_{kind}" for tag in combinators), f"store_{kind}"]
        names[0] = "root"
        for tag, name, inner in zip(combinators, names, [*names[1:], ""], strict=False):
            parts.append(f'[{kind}services.{name}]\ntype = "{tag}"\ninner = "{inner}"\n{SETTINGS.get(tag, "")}\n')
        leaf = f'"fs"\npath = "{directory}/blobs"' if kind == "blob" else f'"sqlite"\npath = "{directory}/store.sqlite"'
        parts.append(f"[{kind}services.{names[-1]}]\ntype = {leaf}\n")
    return "\n".join(parts)


class Contestant:
    """A store with some combinators before it.

    Args:
        registry: Of the plugins.
        combinators: From the outermost on.
    """

    def __init__(self, registry: Registry, combinators: tuple[str, ...]) -> None:
        self._registry = registry
        self._combinators = combinators

    def _composition(self, directory: Path) -> Composition:
        config = StoreConfig.parse(
            tomllib.loads(document(directory, self._combinators)), self._registry, "the benchmark"
        )
        return Composition(config, self._registry)

    async def _import(self, directory: Path, tree: str) -> tuple[float, Node]:
        async with self._composition(directory) as composition:
            services = await composition.services()
            start = time.perf_counter()
            ingested = await ingest_path(Path(tree), services.blobs, services.directories)
            await services.blobs.sync()
            return time.perf_counter() - start, ingested.node

    async def _render(self, directory: Path, node: Node) -> float:
        async with self._composition(directory) as composition:
            services = await composition.services()
            start = time.perf_counter()
            tree = await load_tree(node, services.directories)
            n_bytes = 0
            async with aclosing(render_nar(tree, services.blobs)) as pieces:
                async for piece in pieces:
                    n_bytes += len(piece)
            assert n_bytes == tree.nar_size()
            return time.perf_counter() - start

    def fill(self, directory: Path, tree: str) -> Node:
        """Import into ``directory``; the root."""
        return asyncio.run(self._import(directory, tree))[1]

    def import_(self, tree: str) -> float:
        """Seconds of an import into an empty store."""
        with scratch() as directory:
            return asyncio.run(self._import(directory, tree))[0]

    def render(self, directory: Path, node: Node) -> float:
        """Seconds of a NAR out of a store that was filled in ``directory``."""
        return asyncio.run(self._render(directory, node))


def main() -> None:
    """Compare."""
    options = arguments(__doc__)
    registry = Registry.load()
    none, five = Contestant(registry, ()), Contestant(registry, COMBINATORS)
    print(f"import of {options.tree}; combinators: {', '.join(COMBINATORS)}")
    compare(
        {"none": lambda: none.import_(options.tree), "five": lambda: five.import_(options.tree)},
        options.runs,
    )
    with scratch() as directory:
        node = none.fill(directory, options.tree)
        print("its NAR")
        compare(
            {"none": lambda: none.render(directory, node), "five": lambda: five.render(directory, node)}, options.runs
        )


if __name__ == "__main__":
    main()
