"""mitmproxy behind a proxy of ours. Requests over it: tests/addons/direct/test_server.py."""

import asyncio
import logging
import ssl
from concurrent.futures import ThreadPoolExecutor

import pytest
from mitmproxy import certs

from addons import tls_server


@pytest.fixture
def way() -> str:
    """The way of the proxies of these tests."""
    return "direct"


def test_of_several_that_need_an_authority_one_makes_it(tmp_path, monkeypatch):
    made = []
    make = certs.CertStore.create_store

    def counted(*arguments):
        made.append(arguments)
        make(*arguments)

    monkeypatch.setattr(certs.CertStore, "create_store", counted)
    with ThreadPoolExecutor() as pool:
        list(pool.map(tls_server.prepare, [tmp_path / "mitmproxy"] * 3))
    assert len(made) == 1
    assert (tmp_path / "mitmproxy" / "mitmproxy-ca.pem").stat().st_mode & 0o777 == 0o600


def test_lines_about_every_connection_are_not_made(tmp_path):
    tls_server.prepare(tmp_path)
    assert not logging.getLogger("mitmproxy.proxy.server").isEnabledFor(logging.INFO)


def test_it_has_the_addons_that_connections_need_and_no_more(proxy):
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    async def come_and_stay():
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.port, ssl=context)
        server = proxy.addon._tls
        names = [type(each).__name__ for each in server._master.addons.chain]
        assert names == ["FlowClients", "Proxyserver", "NextLayer", "TlsConfig"]
        assert (server.clients, len(server.held())) == (1, 1)
        closing = asyncio.run_coroutine_threadsafe(proxy.addon.drain(0.1), proxy._loop)
        await asyncio.wrap_future(closing)
        proxy.stop()  # who is left is closed
        assert not server.held()
        writer.close()

    asyncio.run(come_and_stay())
