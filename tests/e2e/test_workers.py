"""Frontends that several processes serve, with real processes."""

from __future__ import annotations

import http.client
import os
import re
import select
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Self

import pytest

from e2e.http_chain import Server, _command
from plugins.http.pushing import file_nar, narinfo_for, path_of, url_of
from tvix_store.limits import MIB

N_WORKERS = 3
LARGE_BYTES = 32 * MIB
CONNECTIONS = 500
"""More than it takes until each of a few processes has been given one."""
H2_START = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


class Workers(Server):
    """A store whose frontend several processes serve."""

    def __enter__(self) -> Self:
        return self

    @property
    def pid(self) -> int:
        """Of the process that was started here."""
        return self._process.pid

    @property
    def worker_pids(self) -> set[int]:
        """Of those that it has started and that have listened, also if they have ended since."""
        return {int(found[1]) for line in self.log if (found := re.search(r"worker (\d+): main listens on", line))}

    @property
    def pids(self) -> set[int]:
        return {self.pid, *self.worker_pids}

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def status(self) -> int:
        """The exit status, once all processes have closed the log."""
        self._reader.join(60)
        assert not self._reader.is_alive()
        return self._process.wait(60)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def configuration(folder: Path, listen: str, *, workers: int = N_WORKERS, type_: str = "http", more: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "store.toml"
    database = f'type = "sqlite"\npath = "{folder}/metadata.sqlite"\n'
    state = f'state = "{folder}/http.sqlite"\n' if type_ == "http" else ""
    path.write_text(
        f'[blobservices.root]\ntype = "fs"\npath = "{folder}/blobs"\n'
        f"[directoryservices.root]\n{database}[pathinfoservices.root]\n{database}"
        f'[frontends.main]\ntype = "{type_}"\nlisten = "{listen}"\nworkers = {workers}\n{state}{more}'
    )
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Workers]:
    with Workers(configuration(tmp_path, f"127.0.0.1:{free_port()}")) as server:
        yield server


@pytest.fixture(scope="module")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    """For tests that leave the processes alone."""
    path = configuration(tmp_path_factory.mktemp("store"), f"127.0.0.1:{free_port()}", more="drain_s = 1.0\n")
    with Workers(path) as server:
        yield server


def serving_pid(connection: socket.socket, pids: set[int]) -> int:
    """Which of these processes has accepted a connection that it has answered; gRPC has IPv6 sockets for all."""
    ports = f":{connection.getpeername()[1]:04X}", f":{connection.getsockname()[1]:04X}"
    lines = [line for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    rows = [line.split() for line in lines]
    inode = next(row[9] for row in rows if row[1].endswith(ports[0]) and row[2].endswith(ports[1]))
    return next(pid for pid in pids if f"socket:[{inode}]" in open_files(pid))


def open_files(pid: int) -> set[str]:
    """Of a process; empty if it has ended."""
    files: set[str] = set()
    with suppress(FileNotFoundError):
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):  # closed meanwhile
                files.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
    return files


def get(server: Workers, path: str) -> tuple[int, bytes, int]:
    """Status, body, and the process that answered on a connection of its own."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        connection.request("GET", f"/{path}")
        response = connection.getresponse()
        body = response.read()
        return response.status, body, serving_pid(connection.sock, server.pids)


def put(server: Workers, path: str, body: bytes) -> tuple[int, int]:
    """Status, and the process that answered."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.port)) as connection:
        connection.request("PUT", f"/{path}", body)
        response = connection.getresponse()
        response.read()
        return response.status, serving_pid(connection.sock, server.pids)


def until_all_served(pids: set[int], ask: Callable[[], int]) -> None:
    """Ask again and again, until each of the processes has answered."""
    served: set[int] = set()
    for _ in range(CONNECTIONS):
        served.add(ask())
        if served == pids:
            return
    raise AssertionError(f"of {pids}, only {served} have served")


def ends(pid: int) -> select.poll:
    """What becomes readable when the process ends."""
    poll = select.poll()
    poll.register(os.pidfd_open(pid), select.POLLIN)
    return poll


