"""What the handlers of one frontend share: the services, the settings, and what bounds the memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tvix_store.frontend import Services
from tvix_store.limits import MIB
from tvix_store.signing import PublicKey
from tvix_store.store_path import STORE_DIR
from tvix_store_http.catalog import Catalog
from tvix_store_http.metrics import RequestMetrics
from tvix_store_http.nar_copies import NarCopies
from tvix_store_http.nar_names import NarNames
from tvix_store_http.narinfo_cache import NarinfoCache
from tvix_store_http.trees import Trees

if TYPE_CHECKING:
    from tvix_store.budget import ByteBudget
    from tvix_store_http.credentials import Writes
    from tvix_store_http.state import State

__all__ = ["NarUrl", "Site", "SiteOptions"]

NarUrl = Literal["nar-hash", "snix-castore", "tvix-castore"]


@dataclass(frozen=True, slots=True)
class SiteOptions:
    """How the binary cache looks to clients; see the keys of the same names in the README.

    Args:
        store_dir: Of all paths in it.
        priority: Lower is asked first; cache.nixos.org has 40.
        want_mass_query: Whether clients may ask for many paths to see which there are.
        nar_url: What narinfos name their NARs by.
        encodings: Content codings that NARs are sent in to clients which accept them, the preferred one first.
        castore_nars: Serve NARs of any node that a client can name.
        metrics: Show those of the process.
        narinfo_cache_s: How long a narinfo is served from memory after it was looked up.
        nar_copies_bytes: How much of rendered NARs is kept on disk.
        nar_copies_dir: Where.
        nar_copies_after: How often a NAR is rendered without keeping it.
        allow_writes: Take uploads at all.
        allow_remote_writes: Take them without credentials where other machines can reach the address.
        credentials_file: Of ``USER:PASSWORD`` lines that allow uploads; ``None``: nobody has any.
        require_signatures: An uploaded path that is not content-addressed needs a signature by one of ``public_keys``.
        public_keys: See there.
        max_nar_bytes: Longest NAR that is taken, and longest body of one.
        max_document_bytes: Longest log, listing, realisation or debug information that is taken.
        max_uploads: NARs that are taken at once; further ones wait.
        upload_idle_s: An upload from which nothing comes for so long is given up.
        keep_uploads_s: How long an uploaded NAR is remembered that no narinfo has named.
    """

    store_dir: str = STORE_DIR
    priority: int = 39
    want_mass_query: bool = True
    nar_url: NarUrl = "nar-hash"
    encodings: tuple[str, ...] = ()
    castore_nars: bool = True
    metrics: bool = True
    narinfo_cache_s: float = 1.0
    nar_copies_bytes: int = 4096 * MIB
    nar_copies_dir: str = "/var/tmp"
    nar_copies_after: int = 1
    allow_writes: bool = True
    allow_remote_writes: bool = False
    credentials_file: Path | None = None
    require_signatures: bool = False
    public_keys: tuple[PublicKey, ...] = ()
    max_nar_bytes: int = 64 * 1024 * MIB
    max_document_bytes: int = 32 * MIB
    max_uploads: int = 64
    upload_idle_s: float = 60.0
    keep_uploads_s: float = 30 * 86400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One binary cache that is being served.

    Args:
        name: Of the frontend's entry, for messages.
        services: What is served.
        options: How it looks.
        budget: What all responses together may hold of contents that are not sent yet.
        state: What is kept besides: uploads that wait for their narinfo, documents. ``None``: no place was configured.
        writes: Who may upload; ``None``: nobody.
        nar_names: Which paths have which NARs.
        narinfos: What was looked up a moment ago.
        trees: Those of the NARs that are being sent.
        copies: NARs that were rendered; closed by whoever serves the site.
        catalog: Which paths there are; closed by whoever serves the site.
        metrics: Of the requests.
    """

    name: str
    services: Services
    options: SiteOptions
    budget: ByteBudget
    state: State | None = None
    writes: Writes | None = None
    nar_names: NarNames = field(default_factory=NarNames)
    narinfos: NarinfoCache = field(init=False)
    trees: Trees = field(init=False)
    copies: NarCopies = field(init=False)
    catalog: Catalog = field(init=False)
    metrics: RequestMetrics = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "narinfos", NarinfoCache(self.options.narinfo_cache_s))
        object.__setattr__(self, "trees", Trees(self.services.directories))
        options = self.options
        copies = NarCopies(options.nar_copies_dir, options.nar_copies_bytes, options.nar_copies_after)
        object.__setattr__(self, "copies", copies)
        object.__setattr__(self, "catalog", Catalog(self.services.path_infos))
        object.__setattr__(self, "metrics", RequestMetrics(self.name))
