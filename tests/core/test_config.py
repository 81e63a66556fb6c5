from __future__ import annotations

import pytest
from pydantic import ValidationError

from fakes.plugin import FetchingPathInfos, ManyBlobs, PairBlobs, PlainBlobs
from tvix_store.config import Kind, Reference, ServiceUrl, redacted
from tvix_store.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "tag", "transport", "host", "path"),
    [
        ("memory://", "memory", "", "", ""),
        ("memory:", "memory", "", "", ""),
        ("memory://foo", "memory", "", "foo", ""),
        ("memory:///foo", "memory", "", "", "/foo"),
        ("grpc+http://[::1]:12345", "grpc", "http", "[::1]:12345", ""),
        ("GRPC+HTTP://Example", "grpc", "http", "Example", ""),
        ("grpc+unix:///a%20b/c", "grpc", "unix", "", "/a b/c"),
        ("grpc+unix:/a", "grpc", "unix", "", "/a"),
        ("objectstore+s3://bucket/path?x=y", "objectstore", "s3", "bucket", "/path"),
        ("a+b+c://", "a", "b+c", "", ""),
    ],
)
def test_url_parts(text: str, tag: str, transport: str, host: str, path: str) -> None:
    url = ServiceUrl(text)
    assert (url.tag, url.transport, url.host, url.path, str(url)) == (tag, transport, host, path, text)


@pytest.mark.parametrize(
    ("text", "port"), [("grpc+http://h:80", 80), ("grpc+http://h", None), ("grpc+http://[::1]:1", 1), ("x://h:0", 0)]
)
def test_url_port(text: str, port: int | None) -> None:
    assert ServiceUrl(text).port == port


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no scheme"),
        ("root", "no scheme"),
        ("://x", "no scheme"),
        ("1x://x", "no scheme"),
        ("grpc+http://host:port", "is not a URL"),
        ("grpc+http://host:99999", "is not a URL"),
        ("grpc+http://[::1", "is not a URL"),
    ],
)
def test_what_is_not_a_url(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        ServiceUrl(text)


def test_url_query_is_decoded() -> None:
    query = ServiceUrl("cache://?near=memory%3A%2F%2F&far=grpc%2Bhttp://a:1&empty=").query()
    assert query == {"near": "memory://", "far": "grpc+http://a:1", "empty": ""}


def test_url_parameter_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"'x://\?a=1&a=2': a parameter is given twice"):
        ServiceUrl("x://?a=1&a=2").query()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("s3://user:hunter2@host/path", "s3://user:***@host/path"),
        ("s3://host?aws_secret_access_key=hunter2&region=eu", "s3://host?aws_secret_access_key=***&region=eu"),
        ("s3://host?region=eu&Token=hunter2#x", "s3://host?region=eu&Token=***#x"),
        ("grpc+http://[::1]:8000?wait-connect=1", "grpc+http://[::1]:8000?wait-connect=1"),
        ("grpc+unix:///a:b@c", "grpc+unix:///a:b@c"),
        ("s3://user:${NAME}@host?token=${NAME}&region=eu", "s3://user:${NAME}@host?token=${NAME}&region=eu"),
        ("s3://host?region=eu&token=${NAME}", "s3://host?region=eu&token=${NAME}"),
        (
            "cache://?far=nix%2Bhttps%3A%2F%2Fuser%3Apw%40host%2Fx",
            "cache://?far=nix%2Bhttps%3A%2F%2Fuser%3A***%40host%2Fx",
        ),
        (
            "cache://?far=cache%3A%2F%2F%3Ffar%3Dnix%252Bhttps%253A%252F%252Fh%253Ftoken%253Dabc",
            "cache://?far=cache%3A%2F%2F%3Ffar%3Dnix%252Bhttps%253A%252F%252Fh%253Ftoken%253D***",
        ),
        (
            "cache://?near=memory://&far=nix%2Bhttps%3A%2F%2Fhost",
            "cache://?near=memory://&far=nix%2Bhttps%3A%2F%2Fhost",
        ),
        ("s3://user:${A}${B}@host?token=x${NAME}", "s3://user:***@host?token=***"),
    ],
)
def test_secrets_in_urls_are_not_shown(url: str, shown: str) -> None:
    assert redacted(url) == shown
    assert str(ServiceUrl(url).refuse("why")) == f"{shown!r}: why"


def test_password_in_what_is_not_a_url_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        ServiceUrl("s3://user:hunter2@host:port")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("target", "is_url"), [("root", False), ("memory:", False), ("memory://", True), ("", False)])
def test_what_has_two_slashes_is_a_url(target: str, is_url: bool) -> None:
    assert Reference("near", Kind.BLOB, target).is_url is is_url


def test_references_are_found_through_annotations() -> None:
    config = PairBlobs(type="pair", near="disk", far="grpc+http://a")
    assert list(config.references()) == [
        Reference("near", Kind.BLOB, "disk"),
        Reference("far", Kind.BLOB, "grpc+http://a"),
    ]


def test_references_in_lists_tables_and_optional_fields() -> None:
    config = ManyBlobs(type="many", members=["a", "b"], by_name={"x": "c"}, fallback="d")
    assert [(reference.key, reference.target) for reference in config.references()] == [
        ("members[0]", "a"),
        ("members[1]", "b"),
        ("by_name.x", "c"),
        ("fallback", "d"),
    ]


def test_unset_optional_fields_refer_to_nothing() -> None:
    assert list(ManyBlobs(type="many").references()) == []


def test_references_have_the_kind_of_their_field() -> None:
    config = FetchingPathInfos(type="fetching", blob_service="b", then="p")
    assert [(reference.kind, reference.target) for reference in config.references()] == [
        (Kind.BLOB, "b"),
        (Kind.DIRECTORY, "root"),
        (Kind.PATH_INFO, "p"),
    ]


def test_models_are_immutable_and_strict() -> None:
    config = PlainBlobs(type="plain")
    with pytest.raises(ValidationError, match="frozen"):
        config.max_bytes = 2  # type: ignore[misc]  # on purpose
    with pytest.raises(ValidationError, match="valid integer"):
        PlainBlobs.model_validate({"type": "plain", "max_bytes": "2"})


def test_a_type_without_url_form_says_so() -> None:
    with pytest.raises(ConfigError, match="'many://': type 'many' has no URL form"):
        ManyBlobs.from_url(ServiceUrl("many://"))
