import asyncio
import ssl
from pathlib import Path

import httpx
import pytest

from scripts.fake_provider import FakeProvider
from scripts.fake_provider.certificate import make_certificate

HEADERS = {"authorization": "Bearer sk-real-0123456789"}


def test_it_stops_and_starts_on_the_same_port():
    with FakeProvider() as provider:
        origin = provider.origin
        with httpx.Client(base_url=origin, headers=HEADERS) as client:
            assert client.get("/v1/models").status_code == 200
            assert provider.connections_open == 1
            assert provider.connections_accepted == 1
            provider.stop()
            with pytest.raises(httpx.TransportError):
                client.get("/v1/models")
            provider.start()
            assert provider.origin == origin
            assert client.get("/v1/models").status_code == 200
        assert len(provider.requests) == 2


def test_several_run_at_once():
    with FakeProvider() as one, FakeProvider() as two:
        assert one.origin != two.origin
        httpx.get(f"{one.origin}/v1/models")
        assert (len(one.requests), len(two.requests)) == (1, 0)


def test_a_taken_port_is_said_at_once():
    with FakeProvider() as provider:
        port = int(provider.origin.rpartition(":")[2])
        with pytest.raises(OSError, match="in use"):
            FakeProvider(port=port).start()


def test_leaks_show():
    with FakeProvider() as provider:
        assert httpx.get(f"{provider.origin}/v1/models", headers=HEADERS).status_code == 200
        assert provider.leaks == []
        httpx.get(f"{provider.origin}/v1/models", headers={"x-metrion-user": "me"})
        assert [leak.leaks for leak in provider.leaks] == [["x-metrion-"]]


async def test_waiting_ends_when_it_is_so_or_too_late():
    with FakeProvider() as provider:
        async with httpx.AsyncClient(base_url=provider.origin) as client:
            answer = asyncio.ensure_future(client.get("/v1/models"))
            await provider.until(lambda it: it.requests)
            await answer
        with pytest.raises(TimeoutError):
            await provider.until(lambda it: len(it.requests) > 1, seconds=0.05)
        with pytest.raises(TimeoutError):
            provider.wait_for(lambda it: len(it.requests) > 1, seconds=0.05)


def test_it_speaks_tls(tmp_path: Path):
    server, client = tls_contexts(tmp_path)
    with FakeProvider(ssl_context=server) as provider:
        assert provider.origin.startswith("https://127.0.0.1:")
        with httpx.Client(base_url=provider.origin, verify=client, headers=HEADERS) as http:
            assert http.get("/v1/models").status_code == 200
            with pytest.raises(httpx.TransportError):
                http.get("/v1/models", headers={"x-fake-close": "head", "x-fake-close-with": "rst"})


def tls_contexts(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's and a client's context for a certificate that is made for the occasion."""
    file = make_certificate(folder)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))
