"""The ``fuse`` type: the frontend that shows a store as a filesystem."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Literal

from pydantic import Field

from tvix_store.config import Context, FrontendConfig
from tvix_store.errors import ConfigError
from tvix_store.frontend import Frontend
from tvix_store.hookspecs import hookimpl
from tvix_store.limits import MIB

__all__ = ["FuseFrontendConfig"]

_MISSING = (
    "the type \"fuse\" needs pyfuse3: pip install 'tvix-store[fuse]' "
    "(which needs the packages libfuse3-dev, pkg-config and a C compiler)"
)

_LAST_ID = 2**32 - 2  # the one after it stands for no user


class FuseFrontendConfig(FrontendConfig):
    """Shows the store as a read-only filesystem."""

    one_per_process = "one process can hold one mount"  # pyfuse3's session is a global

    type: Literal["fuse"]
    mount_point: str = Field(min_length=1, description="The directory to show it at, which has to exist.")
    allow_other: bool = Field(
        default=False,
        description="Let other users use the mount; one who is not root needs user_allow_other in /etc/fuse.conf.",
    )
    list_root: bool = Field(
        default=False, description="Show the store paths in the mount point; else each is found by its name."
    )
    show_xattr: bool = Field(
        default=True, description="Show digests, and what is known of a store path, as extended attributes."
    )
    uid: int = Field(default=0, ge=0, le=_LAST_ID, description="Owner of all files.")
    gid: int = Field(default=0, ge=0, le=_LAST_ID, description="Group of all files.")
    negative_s: float = Field(
        default=1.0,
        ge=0,
        allow_inf_nan=False,
        description="How long the kernel believes that a store path is absent.",
    )
    path_s: float = Field(
        default=60.0,
        gt=0,
        allow_inf_nan=False,
        description="How long it believes that a store path is there without asking again.",
    )
    timeout_s: float = Field(
        default=60.0,
        gt=0,
        allow_inf_nan=False,
        description="Longest wait for the store; then a read fails, or whatever needs it.",
    )
    cache_bytes: int = Field(
        default=64 * MIB, ge=8 * MIB, description="What is kept of files in memory, beside what the kernel keeps."
    )
    prefetch_bytes: int = Field(
        default=8 * MIB,
        ge=0,
        description="Small files that are fetched ahead of a reader and handed to the kernel; 0: none.",
    )
    busy_s: float = Field(
        default=60.0,
        ge=0,
        allow_inf_nan=False,
        description="How long after the first signal a mount in use is waited for before it is detached.",
    )

    async def build(self, name: str, context: Context) -> Frontend:
        try:
            import_module("pyfuse3")
        except ModuleNotFoundError as exc:
            raise ConfigError(_MISSING) from exc
        except ImportError as exc:  # it is there, and what it was built with has gone
            raise ConfigError(f"{_MISSING}; the one that is installed: {exc}") from exc
        from tvix_store_fuse.frontend import FuseFrontend, FuseOptions

        options = FuseOptions(
            mount_point=_absolute(self.mount_point),
            allow_other=self.allow_other,
            list_root=self.list_root,
            show_xattr=self.show_xattr,
            uid=self.uid,
            gid=self.gid,
            negative_s=self.negative_s,
            path_s=self.path_s,
            timeout_s=self.timeout_s,
            cache_bytes=self.cache_bytes,
            prefetch_bytes=self.prefetch_bytes,
            busy_s=self.busy_s,
        )
        return FuseFrontend(name, await context.services(), options)


def _absolute(path: str) -> Path:
    """A path that is not is taken relative to the working directory, as it is now."""
    return Path(path).absolute()


@hookimpl
def tvix_store_frontends() -> Sequence[type[FrontendConfig]]:
    """The filesystem."""
    return [FuseFrontendConfig]
