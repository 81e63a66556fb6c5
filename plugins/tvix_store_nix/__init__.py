"""Path infos of a Nix binary cache elsewhere, whose contents are fetched when they are asked for."""
