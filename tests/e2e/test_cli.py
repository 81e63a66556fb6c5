"""The installed program against a store that runs, as users have them; and against a real Nix."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tvix_store.limits import MIB
from vectors.nar import TREES, encode, materialise

SERVICES = ("blob", "directory", "path-info")


@pytest.fixture(scope="session")
def command() -> str:
    """The console script of the environment that runs the tests."""
    path = shutil.which("tvix-store", path=os.path.dirname(sys.executable))
    assert path is not None, "tvix-store is not installed beside this Python: pip install -e ."
    return path


class Store:
    """A store that runs, and clients of it.

    Args:
        command: The program.
        arguments: For it; it is ready once this is made.
        environment: More variables for it.
    """

    def __init__(self, command: str, *arguments: object, environment: dict[str, str] | None = None) -> None:
        self.command = command
        self.process = subprocess.Popen(
            [command, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(environment or {})},
        )
        try:
            self.log = self.until("ready, serving")
        except AssertionError:
            self.__exit__()
            raise
        self.urls = [line.rpartition("listens on ")[2] for line in self.log if "listens on" in line]

    def until(self, text: str) -> list[str]:
        """The log lines up to the one with ``text``."""
        assert self.process.stderr is not None
        lines: list[str] = []
        for line in self.process.stderr:
            lines.append(line.rstrip("\n"))
            if text in line:
                return lines
        raise AssertionError(f"it ended without {text!r}: {lines}")

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait for the end; exit status and the rest of the log."""
        self.process.send_signal(number)
        log = self.process.communicate()[1]
        return self.process.returncode, log

    @property
    def client_environment(self) -> dict[str, str]:
        names = (service.upper().replace("-", "_") for service in SERVICES)
        return {**os.environ, **{f"{name}_SERVICE_ADDR": self.urls[0] for name in names}}

    def client(self, *arguments: object) -> subprocess.CompletedProcess[bytes]:
        """A client command that has run to its end."""
        return subprocess.run(
            [self.command, *map(str, arguments)], capture_output=True, env=self.client_environment, check=False
        )

    def start_client(self, *arguments: object) -> subprocess.Popen[bytes]:
        """A client command whose output nobody has read yet."""
        return subprocess.Popen(
            [self.command, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self.client_environment,
        )

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """For sockets, whose paths must be short, and what goes with them."""
    with tempfile.TemporaryDirectory(prefix="tvix-store-") as path:
        yield Path(path)


def configuration(folder: Path, listen: str, name: str = "store", more: str = "") -> Path:
    path = folder / f"{name}.toml"
    memory = "".join(f'[{kind}services.root]\ntype = "memory"\n' for kind in ("blob", "directory", "pathinfo"))
    path.write_text(f'{memory}[frontends.main]\ntype = "grpc"\nlisten = "{listen}"\n{more}')
    return path


@pytest.fixture(scope="module")
def store(command: str, folder: Path) -> Iterator[Store]:
    with Store(command, "run", configuration(folder, f"{folder}/socket")) as store:
        yield store


@pytest.fixture(scope="module")
def mixed(store: Store, folder: Path) -> str:
    """The store path of the sample tree ``mixed``."""
    result = store.client("import", materialise(TREES["mixed"], folder / "mixed"))
    assert (result.returncode, result.stderr) == (0, b"")
    return result.stdout.decode().strip()


@pytest.fixture
def own(command: str, folder: Path) -> Iterator[Store]:
    """A store that a test may end."""
    with Store(command, "run", configuration(folder, f"{folder}/own", "own", "unix_listen_unlink = true")) as store:
        yield store


def nix_add(nix_store: str, root: Path, paths: list[Path]) -> list[str]:
    """What ``nix-store --add`` prints, in a store that is thrown away."""
    arguments = [nix_store, "--store", str(root), "--add", *map(str, paths)]
    return subprocess.run(arguments, capture_output=True, check=True, text=True).stdout.splitlines()


# --- against a real Nix ---


def test_import_prints_what_nix_prints(store: Store, nix_store: str, tmp_path: Path) -> None:
    paths = [materialise(tree, tmp_path / name) for name, tree in TREES.items()]
    result = store.client("import", *paths)
    assert result.stderr == b""
    assert result.stdout.decode().splitlines() == nix_add(nix_store, tmp_path / "nix", paths)


def test_nar_dump_writes_what_nix_writes(store: Store, nix_store: str, tmp_path: Path) -> None:
    path = tmp_path / "large"
    shutil.copytree(Path(json.__file__).parents[1], path, ignore=lambda *_: {"site-packages", "test", "lib-dynload"})
    imported = store.client("import", path)
    dump = store.client("nar", "dump", imported.stdout.decode().strip())
    assert dump.stderr == b""
    assert dump.stdout == subprocess.run([nix_store, "--dump", path], capture_output=True, check=True).stdout


def test_copy_takes_the_reference_graph_of_nix(store: Store, nix_store: str, tmp_path: Path) -> None:
    root = tmp_path / "nix"
    added = nix_add(nix_store, root, [materialise(TREES[name], tmp_path / name) for name in ("complicated", "exec")])
    nix = os.path.join(os.path.dirname(nix_store), "nix")
    arguments = ["--extra-experimental-features", "nix-command", "--store", str(root), "path-info", "--json", *added]
    graph = tmp_path / "graph.json"
    graph.write_bytes(subprocess.run([nix, *arguments], capture_output=True, check=True).stdout)
    result = store.client("copy", "--store-dir", root / "nix" / "store", graph)
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")
    assert store.client("nar", "dump", added[0]).stdout == encode(TREES["complicated"])
    assert set(added) <= set(store.client("ls").stdout.decode().splitlines())


# --- clients ---


def test_ls_cat_and_nar_of_a_running_store(store: Store, mixed: str) -> None:
    assert mixed in store.client("ls").stdout.decode().splitlines()
    assert store.client("ls", f"{mixed}/share").stdout == b"doc\nlink\n"
    assert store.client("cat", f"{mixed}/share/doc/README").stdout == b"read me\n"
    assert store.client("nar", "hash", "--size", mixed).stdout.endswith(b" 1416\n")


def test_an_empty_store_has_no_paths(own: Store) -> None:
    result = own.client("ls")
    assert (result.returncode, result.stdout, result.stderr) == (0, b"", b"")


def test_without_a_store_there_is_one_clear_line(command: str, folder: Path) -> None:
    url = f"grpc+unix:{folder}/nobody"
    result = subprocess.run([command, "ls", "--store", url], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {url}: ")
    assert result.stderr.count("\n") == 1


class GoingAway(socketserver.StreamRequestHandler):
    """HTTP/2 as far as to end the connection, with an error, once there is a call."""

    SETTINGS = bytes.fromhex("000000 04 00 00000000")
    GOAWAY = bytes.fromhex("000008 07 00 00000000 00000000 00000002")
    PREFACE_BYTES, HEADER_BYTES, HEADERS = 24, 9, 1

    def handle(self) -> None:
        self.rfile.read(self.PREFACE_BYTES)
        self.wfile.write(self.SETTINGS)
        while header := self.rfile.read(self.HEADER_BYTES):
            self.rfile.read(int.from_bytes(header[:3], "big"))
            if header[3] == self.HEADERS:
                self.wfile.write(self.GOAWAY)


def test_a_store_that_goes_away_is_one_line(command: str, folder: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    with socketserver.ThreadingUnixStreamServer(f"{folder}/leaving", GoingAway) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        arguments = [command, "ls", "--store", f"grpc+unix:{folder}/leaving"]
        result = subprocess.run(arguments, capture_output=True, text=True, env=environment, check=False)
        server.shutdown()
        thread.join()
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1


def test_a_reader_that_has_had_enough_ends_the_dump_quietly(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.touch()
    os.truncate(path, 16 * MIB)
    location = store.client("import", path).stdout.decode().strip()
    with store.start_client("nar", "dump", location) as client:
        assert client.stdout is not None
        assert client.stderr is not None
        assert len(client.stdout.read(10)) == 10
        client.stdout.close()
        assert client.stderr.read() == b""
        assert client.wait() == 1


@pytest.mark.parametrize("arguments", [["config", "schema"], ["--help"], ["plugins"]])
def test_a_closed_output_ends_other_commands_quietly(command: str, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run([command, *arguments], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, b"")


def test_a_full_disk_is_one_line(command: str) -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [command, "config", "schema"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 1
    assert result.stderr == "error: [Errno 28] No space left on device\n"


def test_an_interrupted_import_is_130_and_leaves_nothing(own: Store, folder: Path) -> None:
    reader, writer = os.pipe()
    path = folder / "endless"
    path.mkdir()
    for number in range(20_000):
        (path / f"{number}").touch()
    terminal, terminal_end = pty.openpty()
    with subprocess.Popen(
        [own.command, "import", path], stdout=writer, stderr=terminal_end, env=own.client_environment
    ) as client:
        os.close(terminal_end)
        os.close(writer)
        os.read(terminal, 1)  # the progress display: it has begun
        client.send_signal(signal.SIGINT)
        assert client.wait() == 130
    os.close(terminal)
    os.close(reader)
    assert own.client("ls").stdout == b""


def test_progress_is_shown_on_a_terminal_and_the_result_on_stdout(store: Store, folder: Path) -> None:
    (folder / "[").mkdir()
    path = materialise(TREES["hello"], folder / "[" / "b]x")  # not to be taken for markup
    terminal, terminal_end = pty.openpty()
    with subprocess.Popen(
        [store.command, "import", "--name", "hello", path],
        stdout=subprocess.PIPE,
        stderr=terminal_end,
        env={**store.client_environment, "TERM": "xterm"},
    ) as client:
        os.close(terminal_end)
        shown = b""
        try:
            while piece := os.read(terminal, 1000):
                shown += piece
        except OSError:  # how the end of a terminal shows
            pass
        assert client.stdout is not None
        assert client.stdout.read() == b"/nix/store/n4hss129xrln71w0nss39bcx6hzsh9bg-hello\n"
        assert client.wait() == 0
    os.close(terminal)
    assert b"[/b]x" in shown
    assert b"Traceback" not in shown


# --- run ---


def test_run_says_where_it_listens(store: Store, folder: Path) -> None:
    assert store.urls == [f"grpc+unix:{folder}/socket"]
    assert store.log[-1].endswith(f"ready, serving {folder}/store.toml")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0(own: Store, number: signal.Signals) -> None:
    code, log = own.stop(number)
    assert code == 0
    assert f"{number.name}: finishing what is under way" in log
    assert log.splitlines()[-1].endswith("stopped")
    assert "Traceback" not in log


def start_download(store: Store, folder: Path, n_bytes: int) -> subprocess.Popen[bytes]:
    """A client in the middle of a NAR that nobody reads."""
    path = folder / "download"
    path.touch()
    os.truncate(path, n_bytes)
    location = store.client("import", path).stdout.decode().strip()
    client = store.start_client("nar", "dump", location)
    assert client.stdout is not None
    assert len(client.stdout.read(200_000)) == 200_000
    return client


def test_what_is_under_way_is_finished(own: Store, folder: Path) -> None:
    with start_download(own, folder, 64 * MIB) as client:
        own.process.send_signal(signal.SIGTERM)
        own.until("finishing what is under way")
        assert client.stdout is not None
        assert 200_000 + len(client.stdout.read()) == 64 * MIB + 112
        assert client.wait() == 0
    assert own.stop()[0] == 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_ends_it_at_once(own: Store, folder: Path, number: signal.Signals, code: int) -> None:
    with start_download(own, folder, 64 * MIB) as client:
        own.process.send_signal(number)
        own.until("finishing what is under way")
        assert own.stop(number)[0] == code
        _, errors = client.communicate()
        assert client.returncode == 1
        assert errors.startswith(b"error: ")
        assert errors.count(b"\n") == 1


def test_a_service_manager_is_told(command: str, folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"{folder}/notify")
        environment = {"NOTIFY_SOCKET": f"{folder}/notify"}
        config = configuration(folder, f"{folder}/notifying", "notifying")
        with Store(command, "run", config, environment=environment) as store:
            assert manager.recv(100) == b"READY=1"
            assert store.stop()[0] == 0
            assert manager.recv(100) == b"STOPPING=1"


def test_log_lines_can_be_json(command: str, folder: Path) -> None:
    config = configuration(folder, f"{folder}/json", "json")
    with Store(command, "--log-format", "json", "run", config) as store:
        code, log = store.stop()
    lines = [json.loads(line) for line in [*store.log, *log.splitlines()]]
    assert code == 0
    assert all(set(line) == {"time", "level", "logger", "message"} for line in lines)
    assert [line["message"] for line in lines][-1] == "stopped"


def test_several_frontends_serve_one_store(command: str, folder: Path, tmp_path: Path) -> None:
    more = f'[frontends.second]\ntype = "grpc"\nlisten = "{folder}/second"\n'
    with Store(command, "run", configuration(folder, f"{folder}/first", "several", more)) as store:
        assert sorted(store.urls) == [f"grpc+unix:{folder}/first", f"grpc+unix:{folder}/second"]
        hello = store.client("import", materialise(TREES["hello"], tmp_path / "hello")).stdout
        assert store.client("ls", "--store", store.urls[1]).stdout == hello


@pytest.mark.parametrize("of", ["tcp", "unix"])
def test_an_address_in_use_is_one_line(command: str, folder: Path, store: Store, of: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}" if of == "tcp" else f"{folder}/socket"
        path = configuration(folder, listen, "taken")
        result = subprocess.run([command, "run", path], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.count("\n") == 1
    assert listen in result.stderr


def test_one_frontend_that_fails_ends_the_others(command: str, folder: Path, store: Store) -> None:
    more = f'[frontends.second]\ntype = "grpc"\nlisten = "{folder}/socket"\n'
    path = configuration(folder, f"{folder}/good", "one-fails", more)
    result = subprocess.run([command, "run", path], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in result.stderr


def test_daemon_serves_what_its_flags_say(command: str, folder: Path, tmp_path: Path) -> None:
    listen = f"{folder}/daemon"
    flags = ["--store", "memory://", "-l", listen, "--unix-listen-chmod", "everybody", "--unix-listen-uid", os.getuid()]
    with Store(command, "--otlp=false", "daemon", *flags) as store:
        assert os.stat(listen).st_mode & 0o777 == 0o666
        hello = store.client("import", materialise(TREES["hello"], tmp_path / "hello"))
        assert (hello.returncode, hello.stderr) == (0, b"")
        assert store.stop()[0] == 0


def test_flags_that_have_no_effect_are_named(command: str, folder: Path) -> None:
    flags = ["--store", "memory://", "-l", f"{folder}/effect", "--tcp-listen-backlog", 128, "--tcp-keepalive", "60000"]
    with Store(command, "daemon", *flags) as store:
        warning = next(line for line in store.log if "no effect" in line)
        assert warning.endswith("--tcp-listen-backlog has no effect here")


def test_daemon_on_tcp(command: str, tmp_path: Path) -> None:
    with Store(command, "daemon", "--store", f"sqlite://{tmp_path}/x", "-l", "127.0.0.1:0") as store:
        assert store.urls[0].startswith("grpc+http://127.0.0.1:")
        hello = store.client("import", materialise(TREES["hello"], tmp_path / "hello"))
        assert (hello.returncode, hello.stderr) == (0, b"")


def test_a_store_in_a_file_is_there_again_after_a_restart(command: str, folder: Path, tmp_path: Path) -> None:
    arguments = ["daemon", "--store", f"sqlite://{tmp_path}/x", "-l", f"{folder}/again"]
    with Store(command, *arguments) as store:
        hello = store.client("import", materialise(TREES["hello"], tmp_path / "hello")).stdout
        store.process.kill()
    with Store(command, *arguments, "--unix-listen-unlink") as store:
        assert store.client("ls").stdout == hello
