"""Golden data; PROVENANCE.md says where each file comes from."""