def kill_worker(server: Workers) -> int:
    """Kill one, and wait until another has taken its place, whose pid is returned."""
    since, before = len(server.log), server.worker_pids
    victim = min(pid for pid in before if open_files(pid))
    os.kill(victim, signal.SIGKILL)
    assert f"main: worker {victim} was killed by signal 9, starting another" in server.logged("starting another", since)
    server.logged("main listens on", since)
    (new,) = server.worker_pids - before
    return new


# --- serving --------------------------------------------------------------------------------------------------------


def test_every_process_serves(shared_server: Workers) -> None:
    assert len(shared_server.pids) == N_WORKERS

    def ask() -> int:
        status, body, pid = get(shared_server, "nix-cache-info")
        assert (status, body[:8]) == (200, b"StoreDir")
        return pid

    until_all_served(shared_server.pids, ask)


def test_every_grpc_process_serves(tmp_path: Path) -> None:
    path = configuration(tmp_path, f"127.0.0.1:{free_port()}", workers=2, type_="grpc")
    with Workers(path) as server:

        def ask() -> int:
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                connection.sendall(H2_START)
                assert connection.recv(1)
                return serving_pid(connection, server.pids)

        assert len(server.pids) == 2
        until_all_served(server.pids, ask)
        assert server.stop() == 0


def test_what_one_process_takes_all_can_use(shared_server: Workers) -> None:
    contents = {number: file_nar(b"%d" % number) for number in range(20)}
    takers = {put(shared_server, url_of(nar), nar) for nar in contents.values()}
    publishers = {
        put(shared_server, path_of(i), i.render()) for i in map(narinfo_for, contents.values(), map(str, contents))
    }
    assert {status for status, _ in takers} == {201}
    assert {status for status, _ in publishers} == {200}
    assert len({pid for _, pid in (*takers, *publishers)}) > 1

    def ask() -> int:
        narinfo = narinfo_for(contents[7], "7")
        status, body, pid = get(shared_server, path_of(narinfo))
        assert (status, b"NarSize: %d\n" % len(contents[7]) in body) == (200, True)
        nar_status, nar, _ = get(shared_server, url_of(contents[7]))
        assert (nar_status, nar) == (200, contents[7])
        return pid

    until_all_served(shared_server.pids, ask)


def test_it_is_ready_when_all_listen_and_the_service_manager_hears_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        with Workers(configuration(tmp_path, f"127.0.0.1:{free_port()}")) as server:
            ready = server.log.index(server.logged("ready, serving"))
            assert sum("listens on" in line for line in server.log[:ready]) == N_WORKERS
            assert manager.recv(100) == b"READY=1"
            assert server.stop() == 0
        assert manager.recv(100) == b"STOPPING=1"
        manager.setblocking(False)
        with pytest.raises(BlockingIOError):
            manager.recv(100)


# --- ends -----------------------------------------------------------------------------------------------------------


def test_a_worker_that_was_killed_is_replaced(server: Workers) -> None:
    new = kill_worker(server)
    alive = {pid for pid in server.pids if open_files(pid)}
    assert (new in alive, len(alive)) == (True, N_WORKERS)
    until_all_served(alive, lambda: get(server, "nix-cache-info")[2])
    kill_worker(server)  # the pause has grown, and that is all
    assert server.stop() == 0


def test_a_worker_that_is_told_to_stop_is_replaced(server: Workers) -> None:
    os.kill(min(server.worker_pids), signal.SIGTERM)
    assert "ended with status 0, starting another" in server.logged("starting another")
    server.logged("main listens on", server.log.index(server.logged("starting another")))
    assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_all_stop_with_the_first(server: Workers, number: int) -> None:
    polls = [ends(pid) for pid in server.worker_pids]
    assert server.stop(number) == 0
    assert all(poll.poll(0) for poll in polls)  # it has waited for them
    assert sum(line.endswith(": stopped") for line in server.log) == N_WORKERS
    assert not [line for line in server.log if "WARNING" in line]


def test_workers_end_when_the_first_is_killed(server: Workers) -> None:
    polls = [ends(pid) for pid in server.worker_pids]
    server.kill()  # returns when all have closed the log
    assert all(poll.poll(60_000) for poll in polls)
    assert sum("worker" in line and line.endswith(": stopped") for line in server.log) == N_WORKERS - 1


