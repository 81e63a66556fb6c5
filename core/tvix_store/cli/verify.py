"""``tvix-store verify``: read everything, say what is wrong, and repair it from another store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass

import click

from tvix_store.blob import BlobService
from tvix_store.cli.logs import report
from tvix_store.cli.progress import CheckProgress
from tvix_store.cli.stores import StoreOptions, store_options
from tvix_store.completeness import missing_contents
from tvix_store.composition import BuiltEntry, Composition
from tvix_store.digest import B3Digest
from tvix_store.directory import DirectoryService
from tvix_store.errors import StoreError, Unsupported
from tvix_store.frontend import Services
from tvix_store.limits import BATCH_COUNT
from tvix_store.path_info import PathInfo, PathInfoService
from tvix_store.registry import Registry
from tvix_store.repair import fetch_blob, fetch_directory
from tvix_store.replicated import ReplicatedService
from tvix_store.resource import map_bounded
from tvix_store.store_config import SERVICE_KINDS, EntryId, StoreConfig
from tvix_store.verification import Damage

__all__ = ["verify"]

_ABSENT = "the other store does not have it"


@click.command(short_help="Read everything in the stores, and say what is wrong.")
@click.option("--repair-from", metavar="URL", help="Get what is damaged or missing from this store.")
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON, at the end.")
@store_options(default="the store that `run` keeps", has_state_dir=True)
def verify(stores: StoreOptions, repair_from: str | None, as_json: bool) -> None:
    """Check every object of every store against its digest, then that all is there that path infos refer to.

    Replicas are compared as well, and get what they lack from each other.

    Prints a line for each damage. What is damaged is forgotten, so that storing it once more heals it; with
    --repair-from that is done at once. The exit status is 1 if something is wrong and not repaired, or could not be
    read. The stores are opened beside a daemon that may have them open.
    """
    findings = asyncio.run(_verify(stores, repair_from, as_json))
    if as_json:
        print(json.dumps([finding.document() for finding in findings.damages], indent=2))
    repaired = sum(finding.repaired for finding in findings.damages)
    unread = "; not everything could be read" if findings.failed else ""
    click.echo(f"{len(findings.damages)} damaged or missing, {repaired} repaired{unread}", err=True)
    if findings.failed or repaired < len(findings.damages):
        click.get_current_context().exit(1)


@dataclass(slots=True)
class _Finding:
    """Something wrong in a store.

    Args:
        entry: Where; ``store`` for what only shows in all of them together.
        damage: What.
        lost: Kind and digest of what is to be had from elsewhere; ``None`` if the damage has no digest.
        repaired: Whether it was had.
        problem: Why not, if that was tried.
    """

    entry: str
    damage: Damage
    lost: tuple[str, str] | None
    repaired: bool = False
    problem: str | None = None

    def document(self) -> dict[str, object]:
        return {"entry": self.entry, **asdict(self.damage), "repaired": self.repaired, "problem": self.problem}


async def _verify(stores: StoreOptions, repair_from: str | None, as_json: bool) -> _Verification:
    async with AsyncExitStack() as stack:
        composition = await stack.enter_async_context(stores.open_composition())
        source: Services | None = None
        if repair_from is not None:
            registry = Registry.load()
            config = StoreConfig.from_urls(repair_from, repair_from, repair_from, registry, "--repair-from")
            source = await (await stack.enter_async_context(Composition(config, registry))).services()
        services = await composition.services()
        verification = _Verification(services, source, stack.enter_context(CheckProgress()), quiet=as_json)
        entries = await composition.entries()
        for entry in entries:
            if not entry.is_made_of_others:  # those are verified by themselves
                await verification.check_entry(entry)
        for kind in SERVICE_KINDS:  # path infos last: what they refer to has to be there before
            for entry in entries:
                if entry.entry_id.kind is kind and isinstance(entry.service, ReplicatedService):
                    await verification.resync(entry.entry_id, entry.service)
        await verification.check_completeness()
        await verification.repair_path_infos()
        return verification


class _Verification:
    """Goes through the stores and keeps what it finds.

    Args:
        services: The roots.
        source: Where to get what is lost; ``None`` to leave it at that.
        progress: Is told how far it is.
        quiet: Whether findings are kept only, not printed.
    """

    def __init__(self, services: Services, source: Services | None, progress: CheckProgress, *, quiet: bool) -> None:
        self.damages: list[_Finding] = []
        self.failed = False
        self._services = services
        self._source = source
        self._progress = progress
        self._quiet = quiet
        self._lost_path_infos: list[tuple[_Finding, PathInfoService]] = []

    async def check_entry(self, entry: BuiltEntry) -> None:
        """Verify one store, then repair what is wrong in it; path infos come later."""
        service = entry.service
        self._progress.start(f"verifying {entry.entry_id}", in_bytes=isinstance(service, BlobService))
        found: list[_Finding] = []
        try:
            async for damage in service.verify(self._progress.update):
                lost = None if damage.digest is None else (damage.kind, damage.digest)
                found.append(self._found(_Finding(str(entry.entry_id), damage, lost)))
        except Unsupported as exc:
            with self._progress.paused():
                click.echo(f"{entry.entry_id}: not verified: {exc}", err=True)
        except StoreError as exc:
            self._fail(f"{entry.entry_id}: {exc}")
        if isinstance(service, PathInfoService):
            self._lost_path_infos += [(finding, service) for finding in found]
            return
        await self._repair([finding for finding in found if finding.damage.kind != "chunk"], service)
        await self._repair([finding for finding in found if finding.damage.kind == "chunk"], service)
        await service.sync()

    async def resync(self, entry_id: EntryId, service: ReplicatedService) -> None:
        """Put what replicas lack into them; that is no damage, since it was there in others."""
        self._progress.start(f"comparing the replicas of {entry_id}", in_bytes=False)
        try:
            put = await service.resync(self._progress.update)
        except Unsupported as exc:
            with self._progress.paused():
                click.echo(f"{entry_id}: replicas not compared: {exc}", err=True)
        except StoreError as exc:
            self._fail(f"{entry_id}: {exc}")
        else:
            for name, count in put.items():
                with self._progress.paused():
                    click.echo(f"{entry_id}: {name} lacked {count} objects, which it has now", err=True)

    async def check_completeness(self) -> None:
        """Look for what the path infos of the store refer to."""
        self._progress.start("checking that nothing is missing", in_bytes=False)
        try:
            await self._complete(self._services.path_infos.list())
        except Unsupported as exc:
            with self._progress.paused():
                click.echo(f"not checked that nothing is missing: {exc}", err=True)
        except StoreError as exc:
            self._fail(f"not checked that nothing is missing: {exc}")

    async def _complete(self, path_infos: AsyncIterator[PathInfo]) -> bool:
        """Find what is missing and repair that; whether nothing is missing any more."""
        found: list[_Finding] = []
        blobs: list[_Finding] = []  # not repaired yet; directories have to be, for what they refer to to be found
        async for missing in missing_contents(self._services, path_infos, self._progress.update):
            found.append(self._found(_Finding("store", missing.damage(), (missing.kind, str(missing.digest)))))
            if missing.kind == "directory":
                await self._repair(found[-1:], self._services.directories)
            else:
                blobs.append(found[-1])
            if len(blobs) == BATCH_COUNT:
                await self._repair(blobs, self._services.blobs)
                blobs = []
        await self._repair(blobs, self._services.blobs)
        await self._services.directories.sync()
        await self._services.blobs.sync()
        return all(finding.repaired for finding in found)

    async def repair_path_infos(self) -> None:
        """Get lost path infos, each after what it refers to."""
        if (source := self._source) is None:
            return
        for finding, service in self._lost_path_infos:
            if finding.lost is None:
                continue
            try:
                path_info = await source.path_infos.get(bytes.fromhex(finding.lost[1]))
                if path_info is None:
                    self._settle(finding, _ABSENT)
                elif not await self._complete(_only(path_info)):
                    self._settle(finding, "what it refers to cannot be had")
                else:
                    await service.put(path_info)
                    self._settle(finding, None)
            except StoreError as exc:
                self._settle(finding, str(exc))

    async def _repair(self, findings: Sequence[_Finding], target: BlobService | DirectoryService) -> None:
        """Get from the other store, if there is one, what ``target`` has lost."""
        if (source := self._source) is None:
            return

        async def repair(finding: _Finding) -> None:
            if finding.lost is None:
                return
            kind, text = finding.lost
            try:
                digest = B3Digest.parse(text)
                if isinstance(target, DirectoryService):
                    had = await fetch_directory(digest, source.directories, target)
                else:  # a chunk may have come with a blob
                    had = (kind == "chunk" and await target.has(digest)) or await fetch_blob(
                        digest, source.blobs, target
                    )
            except StoreError as exc:
                self._settle(finding, str(exc))
            else:
                self._settle(finding, None if had else _ABSENT)

        await map_bounded(repair, findings)

    def _found(self, finding: _Finding) -> _Finding:
        self.damages.append(finding)
        self._print(f"{finding.entry}: {finding.damage}")
        return finding

    def _settle(self, finding: _Finding, problem: str | None) -> None:
        assert finding.lost is not None
        finding.repaired, finding.problem = problem is None, problem
        kind, digest = finding.lost
        self._print(f"repaired: {kind} {digest}" if problem is None else f"not repaired: {kind} {digest}: {problem}")

    def _print(self, line: str) -> None:
        if not self._quiet:
            with self._progress.paused():
                print(line)

    def _fail(self, message: str) -> None:
        self.failed = True
        with self._progress.paused():
            report(message)


async def _only(path_info: PathInfo) -> AsyncIterator[PathInfo]:
    yield path_info
