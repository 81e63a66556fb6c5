"""Messages of the schemas in protos/snix/store/protos."""
