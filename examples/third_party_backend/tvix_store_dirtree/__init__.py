"""Blobs for tvix-store in plain files, as an example of a backend by a third party."""
