"""A combinator that fails on purpose, to see what becomes of what is around it."""
