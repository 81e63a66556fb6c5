"""When to ask again."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from tvix_store_nix.retrying import Backoff, Trouble, parse_retry_after

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def delays(backoff: Backoff, trouble: Trouble) -> list[float | None]:
    return [backoff.delay_s(failures, trouble) for failures in range(1, 8)]


def test_waits_grow_up_to_a_limit_and_then_it_is_enough() -> None:
    backoff = Backoff(retries=6, first_s=1, longest_s=10)
    *waits, end = delays(backoff, Trouble("broken"))
    for wait, longest in zip(waits, [1, 2, 4, 8, 10, 10], strict=True):
        assert wait is not None
        assert longest / 2 <= wait <= longest
    assert end is None


def test_waits_are_not_the_same_for_all() -> None:
    assert len({Backoff().delay_s(1, Trouble("broken")) for _ in range(20)}) > 1


def test_a_server_is_given_the_time_it_asks_for() -> None:
    delay_s = Backoff(retries=1).delay_s(1, Trouble("busy", 20))
    assert delay_s is not None
    assert 20 <= delay_s < 21


def test_a_server_that_asks_for_too_much_is_left_alone() -> None:
    assert Backoff(retries=9, patience_s=60).delay_s(1, Trouble("busy", 61)) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("120", 120),
        (" 0 ", 0),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60),
        ("Fri, 02 Jan 2026 03:05:05", 60),
        ("Thu, 01 Jan 2026 00:00:00 GMT", 0),
        ("soon", None),
        ("-1", None),
        ("", None),
        ("1" * 400, float("inf")),
    ],
)
def test_retry_after_is_a_number_or_a_date(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, NOW) == seconds
