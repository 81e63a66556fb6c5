"""What a plugin's package begins as: a folder of templates for each kind, and one for what all kinds have.

In the templates, ``{{name}}`` is the tag, ``{{Name}}`` the prefix of classes, ``{{package}}`` the Python package and
``{{summary}}`` a line on what it is. They are written so that no line gets too long, or short enough to be joined with
the next, whatever the name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.resources import files

from tvix_store.errors import ConfigError

__all__ = ["KINDS", "MAX_NAME_LENGTH", "package_files", "package_name"]

KINDS: Mapping[str, str] = {
    "backend": "Blobs, directories and path infos for tvix-store in plain files",
    "combinator": "A combinator for tvix-store",
    "frontend": "A frontend for tvix-store that says what is there",
}
"""What there are templates of, with the summaries of what they become."""

MAX_NAME_LENGTH = 28

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_TOP = {"pyproject.toml", "README.md", "store.toml", "gitignore"}
_SUFFIX = ".tmpl"


def package_files(kind: str, name: str) -> dict[str, str]:
    """The files of a package that adds a type.

    Args:
        kind: One of ``KINDS``.
        name: The tag of the type.

    Returns:
        Their texts, by their paths below the package's folder.

    Raises:
        ConfigError: The name cannot be a tag, a package and the beginning of a class.
    """
    if not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise ConfigError(
            f"{name[:80]!r} cannot be the name of a type: at most {MAX_NAME_LENGTH} lower-case letters and digits, "
            "a letter first, words joined by hyphens"
        )
    package = package_name(name)
    words = {
        "name": name,
        "Name": "".join(word.capitalize() for word in name.split("-")),
        "package": package,
        "summary": KINDS[kind],
    }
    written: dict[str, str] = {}
    for folder in ("package", kind):
        for template in files(__name__).joinpath(folder).iterdir():
            text = re.sub(r"\{\{(\w+)\}\}", lambda found: words[found[1]], template.read_text(encoding="utf-8"))
            written[_place(template.name.removesuffix(_SUFFIX), package)] = text
    return dict(sorted(written.items()))


def package_name(name: str) -> str:
    """The Python package that adds the type of this name."""
    return f"tvix_store_{name.replace('-', '_')}"


def _place(name: str, package: str) -> str:
    """Where a file goes."""
    if name == "gitignore":
        return ".gitignore"
    if name in _TOP:
        return name
    if name.startswith("test_"):
        return f"tests/{name.replace('NAME', package.removeprefix('tvix_store_'))}"
    return f"{package}/{name}"
