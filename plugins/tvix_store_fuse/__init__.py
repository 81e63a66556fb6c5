"""The store as a filesystem."""
