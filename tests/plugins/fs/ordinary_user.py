"""Opens a store as somebody without privileges: ``ordinary_user.py PATH``; says what goes wrong on one line."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from pathlib import Path

from tvix_store.digest import HashedBlob
from tvix_store.errors import StoreError
from tvix_store_fs.blob import FsBlobService
from tvix_store_fs.store import PackStore

NOBODY = 65534


async def use(path: str) -> None:
    async with FsBlobService("test", await PackStore.open("test", path)) as service:
        await service.put_many([HashedBlob(b"small")])


def main() -> None:
    with tempfile.TemporaryDirectory() as elsewhere:
        asyncio.run(use(elsewhere))  # everything is imported before the privileges go
    path = Path(sys.argv[1])
    if os.getuid() == 0:
        for above in path.parents[:-2]:
            above.chmod(above.stat().st_mode | 0o111)
        os.setuid(NOBODY)
    try:
        asyncio.run(use(str(path)))
    except StoreError as exc:
        print(f"{type(exc).__name__}: {exc}")


if __name__ == "__main__":
    main()
