"""What a command does not need is not imported."""

from __future__ import annotations

import subprocess
import sys


def test_a_command_imports_no_other() -> None:
    script = (
        "import sys; from tvix_store.cli.main import cli; "
        "cli.main(['key', '--help'], standalone_mode=False); "
        "print(*sorted(name for name in sys.modules if name.startswith('tvix_store.cli.')))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    imported = out.splitlines()[-1].split()
    assert "tvix_store.cli.key" in imported
    assert {"tvix_store.cli.run", "tvix_store.cli.import_", "tvix_store.cli.copy"}.isdisjoint(imported)
