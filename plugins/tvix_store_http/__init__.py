"""The Nix binary cache over HTTP."""
