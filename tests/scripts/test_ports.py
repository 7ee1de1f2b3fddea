import asyncio
import socket

import pytest

from scripts import ports
from scripts.ports import HOST, claim_port, is_listening
from storage.errors import SettingsError


@pytest.fixture
def taken():
    with socket.create_server((HOST, 0)) as listener:
        yield listener.getsockname()[1]


def test_zero_is_any_free_port():
    port = claim_port(0, "")
    assert claim_port(port, "") == port


def test_a_taken_port_is_said(taken: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ports, "_PATIENCE_SECONDS", 0.05)
    with pytest.raises(SettingsError, match=f"port {taken} is taken: choose another --api-port"):
        claim_port(taken, "--api-port")


async def test_a_port_that_becomes_free_is_waited_for():
    with socket.create_server((HOST, 0)) as listener:
        port = listener.getsockname()[1]
        asyncio.get_running_loop().call_later(0.2, listener.close)
        assert await asyncio.to_thread(claim_port, port, "") == port


async def test_who_listens(taken: int):
    assert await is_listening(taken)
    assert not await is_listening(claim_port(0, ""))
