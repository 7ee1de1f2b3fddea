"""What a balancer and Prometheus ask the proxy process."""

import json
import uuid
from datetime import UTC, datetime

import pytest
from prometheus_client import CollectorRegistry, Histogram

from addons.exchange import Exchange, Marks
from addons.fellow_workers import Fellows
from addons.outcome import Outcome
from addons.probes import Probes, RequestMetrics


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
    return Exchange(
        str(uuid.uuid4()), now, "GET", path, query, [], "", http2=False, marks=Marks(0.0)
    )


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


def test_times_fall_into_the_buckets_that_prometheus_would_put_them_into():
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry)
    name, bounds = "metrion_overhead_seconds", (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1)
    theirs = CollectorRegistry()
    histogram = Histogram(name, "", ["provider"], buckets=(*bounds, 0.5), registry=theirs)
    # below the first, on a bound, just above one, above the last
    for milliseconds in (0.0, 0.5, 0.501, 1.0, 3.3, 500.0, 500.001, 9000.0):
        metrics.timed("openai", 250.0, milliseconds)
        histogram.labels("openai").observe(milliseconds / 1000)
    metrics.timed("openai", None, 1.0)
    metrics.timed("openai", 1.0, None)
    for bound in (*bounds, 0.5, "+Inf"):
        labels = {"provider": "openai", "le": str(bound)}
        expected = theirs.get_sample_value(f"{name}_bucket", labels)
        assert expected is not None
        assert registry.get_sample_value(f"{name}_bucket", labels) == expected
    labels = {"provider": "openai"}
    for figure in ("sum", "count"):
        expected = theirs.get_sample_value(f"{name}_{figure}", labels)
        assert registry.get_sample_value(f"{name}_{figure}", labels) == pytest.approx(expected)
    assert registry.get_sample_value("metrion_request_seconds_count", labels) == 8


def test_each_provider_outcome_and_code_is_counted_by_itself():
    registry = CollectorRegistry()
    metrics = RequestMetrics(registry)
    for provider, outcome in (("openai", Outcome.OK), ("openai", Outcome.OK), ("grok", Outcome.OK)):
        metrics.forwarded()
        metrics.ended(provider, outcome, was_forwarded=True)
    metrics.forwarded()
    metrics.ended("openai", Outcome.REFUSED, was_forwarded=False)
    for code in ("rate_limited", "rate_limited", "invalid_token"):
        metrics.refused(code)

    def told(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    assert told("metrion_requests_total", provider="openai", outcome="ok") == 2
    assert told("metrion_requests_total", provider="grok", outcome="ok") == 1
    assert told("metrion_requests_total", provider="openai", outcome="refused") == 1
    assert told("metrion_own_answers_total", code="rate_limited") == 2
    assert told("metrion_own_answers_total", code="invalid_token") == 1
    assert told("metrion_requests_open") == 1
