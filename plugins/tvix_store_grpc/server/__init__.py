"""The daemon's end: the three services, batches, health and reflection on one address."""
