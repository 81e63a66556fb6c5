"""What follows from the numbers of a service."""

from tvix_store.statistics import ServiceStats


def test_ratios_follow_from_the_sizes() -> None:
    stats = ServiceStats(3, logical_bytes=1200, unique_bytes=600, stored_bytes=200)
    assert (stats.deduplication, stats.compression) == (2.0, 3.0)


def test_ratios_of_what_is_not_known_or_empty_are_not_known() -> None:
    assert ServiceStats(3, logical_bytes=1200).deduplication is None
    assert ServiceStats(3, unique_bytes=1200).compression is None
    assert ServiceStats(0, 0, 0, 0).deduplication is None
    assert ServiceStats(0, 0, 0, 4096).compression is None
