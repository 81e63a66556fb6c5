"""A combinator that counts, times and traces what goes through it."""
