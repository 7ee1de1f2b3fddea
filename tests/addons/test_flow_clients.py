"""What does not pass our layer. How connections come and end: tests/addons/test_layer.py."""

import pytest
from mitmproxy.test import tflow

from addons import flow_clients
from addons.flow_clients import FlowClients


@pytest.mark.parametrize("hook", ["requestheaders", "request"])
def test_a_flow_that_did_not_pass_our_layer_is_killed(hook, caplog):
    """A replay, from mitmweb or the console, starts with these hooks."""
    caplog.set_level("INFO")
    foreign, ours = tflow.tflow(), tflow.tflow()
    foreign.live = ours.live = True
    getattr(FlowClients(lambda: True), hook)(foreign)
    assert foreign.error.msg == foreign.error.KILLED_MESSAGE
    ours.metadata["metrion"] = "x"
    ours.comment = "ok"
    getattr(FlowClients(lambda: True), hook)(ours)
    assert (ours.error, ours.comment) == (None, "ok")
    assert not caplog.records
    ours.is_replay = "request"
    getattr(FlowClients(lambda: True), hook)(ours)
    assert ours.error.msg == ours.error.KILLED_MESSAGE
    assert ours.comment == "not replayed · ok"
    assert "Metrion replays nothing" in caplog.text


@pytest.mark.parametrize("way", ["mitmproxy"])
def test_a_connection_that_cannot_be_set_up_is_closed(proxy, connect, monkeypatch, provider):
    def broken(*arguments):
        raise RuntimeError("no layer")

    monkeypatch.setattr(flow_clients, "gateway_layer", broken)
    client = connect()
    client.request("/api/proxy/openai/v1/models", method="GET")
    assert client.is_closed()
    assert not provider.requests
