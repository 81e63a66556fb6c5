"""Service addresses and whether they are accepted; spec/vectors-castore.md section 12, spec/composition.md section 4.2.

Those with ``wait-connect=1`` are refused when the service is built, because nobody listens there, the others when
they are parsed.
"""

ACCEPTED = [
    "grpc+unix:///path/to/somewhere",
    "grpc+unix:/path/to/somewhere",
    "grpc+unix:///path/to/somewhere?wait-connect=0",
    "grpc+http://[::1]:12345",
    "grpc+http://localhost",
    "grpc+https://localhost",
]

REFUSED = [
    "grpc+unix://host.example/path/to/somewhere",
    "grpc+http://localhost/some-path",
    "grpc+http://localhost/",
    "grpc://host",
    "http://foo.example/test",
]

NOBODY_LISTENS = [
    "grpc+unix:///path/to/somewhere?wait-connect=1",
    "grpc+http://nonexist.invalid?wait-connect=1",
]
