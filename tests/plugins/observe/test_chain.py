"""Traces and metrics of stores that run as programs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from e2e.http_chain import Server, tvix_store
from plugins.observe.collecting import Collector
from plugins.observe.scraping import Page

TRACE = "0af7651916cd43dd8448eb211c80319c"
KINDS = ("blobservices", "directoryservices", "pathinfoservices")


def far_config(folder: Path) -> Path:
    """A store in memory, over gRPC."""
    path = folder / "far.toml"
    roots = "".join(f'[{kind}.root]\ntype = "memory"\n' for kind in KINDS)
    path.write_text(f'{roots}[frontends.grpc]\ntype = "grpc"\nlisten = "127.0.0.1:0"\n')
    return path


def near_config(folder: Path, far_url: str) -> Path:
    """What the far store has, as a binary cache."""
    path = folder / "near.toml"
    roots = "".join(f'[{kind}.root]\ntype = "grpc"\nurl = "{far_url}"\n' for kind in KINDS)
    path.write_text(f'{roots}[frontends.http]\ntype = "http"\nlisten = "127.0.0.1:0"\n')
    return path


def get(url: str, **headers: str) -> str:
    assert url.startswith("http://127.0.0.1:")
    with urlopen(Request(url, headers=headers)) as response:
        text: str = response.read().decode()
        return text


def test_a_trace_goes_from_the_http_client_to_the_far_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    with Collector() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_SERVICE_NAME", "far-store")
        with Server(far_config(tmp_path)) as far:
            monkeypatch.delenv("OTEL_SERVICE_NAME")
            with Server(near_config(tmp_path, far.url)) as near:
                for service in ("BLOB", "DIRECTORY", "PATH_INFO"):
                    monkeypatch.setenv(f"{service}_SERVICE_ADDR", far.url)
                (tmp_path / "hello").write_bytes(b"hello " * 1000)
                path = tvix_store("import", tmp_path / "hello").strip()
                narinfo = get(f"{near.url}/{path[11:43]}.narinfo")
                nar = next(line for line in narinfo.splitlines() if line.startswith("URL: "))[5:]
                assert "hello hello" in get(f"{near.url}/{nar}", traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
                assert near.stop() == 0
            assert far.stop() == 0
        spans = collector.wait_for(TRACE, "GET /nar/{name}", "tvix_store.batch.v1.BatchService/GetBlobs")
    seen = {(span.service, span.name) for span in spans}
    assert {("tvix-store", "GET /nar/{name}"), ("tvix-store", "blob.get_many")} <= seen
    assert {("far-store", "tvix_store.batch.v1.BatchService/GetBlobs"), ("far-store", "blob.get_many")} <= seen
    assert {"tvix_store_calls", "tvix_store_http_requests", "process.memory.usage"} <= set(collector.metrics)


def test_all_services_of_a_program_are_on_its_page(tmp_path: Path) -> None:
    config = tmp_path / "all.toml"
    roots = "".join(f'[{kind}.root]\ntype = "memory"\n' for kind in KINDS)
    config.write_text(f'{roots}[frontends.http]\ntype = "http"\nlisten = "127.0.0.1:0"\n')
    with Server(config) as server:
        before = Page(get(f"{server.url}/metrics"))
        for name in ("0" * 32, "1" * 32):
            with pytest.raises(OSError, match="404"):
                get(f"{server.url}/{name}.narinfo")
        after = Page(get(f"{server.url}/metrics"))
    labels = {"entry": "root", "kind": "path_info", "method": "get_metadata", "result": "miss"}
    assert before.get("tvix_store_objects_total", **labels) == 0
    assert after.get("tvix_store_objects_total", **labels) == 2
    for kind in ("blob", "directory", "path_info"):
        assert before.get("tvix_store_corrupt_objects_total", entry="root", kind=kind) == 0
    route = {"frontend": "http", "route": "/{digest}.narinfo", "status": "404"}
    assert after.get("tvix_store_http_requests_total", **route) == 2


@pytest.mark.parametrize("flag", ["--otlp", "--otlp=true"])
def test_a_missing_package_is_one_line(tmp_path: Path, flag: str) -> None:
    result = run_without_opentelemetry(tmp_path, flag, "run", str(far_config(tmp_path)))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "error: --otlp: OpenTelemetry is not installed: pip install 'tvix-store[otel]'\n"


def test_what_is_only_in_the_environment_does_not_keep_a_store_from_running(tmp_path: Path) -> None:
    config = tmp_path / "taken.toml"
    config.write_text(far_config(tmp_path).read_text().replace("127.0.0.1:0", "/nowhere/at/all"))
    result = run_without_opentelemetry(tmp_path, "run", str(config), OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:1")
    warning, error = result.stderr.splitlines()
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set, but OpenTelemetry is not installed" in warning
    assert error.startswith("error: cannot listen on")


def run_without_opentelemetry(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program in an interpreter that finds no such package."""
    program = "import sys; sys.modules['opentelemetry'] = None; from tvix_store.cli.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, **environment},
        check=False,
        timeout=60,
    )
