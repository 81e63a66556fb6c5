"""``tvix-store import --from``: store paths of a binary cache, with all that they refer to."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click

from tvix_store.cli.logs import report
from tvix_store.cli.progress import ItemsProgress
from tvix_store.cli.stores import StoreOptions
from tvix_store.composition import Composition
from tvix_store.config import Kind, redacted
from tvix_store.errors import CorruptObject, InvalidObject, StoreError, Unavailable, Unsupported
from tvix_store.frontend import Services
from tvix_store.limits import BATCH_COUNT
from tvix_store.lookup import parse_location
from tvix_store.path_closure import references_first
from tvix_store.path_info import PathInfo, PathInfoService, PathMetadata
from tvix_store.registry import Registry
from tvix_store.resource import map_bounded
from tvix_store.signing import PublicKey
from tvix_store.store_config import EntryId, StoreConfig
from tvix_store.store_path import HASH_PART_LENGTH, StorePath
from tvix_store.trust import Untrusted

__all__ = ["CacheSource", "Plan", "Problem", "Wanted", "import_from", "survey", "take"]

_ENTRY = EntryId(Kind.PATH_INFO, "import --from")
"""The binary cache among the entries of the composition; begins the messages about it."""

_AT_ONCE = 16
"""Paths that are under way at the same time: some come in, others wait for what they refer to."""

_OF_ONE_PATH = (InvalidObject, CorruptObject)
"""Errors that concern nothing but the path they were met at."""


@dataclass(frozen=True, slots=True)
class CacheSource:
    """A binary cache, as named on the command line.

    Args:
        location: An http, https or file URL, or a folder.
        public_keys: Whose signatures count; empty: only content-addressed paths are taken. ``None``: all are.
    """

    location: str
    public_keys: Sequence[PublicKey] | None

    @property
    def url(self) -> str:
        """The location as a URL; a folder need not be there."""
        return self.location if "://" in self.location else Path(self.location).absolute().as_uri()

    def __str__(self) -> str:
        return redacted(self.location)

    @asynccontextmanager
    async def open(self, stores: StoreOptions) -> AsyncIterator[tuple[Services, PathInfoService]]:
        """The services of ``stores``, and the paths of the cache, whose contents go to these when they are got.

        Raises:
            ConfigError: The location is not of a cache that can be read.
            Unavailable: There is no store.
        """
        registry = Registry.load()
        settings = {
            "type": "nix",
            "base_url": self.url,
            "public_keys": None if self.public_keys is None else list(map(str, self.public_keys)),
            "spool_dir": tempfile.gettempdir(),  # nothing is spooled where nobody reads a NAR while it comes
        }
        added = StoreConfig.parse({_ENTRY.kind.value: {_ENTRY.name: settings}}, registry, "command line")
        config = stores.store_config(registry)
        entries = {kind: {**config.entries.get(kind, {}), **by_name} for kind, by_name in added.entries.items()}
        async with Composition(replace(config, entries=entries), registry) as composition:
            services = await stores.services(composition)
            cache = await composition.service(_ENTRY, entries[_ENTRY.kind][_ENTRY.name], None)
            assert isinstance(cache, PathInfoService)
            yield services, cache

    def list(self) -> list[str]:
        """The hash parts of all paths in the cache, sorted; files that are not named after one are passed over.

        Raises:
            InvalidObject: It is not a binary cache.
            Unsupported: It is not in a folder.
            Unavailable: The folder cannot be read.
        """
        parts = urlsplit(self.url)
        if parts.scheme != "file":
            raise Unsupported(f"{self}: --all is for a cache in a folder; no other says what it has")
        folder = Path(unquote(parts.path))
        try:
            if not (folder / "nix-cache-info").is_file():
                raise InvalidObject(f"{folder} is not a binary cache: it has no nix-cache-info")
            names = [file.stem for file in folder.iterdir() if file.suffix == ".narinfo"]
        except OSError as exc:
            raise Unavailable(f"{folder}: {exc.strerror}") from exc
        return sorted(name for name in names if len(name) == HASH_PART_LENGTH)


async def import_from(stores: StoreOptions, source: CacheSource, locations: Sequence[str] | None) -> int:
    """Take closures out of a binary cache, and print the paths that were stored.

    Args:
        stores: Where to.
        source: Where from.
        locations: Store paths, or hash parts of them; ``None`` for all there are.

    Returns:
        How many paths could not be taken; each was reported.
    """
    if locations is None:
        locations = await asyncio.to_thread(source.list)
    roots = [Wanted(*parse_location(location)[:2], f"{location}: no such path in {source}") for location in locations]
    untrusted = failed = 0
    async with source.open(stores) as (services, cache):
        plan = await survey(services, cache, roots)
        with ItemsProgress("importing", len(plan.missing) + len(plan.problems)) as progress:

            def done(outcome: PathInfo | Problem) -> None:
                nonlocal untrusted, failed
                progress.advance()
                with progress.paused():
                    if isinstance(outcome, PathInfo):
                        print(outcome.store_path.absolute())
                    else:
                        report(outcome.reason)
                        failed += 1
                        untrusted += outcome.is_untrusted

            for problem in plan.problems:
                done(problem)
            await take(services, cache, plan, done)
    if untrusted and not source.public_keys:
        hint = "--trusted-public-keys says whose signatures count, --no-check-signatures that none are needed"
        click.echo(f"not trusted: {untrusted}; {hint}", err=True)
    return failed


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a path cannot be taken.

    Args:
        reason: One line.
        is_untrusted: Whether it is that nobody who is trusted stands for it.
    """

    reason: str
    is_untrusted: bool = False

    @classmethod
    def of(cls, error: StoreError) -> Problem:
        """What an error means for the path it was met at."""
        return cls(str(error), isinstance(error, Untrusted))


