"""Messages of the schemas in protos/snix/castore/protos."""
