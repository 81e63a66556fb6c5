"""The example composition of the project's spec/composition.md, and what URLs the reference makes services of."""

EXAMPLE = """
[blobservices.root]
type = "objectstore"
object_store_url = "file:///var/lib/store/blobs"
object_store_options = {}

[directoryservices.root]
type = "redb"
is_temporary = false
path = "/var/lib/store/directories.redb"

[pathinfoservices.root]
type = "cache"
near = "local"
far = "upstream"

[pathinfoservices.local]
type = "redb"
is_temporary = false
path = "/var/lib/store/pathinfo.redb"

[pathinfoservices.upstream]
type = "nix"
base_url = "https://cache.nixos.org"
public_keys = ["cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="]
blob_service = "root"
directory_service = "root"
"""

_KEY = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="

URLS: dict[str, tuple[str, str, str]] = {
    "memory://": ("yes", "yes", "yes"),
    "memory:": ("yes", "yes", "yes"),
    "memory://foo": ("no", "no", "no"),
    "memory:///": ("no", "no", "no"),
    "memory:///foo": ("no", "no", "no"),
    "memory://?x=y": ("yes", "yes", "yes"),
    "redb://": ("unknown", "yes", "yes"),
    "redb:": ("unknown", "yes", "yes"),
    "redb:///": ("unknown", "no", "no"),
    "redb://host": ("unknown", "no", "no"),
    "redb://host/path": ("unknown", "no", "no"),
    "redb:///path/file": ("unknown", "yes", "yes"),
    "grpc+unix:///path": ("yes", "yes", "yes"),
    "grpc+unix:/path": ("yes", "yes", "yes"),
    "grpc+unix:///path?wait-connect=0": ("yes", "yes", "yes"),
    "grpc+unix:///path?wait-connect=1": ("no", "no", "no"),
    "grpc+unix://host/path": ("no", "no", "no"),
    "grpc+http://[::1]:12345": ("yes", "yes", "yes"),
    "grpc+http://localhost": ("yes", "yes", "yes"),
    "grpc+https://localhost": ("yes", "yes", "yes"),
    "grpc+http://localhost/some-path": ("no", "no", "no"),
    "grpc+http://localhost/": ("no", "no", "no"),
    "grpc+http://nonexist.invalid?wait-connect=1": ("no", "no", "no"),
    "grpc://host": ("no", "no", "no"),
    "objectstore+memory:///": ("yes", "yes", "unknown"),
    "objectstore+memory://": ("yes", "yes", "unknown"),
    "objectstore+file:///foo/bar": ("yes", "yes", "unknown"),
    "objectstore+file://host/foo": ("no", "no", "unknown"),
    "objectstore+https://localhost:8080/some-path": ("yes", "yes", "unknown"),
    "objectstore+s3://bucket/path": ("yes", "yes", "unknown"),
    "objectstore+gs://bucket/path": ("yes", "yes", "unknown"),
    "objectstore://x": ("no", "no", "unknown"),
    "cache://?near=memory://&far=memory://": ("unknown", "yes", "no"),
    "combined://?near=memory://&far=memory://": ("no", "unknown", "unknown"),
    "lru://?capacity=10": ("unknown", "unknown", "no"),
    "keyfile-signing://?inner=memory://&keyfile=/key": ("unknown", "unknown", "no"),
    "nix+https://cache.nixos.org": ("unknown", "unknown", "yes"),
    "nix+http://cache.nixos.org": ("unknown", "unknown", "yes"),
    "nix+http://192.0.2.1/foo": ("unknown", "unknown", "yes"),
    "nix+http://[::1]:8080/foo": ("unknown", "unknown", "yes"),
    f"nix+https://cache.nixos.org?trusted-public-keys={_KEY}": ("unknown", "unknown", "yes"),
    f"nix+https://cache.nixos.org?trusted-public-keys={_KEY}%20{_KEY}": ("unknown", "unknown", "yes"),
    "nix+https://cache.nixos.org?trusted-public-keys=foo": ("unknown", "unknown", "no"),
    "nix://host": ("unknown", "unknown", "panics"),
    "bigtable://instance-1?project_id=p&table_name=t&family_name=f": ("unknown", "yes", "yes"),
    "bigtable://instance-1": ("unknown", "no", "no"),
    "http://foo.example/test": ("unknown", "unknown", "unknown"),
}
"""By URL, for blobs, directories and path infos: a service can be made, the URL is refused, or its type is unknown."""
