"""Messages of the schemas in protos/tvix/castore/protos."""
