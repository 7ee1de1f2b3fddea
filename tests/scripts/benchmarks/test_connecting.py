"""Measured for real in test___main__.py."""

import asyncio
import json
import ssl
from types import SimpleNamespace

import pytest

from scripts.benchmarks.connecting import Runner, _connections, _send, connecting_table
from scripts.benchmarks.contestants import Contestant
from scripts.benchmarks.load import BadAnswerError
from scripts.benchmarks.peers import CALLERS_KEY
from scripts.fake_provider import FakeProvider
from scripts.fake_provider.certificate import make_certificate

PATH = "/v1/chat/completions"


def test_clients_connect_for_each_request_and_check_who_answers(tmp_path):
    certificate = make_certificate(tmp_path)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(certificate)
    with FakeProvider(ssl_context=server) as provider:
        process = SimpleNamespace(port=int(provider.origin.rpartition(":")[2]))
        tls = ssl.create_default_context(cafile=str(certificate))
        runner = Runner(Contestant("direct", process, PATH, CALLERS_KEY), process, tls)
        first_bytes = asyncio.run(_send(runner, lambda sample: len(sample) < 20))
        assert runner.sent == len(first_bytes) >= 20
        assert min(first_bytes) > 0
        assert provider.connections_accepted == runner.sent


def test_a_refusal_is_not_measured():
    with FakeProvider() as provider:
        process = SimpleNamespace(port=int(provider.origin.rpartition(":")[2]))
        runner = Runner(Contestant("direct", process, PATH, "x"), process)
        with pytest.raises(ExceptionGroup) as raised:
            asyncio.run(_send(runner, lambda sample: len(sample) < 20))
        assert raised.value.subgroup(BadAnswerError)


def test_a_provider_says_how_many_connections_it_had():
    said = "\n".join(json.dumps(each) for each in ({"origin": "x"}, {"connections": 12}))
    assert _connections(SimpleNamespace(said=said)) == 12


def test_what_is_printed():
    figures = {"cpu_us": 900, "postgres_us": 0, "requests_per_second": 500, "first_byte_ms": 2.5}
    direct = {**figures, "requests": 10, "connections_per_100": 100.0}
    said = connecting_table({"direct": direct, "metrion": {**direct, "connections_per_100": 0.42}})
    assert said.splitlines()[0].startswith("JSON over TLS, 8 new clients")
    assert said.endswith("provider's connections per 100 requests: direct 100.0, metrion 0.4")
