"""What is put around services has every method they have: a default in its place would answer for them."""

import pytest

from tvix_store.blob import BlobService
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
from tvix_store.directory import DirectoryService
from tvix_store.forwarding import ForwardingPathInfoService
from tvix_store.path_info import PathInfoService


@pytest.mark.parametrize(
    ("wrapper", "interface"),
    [
        (CheckedBlobService, BlobService),
        (CheckedDirectoryService, DirectoryService),
        (CheckedPathInfoService, PathInfoService),
        (ForwardingPathInfoService, PathInfoService),
    ],
)
def test_every_method_is_forwarded(wrapper: type, interface: type) -> None:
    public = {name for name in vars(interface) if not name.startswith("_")}
    assert public <= set(vars(wrapper))
