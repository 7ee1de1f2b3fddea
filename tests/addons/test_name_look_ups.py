"""Names of hosts: asked for once at a time, and a silent name server holds up nobody else."""

import asyncio
import socket
import threading
import time

import pytest

from addons import name_look_ups
from addons.event_loop import EventLoop
from addons.name_look_ups import NameLookUps, is_address


@pytest.fixture
def silence(monkeypatch):
    """The name servers of dead.example say nothing until this is set; alive.example is here."""
    ended = threading.Event()
    asked: list[str] = []

    def getaddrinfo(host: str, port: int, *_: int):
        asked.append(host)
        if host == "dead.example":
            ended.wait(20)
            raise socket.gaierror(socket.EAI_AGAIN, "nobody answers")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(name_look_ups.socket, "getaddrinfo", getaddrinfo)
    ended.asked = asked
    yield ended
    ended.set()


async def find(names: NameLookUps, host: str, seconds: float):
    async with asyncio.timeout(seconds):
        return await names.find(host, 80)


async def test_many_who_wait_for_a_silent_one_hold_up_nobody(silence, caplog):
    names = NameLookUps()
    waiting = [asyncio.create_task(find(names, "dead.example", 0.05)) for _ in range(20)]
    await asyncio.sleep(0.1)
    assert (await find(names, "alive.example", 5))[0][4] == ("127.0.0.1", 80)
    assert silence.asked == ["dead.example", "alive.example"]
    ends = await asyncio.gather(*waiting, return_exceptions=True)
    assert {type(end) for end in ends} == {TimeoutError}
    silence.set()
    async with asyncio.timeout(10):
        while names._under_way:
            await asyncio.sleep(0.01)
    with pytest.raises(socket.gaierror):
        await find(names, "dead.example", 5)
    assert silence.asked[2:] == ["dead.example"]
    assert not names._under_way
    assert not caplog.records


async def test_what_is_no_name_is_said_to_be_none():
    with pytest.raises(UnicodeError):
        await NameLookUps().find("a" * 64 + ".example", 80)


def test_a_loop_that_ends_does_not_wait_for_a_name_server(silence):
    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await find(NameLookUps(), "dead.example", 0.02)

    before = time.monotonic()
    asyncio.run(give_up(), loop_factory=EventLoop)
    assert time.monotonic() - before < 5
    silence.set()
    for thread in threading.enumerate():
        if thread.name == "look-up":
            thread.join(5)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("host", "is_one"),
    [("127.0.0.1", True), ("::1", True), ("localhost", False), ("api.example", False), ("", False)],
)
def test_an_address_is_no_name(host, is_one):
    assert is_address(host) == is_one
