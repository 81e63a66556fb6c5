"""Whether a frontend can have several processes: what one of them puts, the others have to see."""

from __future__ import annotations

from tvix_store.config import EntryConfig, Kind, Reference
from tvix_store.errors import ConfigError
from tvix_store.listen_config import ListeningFrontendConfig
from tvix_store.registry import Registry
from tvix_store.store_config import SERVICE_KINDS, EntryId, StoreConfig

__all__ = ["check_workers", "frontends_with_workers"]


def frontends_with_workers(config: StoreConfig) -> dict[str, ListeningFrontendConfig]:
    """The frontends that more than one process serves, by name."""
    frontends = config.entries.get(Kind.FRONTEND, {})
    return {
        name: entry
        for name, entry in frontends.items()
        if isinstance(entry, ListeningFrontendConfig) and entry.workers > 1
    }


def check_workers(config: StoreConfig, registry: Registry) -> None:
    """Check that the processes of each frontend would work with the same stores.

    Args:
        config: Without circles, see ``StoreConfig.check``.
        registry: Where anonymous entries find their models.

    Raises:
        ConfigError: Each would have one of its own; names the frontend, the key and the entry.
    """
    for name in frontends_with_workers(config):
        for kind in SERVICE_KINDS:
            root = config.root(kind)
            found = _not_shared(config, registry, root, config.entries[kind][root.name])
            if found is not None:
                entry_id, entry = found
                raise ConfigError(
                    f"{config.source}: {EntryId(Kind.FRONTEND, name)}: workers: each would have {entry_id} "
                    f"({entry.type}) for itself; use one that processes can share, or workers = 1"
                )


def _not_shared(
    config: StoreConfig, registry: Registry, entry_id: EntryId, entry: EntryConfig
) -> tuple[EntryId, EntryConfig] | None:
    """The first of an entry and those below it that each process would have for itself; ``None`` if there is none."""
    if not entry.is_shared_between_processes:
        return entry_id, entry
    for reference in entry.references():
        if not _holds_copies(entry, reference):
            found = _not_shared(config, registry, *config.resolve(entry_id, reference, registry))
            if found is not None:
                return found
    return None


def _holds_copies(entry: EntryConfig, reference: Reference) -> bool:
    """Whether all that is put below ``reference`` is elsewhere, too: near is, where puts do not go there alone.

    An entry that does not say where puts go may have them anywhere.
    """
    return reference.key == "near" and getattr(entry, "write", "near") != "near"
