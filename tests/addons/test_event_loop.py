"""The event loop of a production proxy."""

import asyncio
import contextvars
import socket
import ssl

import pytest

from addons import name_look_ups
from addons.event_loop import EventLoop
from scripts.fake_provider.certificate import make_certificate

_place = contextvars.ContextVar("_place", default="outside")


def run[T](work) -> T:
    return asyncio.run(work, loop_factory=EventLoop)


async def test_what_it_is_compared_with_does_not_begin_at_once():
    task = asyncio.get_running_loop().create_task(asyncio.sleep(0))
    assert not task.done()
    await task


def test_a_task_that_waits_for_nothing_is_done_when_it_has_been_made():
    async def answer() -> int:
        return 42

    async def work() -> int:
        task = asyncio.get_running_loop().create_task(answer(), name="of all questions")
        assert task.done()
        assert task.get_name() == "of all questions"
        return task.result()

    assert run(work()) == 42


def test_a_task_that_waits_goes_on_later_and_in_a_group_too():
    async def work() -> list[str]:
        said: list[str] = []

        async def speak() -> None:
            said.append("began")
            await asyncio.sleep(0)
            said.append("ended")

        async with asyncio.TaskGroup() as group:
            group.create_task(speak())
            said.append("made")
        return said

    assert run(work()) == ["began", "made", "ended"]


def test_mitmproxys_wish_for_eager_tasks_is_as_good_as_granted():
    async def answer() -> int:
        return 42

    async def work() -> None:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(answer())
        assert task.done()
        assert await task == 42

    run(work())


def test_a_task_has_the_context_that_it_is_given():
    async def place() -> str:
        return _place.get()

    async def work() -> str:
        context = contextvars.copy_context()
        context.run(_place.set, "inside")
        return await asyncio.get_running_loop().create_task(place(), context=context)

    assert run(work()) == "inside"


def test_a_failure_of_a_task_is_its_own():
    async def fail() -> None:
        raise ValueError("no")

    async def work() -> BaseException | None:
        task = asyncio.get_running_loop().create_task(fail())
        return task.exception()

    assert isinstance(run(work()), ValueError)


def look_up_as(monkeypatch, *hosts: str) -> None:
    """Every name is that of these addresses."""

    def getaddrinfo(_host: str, port: int, *_: int):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]

    monkeypatch.setattr(name_look_ups.socket, "getaddrinfo", getaddrinfo)


def connected_to(listener: socket.socket, **options) -> str:
    """The address that a connection to api.example has got to."""

    async def work() -> str:
        loop = asyncio.get_running_loop()
        port = listener.getsockname()[1]
        transport, _ = await loop.create_connection(
            asyncio.Protocol, "api.example", port, **options
        )
        address = transport.get_extra_info("peername")[0]
        transport.abort()
        return address

    return run(work())


@pytest.fixture
def listener():
    """Listens at 127.0.0.2, at a port where nobody listens at 127.0.0.1."""
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        with socket.create_server(("127.0.0.2", reserved.getsockname()[1])) as server:
            yield server


def test_the_next_address_is_taken_when_one_takes_no_connections(monkeypatch, listener):
    look_up_as(monkeypatch, "127.0.0.1", "127.0.0.2")
    assert connected_to(listener) == "127.0.0.2"


def test_when_none_does_it_is_said(monkeypatch, listener):
    look_up_as(monkeypatch, "127.0.0.1")
    with pytest.raises(ConnectionRefusedError):
        connected_to(listener)
    look_up_as(monkeypatch)
    with pytest.raises(OSError, match="no address"):
        connected_to(listener)


def test_a_certificate_is_for_the_name_and_not_for_its_address(monkeypatch, tmp_path):
    certificate = make_certificate(tmp_path)  # for 127.0.0.1
    here = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    here.load_cert_chain(certificate)
    trusted = ssl.create_default_context(cafile=certificate)

    async def work() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0, ssl=here)
        port = server.sockets[0].getsockname()[1]
        transport, _ = await loop.create_connection(
            asyncio.Protocol, "127.0.0.1", port, ssl=trusted
        )
        transport.abort()
        with pytest.raises(ssl.SSLCertVerificationError, match=r"api\.example"):
            await loop.create_connection(asyncio.Protocol, "api.example", port, ssl=trusted)
        server.close()

    look_up_as(monkeypatch, "127.0.0.1")
    run(work())


def test_names_are_looked_up_without_libuv(monkeypatch):
    async def work():
        return await asyncio.get_running_loop().getaddrinfo("api.example", 443)

    look_up_as(monkeypatch, "127.0.0.9")
    assert run(work())[0][4] == ("127.0.0.9", 443)
