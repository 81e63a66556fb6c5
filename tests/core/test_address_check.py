from __future__ import annotations

import pytest

from tvix_store.address_check import same_address
from tvix_store.config import Kind
from tvix_store.registry import Registry

MODEL = Registry.load().model(Kind.FRONTEND, "grpc")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("localhost:1", "localhost:1", True),
        ("localhost:1", "[::1]:1", True),
        ("localhost:1", "127.0.0.1:1", True),
        ("127.0.0.1:1", "[::1]:1", False),
        ("localhost:1", "localhost:2", False),
        ("localhost:0", "localhost:0", False),
        ("0.0.0.0:1", "127.0.0.1:1", True),
        ("127.0.0.2:1", "127.0.0.1:1", False),
        ("0.0.0.0:1", "[::1]:1", False),
        ("/a", "/a", True),
        ("/a", "/b", False),
        ("@a", "@a", True),
        ("@/a", "/a", False),
    ],
)
def test_addresses_that_are_the_same(first: str, second: str, same: bool) -> None:
    frontends = {
        name: MODEL.model_validate({"type": "grpc", "listen": at}) for name, at in (("a", first), ("b", second))
    }
    assert same_address(frontends) == (("a", "b") if same else None)


@pytest.mark.parametrize(("a", "b"), [(True, True), (True, False)])
def test_a_port_may_be_shared_by_those_that_say_so(a: bool, b: bool) -> None:
    settings = {"type": "grpc", "listen": "localhost:1"}
    frontends = {
        name: MODEL.model_validate({**settings, "tcp_reuse_port": shares}) for name, shares in (("a", a), ("b", b))
    }
    assert same_address(frontends) == (None if a and b else ("a", "b"))
