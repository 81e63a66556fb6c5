"""Services that keep everything in one SQLite database, or in several."""
