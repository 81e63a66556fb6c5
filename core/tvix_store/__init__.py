"""A content-addressed store for Nix, built out of plugins."""
