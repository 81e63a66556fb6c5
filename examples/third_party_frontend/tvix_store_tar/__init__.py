"""Store paths of tvix-store as tar archives over HTTP, as an example of a frontend by a third party."""
