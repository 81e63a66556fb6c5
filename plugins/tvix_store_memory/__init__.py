"""Services that keep everything in memory and lose it when they end: for tests and caches."""
