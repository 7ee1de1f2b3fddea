"""Connections off a shared socket, and how all of them end. Real ones: tests/scripts, tests/e2e."""

import asyncio
import errno
import logging
import os
import socket
import time

import pytest

from addons import connections
from addons.connections import Acceptor, drain, open_listener

HOST = "127.0.0.1"


class Greeter(asyncio.Protocol):
    """Says which process it is in."""

    def connection_made(self, transport):
        transport.write(b"%d" % os.getpid())
        transport.close()


@pytest.fixture
def listener():
    listener = socket.create_server((HOST, 0))
    listener.setblocking(False)
    yield listener
    listener.close()


async def ask(port: int) -> bytes:
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        return await reader.read()
    finally:
        writer.close()


class TestAcceptor:
    async def test_it_serves_whoever_comes(self, listener):
        port = listener.getsockname()[1]
        acceptor = Acceptor([listener], Greeter)
        answers = await asyncio.gather(*(ask(port) for _ in range(50)))
        assert answers == [b"%d" % os.getpid()] * 50
        await acceptor.stop()
        with pytest.raises(ConnectionRefusedError):
            await ask(port)

    async def test_what_it_does_not_take_is_for_who_shares_the_socket(self, listener):
        port, shared = listener.getsockname()[1], listener.dup()
        first = Acceptor([listener], Greeter)
        await first.stop()
        knocking = asyncio.create_task(ask(port))
        await asyncio.sleep(0.1)
        assert not knocking.done()
        second = Acceptor([shared], Greeter)
        assert await knocking
        await second.stop()

    async def test_two_that_share_a_socket_both_get_some(self, listener):
        taken = [0, 0]

        def counted(number):
            def make():
                taken[number] += 1
                return Greeter()

            return make

        port = listener.getsockname()[1]
        both = [Acceptor([sock], counted(n)) for n, sock in enumerate((listener, listener.dup()))]
        await asyncio.gather(*(ask(port) for _ in range(40)))
        assert min(taken) >= 10, taken
        for acceptor in both:
            await acceptor.stop()

    async def test_who_was_taken_when_it_stops_is_served(self, listener):
        port = listener.getsockname()[1]
        made = []

        def slow():
            made.append(Greeter())
            return made[-1]

        acceptor = Acceptor([listener], slow)
        client = socket.create_connection((HOST, port))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # accepted, and not yet anybody's
        await acceptor.stop()
        assert len(made) == 1
        client.settimeout(5)
        assert await asyncio.to_thread(client.recv, 100) == b"%d" % os.getpid()
        client.close()

    async def test_without_descriptors_it_tries_again(self, listener, monkeypatch, caplog):
        monkeypatch.setattr(connections, "_PAUSE_SECONDS", 0.05)

        class Short:
            """A listener in a process that has too many files open, twice."""

            failures = 2

            def accept(self):
                if self.failures:
                    self.failures -= 1
                    raise OSError(errno.EMFILE, "Too many open files")
                return listener.accept()

            def fileno(self):
                return listener.fileno()

            def close(self):
                listener.close()

        port = listener.getsockname()[1]
        with caplog.at_level(logging.WARNING):
            acceptor = Acceptor([Short()], Greeter)
            assert await ask(port)
        assert caplog.text.count("no connection can be taken: Too many open files") == 2
        await acceptor.stop()

    async def test_of_a_socket_of_its_own_it_takes_all_that_wait(self, listener):
        made = []

        def counted():
            made.append(Greeter())
            return made[-1]

        port = listener.getsockname()[1]
        clients = [socket.create_connection((HOST, port)) for _ in range(10)]
        acceptor = Acceptor([listener], counted, are_shared=False)
        await acceptor.stop()
        assert len(made) == 10
        for client in clients:
            client.settimeout(5)
            assert await asyncio.to_thread(client.recv, 100) == b"%d" % os.getpid()
            client.close()

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    async def test_a_socket_of_its_own_is_where_it_was_told(self, host):
        with open_listener(host, 0) as listener:
            assert listener.getsockname()[0] == "127.0.0.1"
            assert not listener.getblocking()
            with pytest.raises(OSError, match="in use"):
                open_listener(host, listener.getsockname()[1])


class Client:
    """A connection that rests, or becomes quiet, or never does."""

    def __init__(self, everybody: dict[str, "Client"], name: str, busy_until: float) -> None:
        self._everybody = everybody
        self._name = name
        self._busy_until = busy_until
        self.ended = ""
        everybody[name] = self

    @property
    def is_resting(self) -> bool:
        return self.ended != "" or time.monotonic() >= self._busy_until

    def leave(self) -> None:
        assert self.is_resting
        self.ended = "closed"
        del self._everybody[self._name]

    async def stop(self) -> None:
        self.ended = "cut"


class TestDrain:
    @pytest.fixture(autouse=True)
    def _short(self, monkeypatch):
        monkeypatch.setattr(connections, "REST_SECONDS", 0.1)

    async def drained(self, everybody: dict[str, Client], seconds: float) -> float:
        refused = []
        begun = time.monotonic()
        await drain(lambda: dict(everybody), seconds, lambda: refused.append(time.monotonic()))
        assert len(refused) == 1
        return time.monotonic() - begun

    async def test_nobody_is_there(self):
        assert await self.drained({}, 10) < 0.05

    async def test_who_rests_may_still_ask_for_a_moment(self):
        everybody: dict[str, Client] = {}
        client = Client(everybody, "a", 0)
        assert 0.1 <= await self.drained(everybody, 10) < 1
        assert client.ended == "closed"

    async def test_who_is_busy_ends_first_and_then_rests(self):
        everybody: dict[str, Client] = {}
        client = Client(everybody, "a", time.monotonic() + 0.3)
        assert 0.4 <= await self.drained(everybody, 10) < 2
        assert client.ended == "closed"

    async def test_who_is_busy_for_too_long_is_cut(self, caplog):
        everybody: dict[str, Client] = {}
        busy = Client(everybody, "busy", time.monotonic() + 60)
        quiet = Client(everybody, "quiet", 0)
        assert 0.3 <= await self.drained(everybody, 0.3) < 2
        assert (busy.ended, quiet.ended) == ("cut", "closed")
        assert "still under way" in caplog.text
