"""Path infos in one of several services, by their names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from tvix_store.capabilities import Capabilities
from tvix_store.path_info import PathInfo, PathInfoService
from tvix_store.resource import task_group
from tvix_store_spread.asking import Asking
from tvix_store_spread.capabilities import part_capabilities
from tvix_store_spread.path_info import SeveralPathInfoService

__all__ = ["PatternRoutePathInfoService"]


class PatternRoutePathInfoService(SeveralPathInfoService):
    """Path infos go to the service of the first pattern that their name matches. Who reads has only the digest, so
    all are asked in turn.

    Args:
        name: Of the entry.
        patterns: Services by pattern, as file names are matched, in their order; not closed with this.
        default: For the rest, asked last; not closed with this.
    """

    def __init__(self, name: str, patterns: Mapping[str, PathInfoService], default: PathInfoService) -> None:
        members: dict[str, PathInfoService] = {}
        for pattern, member in patterns.items():
            if member not in members.values() and member is not default:  # several may lead to one
                members[f"patterns.{pattern}"] = member
        members["default"] = default
        super().__init__(name, members, Asking([*members.values()], skips_errors=False))
        self.patterns = patterns
        self.default = default

    @property
    def capabilities(self) -> Capabilities:
        return part_capabilities([member.capabilities for member in self.members.values()])

    def target(self, name: str) -> PathInfoService:
        """Where a path with this name goes."""
        for pattern, member in self.patterns.items():
            if fnmatchcase(name, pattern):
                return member
        return self.default

    async def put(self, path_info: PathInfo) -> PathInfo:
        return await self.target(path_info.store_path.name).put(path_info)

    async def put_many(self, path_infos: Sequence[PathInfo]) -> Sequence[PathInfo]:
        """One batch for each service concerned, all at the same time."""
        targets = [self.target(path_info.store_path.name) for path_info in path_infos]
        answers: dict[int, PathInfo] = {}

        async def put(member: PathInfoService) -> None:
            places = [place for place, target in enumerate(targets) if target is member]
            stored = await member.put_many([path_infos[place] for place in places])
            answers.update(zip(places, stored, strict=True))

        async with task_group() as group:
            for member in self.members.values():
                if member in targets:
                    group.create_task(put(member))
        return [answers[place] for place in range(len(path_infos))]