@dataclass(frozen=True, slots=True)
class Wanted:
    """A path that is looked for.

    Args:
        digest: Of the path.
        name: Its name; ``None`` if only the hash part is known.
        complaint: What to say if it is not there.
    """

    digest: bytes
    name: str | None
    complaint: str


@dataclass(slots=True)
class Plan:
    """What there is to take, and what stands in the way.

    Args:
        missing: What the store lacks and the cache has, references first.
        present: What the store has.
        problems: Those known so far, each of a path that is in neither of them.
    """

    missing: list[PathMetadata] = field(default_factory=list)
    present: set[StorePath] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)


async def survey(services: Services, cache: PathInfoService, roots: Sequence[Wanted]) -> Plan:
    """Look for paths and all that they refer to, in the store and then in the cache; fetches no contents.

    What the store has is looked through as well: one that was filled path by path may lack what its paths refer to.

    Raises:
        InvalidObject: Paths refer to each other in a circle.
        Unavailable: The cache or the store cannot be asked.
    """
    plan = Plan()
    known: dict[StorePath, PathMetadata] = {}
    failed: set[bytes] = set()
    wanted = list({(root.digest, root.name): root for root in roots}.values())
    while wanted:
        found: list[PathMetadata] = []
        for start in range(0, len(wanted), BATCH_COUNT):
            batch = wanted[start : start + BATCH_COUNT]
            for want, answer in zip(batch, await _look_up(services, cache, batch), strict=True):
                if isinstance(answer, PathMetadata) and want.name in (None, answer.store_path.name):
                    found.append(answer)
                    continue
                failed.add(want.digest)
                plan.problems.append(Problem.of(answer) if isinstance(answer, StoreError) else Problem(want.complaint))
        known.update((metadata.store_path, metadata) for metadata in found)
        wanted = [
            Wanted(path.digest, path.name, f"{referrer} refers to {path}, which neither the store nor the cache has")
            for path, referrer in _references(found)
            if path not in known and path.digest not in failed
        ]
    plan.present = {path for path, metadata in known.items() if isinstance(metadata, PathInfo)}
    ordered = references_first(known.values())
    plan.missing = [metadata for metadata in ordered if metadata.store_path not in plan.present]
    return plan


def _references(found: Sequence[PathMetadata]) -> Iterable[tuple[StorePath, StorePath]]:
    """What they refer to, each once, with one that refers to it."""
    return {reference: metadata.store_path for metadata in found for reference in metadata.references}.items()


async def _look_up(
    services: Services, cache: PathInfoService, batch: Sequence[Wanted]
) -> list[PathMetadata | StoreError | None]:
    """For each a path info if the store has it, else what the cache says of it, or why that is no good."""

    async def ask(index: int) -> PathMetadata | StoreError | None:
        try:
            return await cache.get_metadata(batch[index].digest)
        except _OF_ONE_PATH as exc:
            return exc

    answers: list[PathMetadata | StoreError | None] = []
    answers += await services.path_infos.get_many([want.digest for want in batch])
    lacking = [index for index, answer in enumerate(answers) if answer is None]
    for index, answer in zip(lacking, await map_bounded(ask, lacking, _AT_ONCE), strict=True):
        answers[index] = answer
    return answers


async def take(
    services: Services, cache: PathInfoService, plan: Plan, done: Callable[[PathInfo | Problem], None]
) -> None:
    """Take what is missing. A path info is put once its contents are stored, and the path infos of what it refers to.

    A path that is not what the cache says of it keeps none but those that refer to it from being taken.

    Args:
        services: The store.
        cache: The binary cache, which stores contents there when it is asked for a path info.
        plan: What to take.
        done: Told of each path what was stored, or why it was not.

    Raises:
        Unavailable: The cache or the store has failed. What was taken before stays.
    """
    is_there: dict[StorePath, asyncio.Future[bool]] = {
        metadata.store_path: asyncio.get_running_loop().create_future() for metadata in plan.missing
    }

    async def take_one(metadata: PathMetadata) -> None:
        outcome = await taken(metadata)
        done(outcome)
        is_there[metadata.store_path].set_result(isinstance(outcome, PathInfo))

    async def taken(metadata: PathMetadata) -> PathInfo | Problem:
        path = metadata.store_path
        # Those that may be waited for come earlier in the plan, so they are under way or done.
        references = [r for r in metadata.references if r != path and r not in plan.present]
        for reference in references:
            if reference not in is_there or (is_there[reference].done() and not is_there[reference].result()):
                return Problem(f"{path} is not stored, since {reference} is not, which it refers to")
        try:
            path_info = await cache.get(path.digest)
        except _OF_ONE_PATH as exc:
            return Problem.of(exc)
        if path_info is None or set(path_info.references) != set(metadata.references):
            return Problem(f"{path} has gone or has changed in the cache meanwhile")
        for reference in references:
            if not await is_there[reference]:
                return Problem(f"{path} is not stored, since {reference} is not, which it refers to")
        return await services.path_infos.put(path_info)

    await map_bounded(take_one, plan.missing, _AT_ONCE)
