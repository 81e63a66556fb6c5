"""Combinators that take care with one service: what it may be asked, how often, for how long, and what it gives."""
