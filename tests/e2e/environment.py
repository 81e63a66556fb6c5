"""A new virtual environment for tests that install something."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["Environment", "fast_folder", "see_outer_packages"]


@contextmanager
def fast_folder() -> Iterator[Path]:
    """A folder in memory, if this machine has such: tests of what syncs its files spend their time with that."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        yield Path(folder)


def see_outer_packages(folder: Path) -> None:
    """Have the virtual environment in ``folder`` see the packages of this one, so that nothing is downloaded."""
    site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    outer = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    # A line of a .pth file alone would not read the .pth files there, such as that of an editable install.
    lines = "".join(f"import site; site.addsitedir({path!r})\n" for path in sorted(outer))
    (site_packages / "outer.pth").write_text(lines, encoding="utf-8")


class Environment:
    """A new virtual environment which sees the packages of this one."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False)
        self.python = folder / "bin" / "python"
        see_outer_packages(folder)

    def install(self, project: Path) -> None:
        """Install a package from its folder."""
        options = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check"]
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", *options, str(project)]
        result = subprocess.run(pip, capture_output=True, text=True, check=False)
        assert result.returncode == 0, result.stdout + result.stderr

    def run(self, *arguments: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run Python with these arguments, and these environment variables beside ours."""
        environment = {**os.environ, "COLUMNS": "250", **variables}
        command = [str(self.python), *arguments]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
