"""A combinator that keeps near what it took from far."""
