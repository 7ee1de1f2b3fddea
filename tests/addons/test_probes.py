"""What a balancer and Prometheus ask the proxy process."""

import json


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
