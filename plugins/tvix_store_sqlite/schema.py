"""The tables. README.md says what each of them is for."""

from __future__ import annotations

from tvix_store.limits import KIB
from tvix_store.sqlite.schema import Schema

__all__ = ["SCHEMA"]

_TABLES = """
CREATE TABLE content (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, data BLOB NOT NULL);
CREATE TABLE piece (digest BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE blob (id INTEGER PRIMARY KEY AUTOINCREMENT, digest BLOB UNIQUE, upload TEXT);
CREATE TABLE chunk (
    blob INTEGER NOT NULL, position INTEGER NOT NULL, digest BLOB NOT NULL, size INTEGER NOT NULL,
    PRIMARY KEY (blob, position)
) WITHOUT ROWID;
CREATE INDEX chunk_digest ON chunk (digest);
CREATE TABLE directory (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, data BLOB NOT NULL);
CREATE TABLE path_info (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, data BLOB NOT NULL);
"""

SCHEMA = Schema(
    application_id=int.from_bytes(b"TVXS"),
    version=1,
    tables=_TABLES,
    page_bytes=8 * KIB,
    what="tvix-store database",
)
