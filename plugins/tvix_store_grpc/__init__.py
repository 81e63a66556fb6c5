"""Both ends of one protocol: a daemon that serves a store over gRPC, and services that live in such a daemon."""
