"""Messages of the schemas in protos/tvix/store."""
