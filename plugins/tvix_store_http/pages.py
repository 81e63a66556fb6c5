"""The pages that a browser shows, as HTML without scripts.

Names and targets are any bytes that whoever made the path chose; see ``markup`` for how they get into a page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from urllib.parse import urlencode

from tvix_store.hashes import HashAlgorithm, NixHash
from tvix_store.limits import KIB
from tvix_store.nodes import DirectoryNode, FileNode, Node, SymlinkNode
from tvix_store.path_info import PathMetadata
from tvix_store.store_path import StorePath
from tvix_store_http.catalog import Row
from tvix_store_http.markup import Html, html, joined, quoted, shown, shown_text

__all__ = [
    "STYLE",
    "STYLE_URL",
    "Extract",
    "Listing",
    "Place",
    "Slice",
    "contents_page",
    "directory_body",
    "file_body",
    "list_page",
    "location_page",
    "message_page",
    "path_page",
    "symlink_body",
]

STYLE = files(__package__).joinpath("static", "style.css").read_bytes()
STYLE_URL = f"static/style.css?{hashlib.sha256(STYLE).hexdigest()[:12]}"
"""Relative to the root; another one for each version, so that it can be cached for good."""


def _size(n_bytes: int) -> Html:
    """A size for people; the number of bytes shows when one points at it."""
    if n_bytes < KIB:
        return html("{n} B", n=n_bytes)
    size, units = float(n_bytes), ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    while (size := size / KIB) >= 1000 and len(units) > 1:
        units.pop(0)
    return html('<span title="{n} bytes">{size} {unit}</span>', n=f"{n_bytes:,}", size=f"{size:.3g}", unit=units[0])


@dataclass(frozen=True, slots=True)
class Slice:
    """Which part of a long list is shown.

    Args:
        number: Of this page, from 1.
        length: Entries on a full page.
        total: Entries on all pages.
    """

    number: int
    length: int
    total: int

    @classmethod
    def at(cls, wanted: str | None, length: int, total: int) -> Slice:
        """The page with the number a client gives; the first one if that is none, the last one if it is too large."""
        number = int(wanted) if wanted and wanted.isdecimal() and len(wanted) < 10 else 1
        return cls(max(1, min(number, -(-total // length))), length, total)

    @property
    def bounds(self) -> slice:
        """Of the entries on it."""
        return slice((self.number - 1) * self.length, min(self.number * self.length, self.total))

    def links(self, **query: str) -> Html:
        """What is shown, and links to the other pages."""
        last = max(1, -(-self.total // self.length))
        bounds = self.bounds
        text = html("{total} in all", total=f"{self.total:,}")
        if last > 1:
            text = html(
                "{first} &ndash; {end} of {total}",
                first=f"{bounds.start + 1:,}",
                end=f"{bounds.stop:,}",
                total=f"{self.total:,}",
            )
        links = []
        for label, number, usable in (
            ("First", 1, self.number > 1),
            ("Previous", self.number - 1, self.number > 1),
            ("Next", self.number + 1, self.number < last),
            ("Last", last, self.number < last),
        ):
            if last > 1 and usable:
                links.append(
                    html('<a href="?{query}">{label}</a>', query=urlencode({**query, "page": number}), label=label)
                )
            elif last > 1:
                links.append(html("<span>{label}</span>", label=label))
        return html('<nav class="pages"><strong>{text}</strong>{links}</nav>', text=text, links=joined(links))


@dataclass(frozen=True, slots=True)
class Place:
    """A page's place among the others.

    Args:
        root: The way to the list of paths, relative to the page, with a slash at its end.
        store_dir: Of all paths.
    """

    root: str
    store_dir: str

    def info(self, path: StorePath) -> str:
        """URL of the page about a path."""
        return f"{self.root}browse/{path.base_name}"

    def contents(self, path: StorePath, components: Sequence[bytes] = ()) -> str:
        """URL of the page that shows what is at a place in a path."""
        return f"{self.root}browse/{path.base_name}/{quoted(*components)}"

    def raw(self, path: StorePath, components: Sequence[bytes] = ()) -> str:
        """URL of the contents of a file."""
        return f"{self.root}raw/{path.base_name}/{quoted(*components)}"

    def page(self, title: str, body: Html, search: str = "") -> bytes:
        """A whole page."""
        return html(
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title}</title>\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
            '<link rel="stylesheet" href="{root}{style}">\n</head>\n<body>\n<header>\n'
            '<a class="home" href="{root}">{store_dir}</a>\n<form action="{root}" method="get" role="search">'
            '<input type="search" name="q" value="{search}" aria-label="Part of a name, or a store path" '
            'placeholder="Part of a name, or a store path" spellcheck="false" autocomplete="off">'
            "<button>Search</button></form>\n</header>\n<main>\n{body}\n</main>\n</body>\n</html>\n",
            title=title,
            root=self.root,
            style=STYLE_URL,
            store_dir=self.store_dir,
            search=search,
            body=body,
        ).encode("utf-8", "backslashreplace")


# --- the list of paths ----------------------------------------------------------------------------------------------


def list_page(place: Place, rows: Iterable[Row], shown_part: Slice, search: str, usage: Html) -> bytes:
    """The paths, or those that match.

    Args:
        place: Of the page.
        rows: The paths on it.
        shown_part: Which ones these are.
        search: What was searched for.
        usage: How to use the binary cache.
    """
    lines = [
        html(
            '<tr><td class="name"><a href="{url}">{name}</a> <span class="hash">{hash}</span></td>'
            '<td class="number">{size}</td><td class="number">{references}</td><td>{signed}</td></tr>\n',
            url=place.info(row.store_path),
            name=row.store_path.name,
            hash=row.store_path.hash_part,
            size=_size(row.nar_size),
            references=f"{row.n_references:,}",
            signed="yes" if row.is_signed else "no",
        )
        for row in rows
    ]
    table = html(
        '<table>\n<thead><tr><th>Name</th><th class="number">NAR size</th><th class="number">References</th>'
        "<th>Signed</th></tr></thead>\n<tbody>\n{lines}</tbody>\n</table>\n",
        lines=joined(lines),
    )
    links = shown_part.links(**({"q": search} if search else {}))
    heading = html("<h1>Paths with “{search}”</h1>\n", search=search) if search else html("<h1>Store paths</h1>\n")
    if not shown_part.total:
        table = html("<p>No path has that in its name.</p>\n") if search else html("<p>The store is empty.</p>\n")
        links = Html()
    below = links if len(lines) > 20 else Html()
    return place.page(
        f"{search} in {place.store_dir}" if search else place.store_dir,
        joined((heading, links, table, below, Html() if search else usage)),
        search,
    )


def location_page(place: Place, search: str, usage: Html) -> bytes:
    """What is in place of the list where there can be none."""
    problem = html('<p class="problem">“{search}” is neither a store path nor a hash.</p>\n', search=search)
    return place.page(
        place.store_dir,
        html(
            "<h1>Binary cache</h1>\n{problem}<p>This store cannot list what it holds. Enter a store path, or the 32 "
            "characters of its hash, to see what there is under it.</p>\n"
            '<form action="{root}" method="get"><input type="search" name="q" value="{search}" '
            'aria-label="Store path or hash" placeholder="{store_dir}/…" spellcheck="false" autocomplete="off">'
            "<button>Show</button></form>\n{usage}",
            problem=problem if search else Html(),
            root=place.root,
            search=search,
            store_dir=place.store_dir,
            usage=usage,
        ),
    )


def message_page(place: Place, title: str, message: str) -> bytes:
    """A page that says one thing, an error for instance."""
    return place.page(title, html("<h1>{title}</h1>\n<p>{message}</p>", title=title, message=message))


# --- one path -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Listing:
    """A part of a directory.

    Args:
        entries: Names, nodes, and for a symlink into the store the URL of what it points to.
        part: Which entries these are.
    """

    entries: Sequence[tuple[bytes, Node, str | None]]
    part: Slice


def path_page(
    place: Place,
    metadata: PathMetadata,
    *,
    nar_url: str,
    referrers: Sequence[StorePath],
    more_referrers: int,
    no_referrers: str,
    contents: Html,
) -> bytes:
    """What is known of a path.

    Args:
        place: Of the page.
        metadata: What is known.
        nar_url: Of its NAR, relative to the root.
        referrers: The paths that refer to it, or some of them.
        more_referrers: How many there are besides.
        no_referrers: Why they cannot be known; empty if they can.
        contents: The root of its contents.
    """
    path = metadata.store_path
    nar_hash = NixHash(HashAlgorithm.SHA256, metadata.nar_sha256)
    facts = [
        ("Store path", html("<code>{path}</code>", path=path.absolute(place.store_dir))),
        ("NAR size", html("{size}, {n} bytes", size=_size(metadata.nar_size), n=f"{metadata.nar_size:,}")),
        ("NAR hash", html("<code>{nix}</code><br><code>{sri}</code>", nix=nar_hash.nix(), sri=nar_hash.sri())),
        ("Deriver", html("<code>{drv}.drv</code>", drv=metadata.deriver.base_name) if metadata.deriver else None),
        ("Content address", html("<code>{ca}</code>", ca=metadata.ca) if metadata.ca else None),
        ("Signatures", joined(html("<div><code>{s}</code></div>", s=s) for s in metadata.signatures) or None),
        (
            "Download",
            html(
                '<a href="{root}{nar}" download="{name}.nar" rel="nofollow">NAR</a> · '
                '<a href="{root}{hash}.narinfo">narinfo</a> · <a href="{root}{hash}.ls">listing</a>',
                root=place.root,
                nar=nar_url,
                name=path.name,
                hash=path.hash_part,
            ),
        ),
    ]
    lines = joined(
        html("<dt>{label}</dt><dd>{value}</dd>\n", label=label, value=value or html('<span class="none">none</span>'))
        for label, value in facts
    )
    sections = [
        html("<h1>{name}</h1>\n<dl>\n{lines}</dl>\n", name=path.name, lines=lines),
        html("<h2>Contents</h2>\n{contents}", contents=contents),
        _paths(place, "References", path, metadata.references, 0),
    ]
    if no_referrers:
        sections.append(html('<h2>Referrers</h2>\n<p class="none">{reason}</p>\n', reason=no_referrers))
    else:
        sections.append(_paths(place, "Referrers", path, referrers, more_referrers))
    return place.page(path.name, joined(sections))


def _paths(place: Place, title: str, own: StorePath, paths: Sequence[StorePath], more: int) -> Html:
    items = joined(
        html(
            '<li><a href="{url}">{name}</a> <span class="hash">{hash}</span>{itself}</li>\n',
            url=place.info(path),
            name=path.name,
            hash=path.hash_part,
            itself=" (itself)" if path == own else "",
        )
        for path in paths
    )
    if more:
        items = joined((items, html("<li>and {more} more</li>\n", more=f"{more:,}")))
    body = html('<ul class="paths">\n{items}</ul>\n', items=items) if items else html('<p class="none">none</p>\n')
    return html("<h2>{title} <small>{n}</small></h2>\n{body}", title=title, n=f"{len(paths) + more:,}", body=body)


# --- what is in a path ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Extract:
    """The start of a file.

    Args:
        text: What it says; ``None`` if it is no text.
        n_bytes: How many bytes of the file that are.
    """

    text: str | None
    n_bytes: int


def contents_page(place: Place, path: StorePath, components: Sequence[bytes], body: Html) -> bytes:
    """What is at a place in a path, below the way to there."""
    steps = [html('<a href="{url}">{name}</a>', url=place.info(path), name=path.base_name)]
    for depth, component in enumerate(components[:-1], start=1):
        url = place.contents(path, components[:depth])
        steps.append(html('<a href="{url}">{name}</a>', url=url, name=shown(component)))
    steps += [shown(component) for component in components[-1:]]
    way = html('<span class="slash">/</span>').join(steps)
    title = (components[-1] if components else path.name.encode()).decode("utf-8", "replace")
    return place.page(
        "".join(character if character.isprintable() else "\ufffd" for character in title),
        html('<h1 class="way">{way}</h1>\n{body}', way=Html(way), body=body),
    )


def directory_body(
    place: Place, path: StorePath, components: Sequence[bytes], listing: Listing, *, whole_elsewhere: bool = False
) -> Html:
    """A directory as a table.

    Args:
        place: Of the page.
        path: What the directory is in.
        components: Where in it.
        listing: What is shown of it.
        whole_elsewhere: The page is not the one of the directory, which is linked if there are more entries.
    """
    lines: list[Html] = []
    for name, node, leads_to in listing.entries:
        url = place.contents(path, (*components, name))
        size, kind, after = Html(), "directory", Html()
        match node:
            case FileNode():
                size, kind = _size(node.size), "executable" if node.executable else "file"
                raw = place.raw(path, (*components, name))
                after = html('<a class="get" href="{raw}?download" download>download</a>', raw=raw)
            case SymlinkNode():
                kind, after = "symlink", html("→ {target}", target=_target(node, leads_to))
        lines.append(
            html(
                '<tr><td class="kind">{kind}</td><td class="number">{size}</td>'
                '<td class="name"><a href="{url}">{name}</a>{slash} {after}</td></tr>\n',
                kind=kind,
                size=size,
                url=url,
                name=shown(name),
                slash="/" if isinstance(node, DirectoryNode) else "",
                after=after,
            )
        )
    if not lines:
        return html('<p class="none">An empty directory.</p>\n')
    table = html(
        '<table>\n<thead><tr><th>Type</th><th class="number">Size</th><th>Name</th></tr></thead>\n'
        "<tbody>\n{lines}</tbody>\n</table>\n",
        lines=joined(lines),
    )
    if not whole_elsewhere:
        links = listing.part.links()
        return joined((links, table, links if len(lines) > 20 else Html()))
    if listing.part.total == len(lines):
        return table
    url, total = place.contents(path, components), f"{listing.part.total:,}"
    return joined((table, html('<p><a href="{url}">All {total} entries</a></p>\n', url=url, total=total)))


def file_body(place: Place, path: StorePath, components: Sequence[bytes], node: FileNode, extract: Extract) -> Html:
    """A file: what it is, where to get it, and its text if it has any."""
    raw = place.raw(path, components)
    head = html(
        '<p class="file">{kind}, {size} · <a href="{raw}?download" download>Download</a> · <a href="{raw}">Raw</a><br>'
        "<code>{digest}</code></p>\n",
        kind="Executable file" if node.executable else "File",
        size=_size(node.size),
        raw=raw,
        digest=node.digest,
    )
    if extract.text is None:
        return joined((head, html('<p class="none">This is no text.</p>\n')))
    # A line break right after the tag would be taken for a part of it.
    text = html('<pre tabindex="0">\n{text}</pre>\n', text=shown_text(extract.text))
    if extract.n_bytes >= node.size:
        return joined((head, text if node.size else html('<p class="none">An empty file.</p>\n')))
    return joined((head, text, html("<p>This is the first {size} of it.</p>\n", size=_size(extract.n_bytes))))


def symlink_body(node: SymlinkNode, leads_to: str | None) -> Html:
    """A symlink and where it leads to, linked if that is in the store."""
    return html('<p class="file">Symbolic link to {target}</p>\n', target=_target(node, leads_to))


def _target(node: SymlinkNode, leads_to: str | None) -> Html:
    if leads_to is None:
        return shown(node.target)
    return html('<a href="{url}">{target}</a>', url=leads_to, target=shown(node.target))
