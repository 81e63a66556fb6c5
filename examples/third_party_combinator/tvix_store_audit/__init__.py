"""Who put and deleted what in tvix-store, as an example of a combinator by a third party."""
