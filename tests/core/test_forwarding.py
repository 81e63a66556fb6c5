"""What is put around services has every method they have: a default in its place would answer for them."""

import pytest

from tvix_store.around import AroundBlobService, AroundDirectoryService, AroundPathInfoService
from tvix_store.blob import BlobService
from tvix_store.checked import CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService
from tvix_store.commit_point import CommitPointPathInfoService
from tvix_store.directory import DirectoryService
from tvix_store.forwarding import ForwardingBlobService, ForwardingDirectoryService, ForwardingPathInfoService
from tvix_store.path_info import PathInfoService
from tvix_store.resource import AsyncResource
from tvix_store_signing.path_info import SigningPathInfoService


@pytest.mark.parametrize(
    ("wrapper", "interface"),
    [
        (CheckedBlobService, BlobService),
        (CheckedDirectoryService, DirectoryService),
        (CheckedPathInfoService, PathInfoService),
        (ForwardingBlobService, BlobService),
        (ForwardingDirectoryService, DirectoryService),
        (ForwardingPathInfoService, PathInfoService),
        (AroundBlobService, BlobService),
        (AroundDirectoryService, DirectoryService),
        (AroundPathInfoService, PathInfoService),
        (CommitPointPathInfoService, PathInfoService),
        (SigningPathInfoService, PathInfoService),
    ],
)
def test_every_method_is_forwarded(wrapper: type, interface: type) -> None:
    public = {name for name in vars(interface) if not name.startswith("_") and name != "relays"}
    assert [name for name in public if getattr(wrapper, name) is getattr(interface, name)] == []


@pytest.mark.parametrize(
    "wrapper", [CheckedBlobService, CheckedDirectoryService, CheckedPathInfoService, CommitPointPathInfoService]
)
def test_what_core_puts_around_services_closes_them(wrapper: type[AsyncResource]) -> None:
    assert wrapper.aclose is not AsyncResource.aclose
