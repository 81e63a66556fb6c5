"""Messages of the schemas in protos/tvix_store/explain."""
