"""Which frontends can have workers: by their address, and by the services that they would share."""

from __future__ import annotations

import tomllib

import pytest

from tvix_store.errors import ConfigError
from tvix_store.registry import Registry
from tvix_store.store_config import StoreConfig
from tvix_store.worker_check import check_workers, frontends_with_workers

REGISTRY = Registry.load()
BLOBS = '[blobservices.root]\ntype = "fs"\npath = "/store/blobs"\n'
DIRECTORIES = '[directoryservices.root]\ntype = "sqlite"\npath = "/store/db"\n'
PATH_INFOS = '[pathinfoservices.root]\ntype = "sqlite"\npath = "/store/db"\n'
CACHE = '[pathinfoservices.root]\ntype = "cache"\nnear = "memory://"\nfar = "sqlite:///store/db"\nwrite = "{}"\n'
FAR = '[pathinfoservices.far]\ntype = "memory"\n'


def frontend(listen: str = "127.0.0.1:9000", workers: int = 2, more: str = "", type_: str = "http") -> str:
    return f'[frontends.main]\ntype = "{type_}"\nlisten = "{listen}"\nworkers = {workers}\n{more}\n'


def parse(*tables: str) -> StoreConfig:
    config = StoreConfig.parse(tomllib.loads("".join(tables)), REGISTRY, "store.toml")
    config.check(REGISTRY)
    return config


@pytest.mark.parametrize("type_", ["http", "grpc"])
@pytest.mark.parametrize("listen", ["127.0.0.1:0", "localhost:0", "/run/socket", "./socket", "@name"])
def test_workers_need_a_tcp_port(type_: str, listen: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(frontend(listen, type_=type_))
    reason = f"workers: more than one needs a TCP port that is not 0 to share, unlike '{listen}'"
    assert str(caught.value) == f"store.toml: [frontends.main]: {reason}"
    assert not frontends_with_workers(parse(frontend(listen, workers=1, type_=type_)))


@pytest.mark.parametrize(("workers", "reason"), [(0, "greater than or equal to 1"), (257, "less than or equal to 256")])
def test_the_number_of_workers_has_bounds(workers: int, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"workers: input should be {reason}"):
        parse(frontend(workers=workers))


def test_an_address_that_is_none_is_the_only_mistake() -> None:
    with pytest.raises(ConfigError) as caught:
        parse(frontend("nowhere"))
    assert "workers" not in str(caught.value)


@pytest.mark.parametrize(
    ("tables", "entry"),
    [
        (('[blobservices.root]\ntype = "memory"\n', DIRECTORIES, PATH_INFOS), "[blobservices.root] (memory)"),
        ((BLOBS, '[directoryservices.default]\ntype = "memory"\n', PATH_INFOS), "[directoryservices.default] (memory)"),
        (
            (BLOBS, DIRECTORIES, '[pathinfoservices.root]\ntype = "sqlite"\nis_temporary = true\n'),
            "[pathinfoservices.root] (sqlite)",
        ),
        ((BLOBS, DIRECTORIES, CACHE.format("near")), "[pathinfoservices.root] near (memory)"),
        (
            (BLOBS, DIRECTORIES, CACHE.format("both").replace("sqlite:///store/db", "far"), FAR),
            "[pathinfoservices.far] (memory)",
        ),
    ],
)
def test_what_is_put_into_one_process_alone_is_refused(tables: tuple[str, ...], entry: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_workers(parse(*tables, frontend()), REGISTRY)
    assert str(caught.value) == (
        f"store.toml: [frontends.main]: workers: each would have {entry} for itself; "
        "use one that processes can share, or workers = 1"
    )
    check_workers(parse(*tables, frontend(workers=1)), REGISTRY)


@pytest.mark.parametrize("write", ["far", "both"])
def test_copies_may_be_in_each_process(write: str) -> None:
    check_workers(parse(BLOBS, DIRECTORIES, CACHE.format(write), frontend()), REGISTRY)


def test_what_no_frontend_uses_may_be_in_memory() -> None:
    spare = '[blobservices.spare]\ntype = "memory"\n'
    check_workers(parse(BLOBS, spare, DIRECTORIES, PATH_INFOS, frontend()), REGISTRY)
