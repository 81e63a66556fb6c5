"""``python -m tvix_store``: the program, for when it starts itself."""

from __future__ import annotations

from tvix_store.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