def begun_downloads(server: Workers, stack: ExitStack) -> dict[int, http.client.HTTPResponse]:
    """By process, the response with a NAR of ``LARGE_BYTES`` that is too long to be under way as a whole."""
    nar = file_nar(bytes(LARGE_BYTES))
    assert put(server, url_of(nar), nar)[0] == 201
    begun: dict[int, http.client.HTTPResponse] = {}
    while begun.keys() != server.pids:
        connection = stack.enter_context(closing(http.client.HTTPConnection("127.0.0.1", server.port)))
        connection.request("GET", f"/{url_of(nar)}")
        response = stack.enter_context(connection.getresponse())
        assert (response.status, response.length) == (200, len(nar))
        pid = serving_pid(connection.sock, server.pids)
        if pid in begun:
            response.close()
            connection.close()
        else:
            begun[pid] = response
    return begun


def test_a_signal_to_all_lets_them_finish(tmp_path: Path) -> None:
    """As service managers send it; each worker then hears of it twice."""
    path = configuration(tmp_path, f"127.0.0.1:{free_port()}", more="drain_s = 3600.0\n")
    with Workers(path) as server, ExitStack() as stack:
        downloads = begun_downloads(server, stack)
        for pid in server.worker_pids:
            os.kill(pid, signal.SIGTERM)
            server.logged(f"worker {pid}: SIGTERM: finishing what is under way")
        os.kill(server.pid, signal.SIGTERM)
        server.logged("once more to end at once")
        for response in downloads.values():
            assert len(response.read()) > LARGE_BYTES
        assert server.status() == 0
        assert not [line for line in server.log if "WARNING" in line]


def test_a_second_signal_ends_all_at_once(tmp_path: Path) -> None:
    path = configuration(tmp_path, f"127.0.0.1:{free_port()}", more="drain_s = 3600.0\n")
    with Workers(path) as server, ExitStack() as stack:
        begun_downloads(server, stack)
        os.kill(server.pid, signal.SIGTERM)
        server.logged("once more to end at once")
        os.kill(server.pid, signal.SIGTERM)
        assert server.status() == 128 + signal.SIGTERM


# --- failures -------------------------------------------------------------------------------------------------------


def failure(config: str, stdin: str = "") -> tuple[int, list[str]]:
    """Exit status and last lines of a run that does not come to serve; it has left nobody who has its stderr open."""
    ran = subprocess.run(
        [_command(), "run", config], input=stdin, capture_output=True, text=True, timeout=120, check=False
    )
    return ran.returncode, [line for line in ran.stderr.splitlines() if line.startswith("error: ")]


def test_a_port_in_use_is_not_shared_by_accident(server: Workers, tmp_path: Path) -> None:
    other = configuration(tmp_path / "other", f"127.0.0.1:{server.port}")
    line = f"error: cannot listen on 127.0.0.1:{server.port}: address already in use"
    assert failure(str(other)) == (1, [line])


def test_a_worker_that_cannot_start_is_a_failure(tmp_path: Path) -> None:
    """Here it cannot read the configuration, which was piped to the first process."""
    text = configuration(tmp_path, f"127.0.0.1:{free_port()}", workers=2).read_text()
    status, lines = failure("/dev/stdin", text)
    assert (status, lines[0]) == (1, "error: /dev/stdin: No such device or address")
    assert re.fullmatch(r"error: frontend 'main': worker \d+ ended with status 2 before it listened", lines[1])


def test_memory_and_sockets_cannot_be_shared(tmp_path: Path) -> None:
    on_socket = configuration(tmp_path, str(tmp_path / "socket"))
    status, (line,) = failure(str(on_socket))
    assert (status, "workers: more than one needs a TCP port" in line) == (2, True)
    in_memory = configuration(tmp_path, f"127.0.0.1:{free_port()}")
    in_memory.write_text(re.sub(r'"fs"\npath = .*', '"memory"', in_memory.read_text()))
    status, (line,) = failure(str(in_memory))
    assert (status, "workers: each would have [blobservices.root] (memory) for itself" in line) == (2, True)
