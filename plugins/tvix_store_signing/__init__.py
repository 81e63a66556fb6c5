"""Path infos that are signed when they are stored."""
