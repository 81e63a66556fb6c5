"""Combinators that keep something near: contents taken from far, what was used last, answers to whether it is there."""
