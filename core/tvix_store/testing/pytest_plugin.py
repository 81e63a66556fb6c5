"""What pytest has to know of the suites: their marker, and that their assertions are to be explained.

Found through the ``pytest11`` entry point in every environment that has this package, so it loads nothing else.
"""

import pytest

pytest.register_assert_rewrite(
    "tvix_store.testing.blob_access",
    "tvix_store.testing.blob_streams",
    "tvix_store.testing.blob_suite",
    "tvix_store.testing.directory_suite",
    "tvix_store.testing.directory_uploads",
    "tvix_store.testing.path_info_suite",
    "tvix_store.testing.state_machine",
    "tvix_store.testing.stateful",
)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker, for ``--strict-markers``."""
    config.addinivalue_line(
        "markers",
        "tvix_store_large: a test of a conformance suite that moves megabytes or thousands of objects",
    )
