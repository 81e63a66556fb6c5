"""Combinators that make one service of several: the first that has it, copies in each, a part in each."""
