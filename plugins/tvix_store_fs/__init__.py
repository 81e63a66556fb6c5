"""Blobs in append-only packs with an index beside them."""
