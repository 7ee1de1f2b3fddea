"""Workers: the sockets they share, shown on small programs. The real ones: tests/e2e."""

import asyncio
import contextlib
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from scripts.console import LogVoice
from scripts.ports import HOST
from scripts.supervision import ChildProcess, Fleet
from scripts.workers import WorkerSockets, logger, worker_spec

# Answers each connection on either socket with its own number, and as ready.
WORKER = """
import selectors, signal, socket, sys
number, files = sys.argv[sys.argv.index("--worker") + 1], sys.argv[sys.argv.index("--listeners") + 1]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
selector = selectors.DefaultSelector()
for each in files.split(","):
    selector.register(socket.socket(fileno=int(each)), selectors.EVENT_READ)
while True:
    for key, _ in selector.select():
        try:
            connection, _ = key.fileobj.accept()
        except BlockingIOError:
            continue
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 1\\r\\n\\r\\n" + number.encode())
        connection.close()
"""


def ask(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


@pytest.fixture
def sockets():
    sockets = WorkerSockets(HOST, 0, 3)
    yield sockets
    sockets.close()


@pytest.fixture
async def fleet():
    fleet = Fleet(LogVoice(logger))
    yield fleet
    await fleet.stop()


@pytest.fixture
def workers(sockets: WorkerSockets, tmp_path: Path) -> list[ChildProcess]:
    command = [sys.executable, "-c", WORKER]
    return [
        ChildProcess(
            worker_spec(sockets, number, command, {}, tmp_path, stop_seconds=5), LogVoice(logger)
        )
        for number in (1, 2, 3)
    ]


async def test_all_have_one_port_and_each_its_own(sockets, fleet, workers):
    await fleet.start(*workers, seconds=20)
    assert list(fleet.pids) == ["proxy-1", "proxy-2", "proxy-3"]
    for number in (1, 2, 3):
        assert await asyncio.to_thread(ask, sockets.ready_url(number)) == str(number)
    url = f"http://{HOST}:{sockets.port}/"
    assert {await asyncio.to_thread(ask, url) for _ in range(60)} <= {"1", "2", "3"}


async def test_who_knocks_while_all_of_them_are_away_waits(sockets, fleet, workers):
    await fleet.start(*workers, seconds=20)
    for worker in workers:
        await worker.stop()
    url = f"http://{HOST}:{sockets.port}/"
    knocking = asyncio.create_task(asyncio.to_thread(ask, url))
    await asyncio.sleep(0.3)
    assert not knocking.done()
    await workers[1].start()
    assert await knocking == "2"


async def test_a_worker_is_replaced(sockets, fleet, workers):
    await fleet.start(*workers, seconds=20)
    before = fleet.pids
    keeping = asyncio.create_task(fleet.keep_running(lambda: None))
    await asyncio.sleep(0)
    await workers[0].stop()
    await workers[0].wait_for_successor(20)
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping
    assert fleet.pids["proxy-1"] != before["proxy-1"]
    assert {name: fleet.pids[name] for name in ("proxy-2", "proxy-3")} == {
        name: before[name] for name in ("proxy-2", "proxy-3")
    }
    assert await asyncio.to_thread(ask, sockets.ready_url(1)) == "1"


def test_a_port_that_is_taken_is_an_error(sockets):
    with pytest.raises(OSError, match="in use"):
        WorkerSockets(HOST, sockets.port, 1)


def test_what_a_worker_is_told(sockets):
    arguments = sockets.arguments(2)
    assert arguments[:2] == ["--worker", "2"]
    assert arguments[3] == ",".join(map(str, sockets.open_files(2)))
    assert len(arguments[5].split(",")) == 3
    assert sockets.ready_url(2) == f"http://{HOST}:{arguments[5].split(',')[1]}/readyz"


def test_closed_sockets_refuse(sockets):
    port = sockets.port
    sockets.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, port), 1)
