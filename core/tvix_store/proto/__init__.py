"""Messages of the schemas in protos/; made by protos/generate.py."""
