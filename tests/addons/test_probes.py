"""What a balancer and Prometheus ask the proxy process."""

import json
import uuid
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry

from addons.exchange import Exchange, Marks
from addons.fellow_workers import Fellows
from addons.probes import Probes


def test_health_readiness_and_metrics_need_no_token(proxy, client, chat):
    client.request("/healthz", method="GET", headers={"Authorization": ""})
    status, _, body = client.response()
    assert (status, json.loads(body)) == (200, {"status": "ok"})
    client.request("/readyz", method="GET")
    status, _, body = client.response()
    assert (status, json.loads(body)) == (200, {"status": "ok", "database": "listening"})
    client.request("/api/proxy/openai/v1/chat/completions", chat())
    client.response()
    client.request("/api/proxy/openai/v1/chat/completions", b"{")
    client.response()
    client.request("/metrics", method="GET")
    status, headers, body = client.response()
    assert status == 200
    assert headers["content-type"].startswith("text/plain")
    assert b'metrion_requests_total{outcome="ok",provider="openai"} 1.0' in body
    assert b'metrion_requests_total{outcome="refused",provider="openai"} 1.0' in body
    assert b'metrion_own_answers_total{code="invalid_request"} 1.0' in body
    assert b"metrion_requests_open 0.0" in body
    assert len(proxy.rows.rows) == 2  # probes leave no rows


def test_a_stopping_process_is_not_ready_and_refuses(proxy, client, chat, provider):
    proxy.gateway.is_stopping = True
    client.request("/readyz", method="GET")
    assert client.response()[0] == 503
    client.request("/healthz", method="GET")
    assert client.response()[0] == 200
    client.request("/api/proxy/openai/v1/chat/completions", chat())
    status, headers, _ = client.response()
    assert (status, headers["retry-after"], headers["x-metrion-error"]) == (503, "1", "unavailable")
    assert not provider.requests


def test_probes_are_for_get_alone(client):
    client.request("/metrics", b"{}")
    assert client.response()[0] == 404


def probe(path: str) -> Exchange:
    path, _, query = path.partition("?")
    now = datetime.now(UTC)
    return Exchange(uuid.uuid4(), now, "GET", path, query, [], "", http2=False, marks=Marks(0.0))


@pytest.mark.parametrize("shares", [True, False])
async def test_readiness_says_whether_limits_are_shared(shares):
    probes = Probes(CollectorRegistry(), lambda: False, lambda: True, lambda: shares)
    answer = await probes.answer(probe("/readyz"))
    assert answer.status == 200  # also without: taking every process away would help nobody
    assert json.loads(answer.body)["limits"] == (
        "shared" if shares else "not shared: Valkey is away"
    )


async def test_a_worker_that_is_not_there_has_no_metrics():
    fellows = Fellows(1, [1])
    probes = Probes(CollectorRegistry(), lambda: False, lambda: True, None, fellows)
    assert (await probes.answer(probe("/metrics"))).status == 200
    assert (await probes.answer(probe("/metrics?worker=1"))).status == 200
    assert (await probes.answer(probe("/metrics?worker=2"))).status == 404
