"""The ``keyfile-signing`` tag in a configuration."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from tvix_store.composition import Composition
from tvix_store.config import Kind, ServiceUrl
from tvix_store.errors import ConfigError
from tvix_store.path_info import PathInfoService
from tvix_store.registry import Registry
from tvix_store.signing import SecretKey
from tvix_store.store_config import StoreConfig
from tvix_store.testing.fixtures import PATH_INFO
from tvix_store_signing.plugin import KeyfileSigningPathInfoServiceConfig as Config

pytestmark = pytest.mark.anyio

KEY = SecretKey.generate("cache.example.org-1")


def key_file(path: Path, key: SecretKey, mode: int = 0o600) -> str:
    path.write_text(f"{key}\n")
    path.chmod(mode)
    return str(path)


async def signatures(keyfile: str | list[str]) -> list[str]:
    """The names of the signatures on what is put through a composition."""
    document = {
        "blobservices": {"root": {"type": "memory"}},
        "directoryservices": {"root": {"type": "memory"}},
        "pathinfoservices": {
            "root": {"type": "keyfile-signing", "inner": "kept", "keyfile": keyfile},
            "kept": {"type": "memory"},
        },
    }
    registry = Registry.load()
    async with Composition(StoreConfig.parse(document, registry, "test"), registry) as composition:
        services = await composition.services()
        stored = await services.path_infos.put(PATH_INFO)
        (kept,) = [entry for entry in await composition.entries() if entry.entry_id.name == "kept"]
        assert isinstance(kept.service, PathInfoService)
        assert await kept.service.get(PATH_INFO.store_path.digest) == stored
        return [signature.name for signature in stored.signatures]


async def test_what_is_stored_is_signed(tmp_path: Path) -> None:
    assert await signatures(key_file(tmp_path / "key", KEY)) == [KEY.name]


async def test_several_keys_and_one_of_them_twice(tmp_path: Path) -> None:
    one, two = key_file(tmp_path / "one", KEY), key_file(tmp_path / "two", SecretKey.generate("two"))
    assert await signatures([one, two, one]) == [KEY.name, "two"]


async def test_a_key_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"root.*key file {tmp_path}/absent: No such file"):
        await signatures(str(tmp_path / "absent"))


async def test_halves_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}"[:-12] + f"{SecretKey.generate(KEY.name)}"[-12:])
    with pytest.raises(ConfigError, match="its second half is not the public key of its first half"):
        await signatures(str(tmp_path / "key"))


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, False), (0o644, True)])
async def test_a_key_that_everybody_can_read_is_warned_of(
    mode: int, warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await signatures(key_file(tmp_path / "key", KEY, mode))
    assert (f"key file {tmp_path}/key can be read by everybody" in caplog.text) is warned


@pytest.mark.parametrize("keyfile", ["", [], ["a", ""], None, 3])
def test_a_key_file_has_to_be_given(keyfile: object) -> None:
    with pytest.raises(ValidationError):
        Config.model_validate({"type": "keyfile-signing", "inner": "x", "keyfile": keyfile})


def test_inner_is_a_reference() -> None:
    config = Config.model_validate({"type": "keyfile-signing", "inner": "x", "keyfile": os.devnull})
    assert [(r.key, r.kind, r.target) for r in config.references()] == [("inner", Kind.PATH_INFO, "x")]


def test_there_is_no_url_form() -> None:
    with pytest.raises(ConfigError, match="has no URL form"):
        Config.from_url(ServiceUrl("keyfile-signing://x?keyfile=y"))
