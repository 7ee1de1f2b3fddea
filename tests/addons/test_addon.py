"""How mitmproxy is started, and what does not pass our layer. By hand: tests/e2e/test_leaks.py."""

from types import SimpleNamespace

import pytest
from mitmproxy.exceptions import OptionsError
from mitmproxy.test import tflow

from addons import addon
from addons.addon import MetrionAddon, refusal, right_line

RIGHT = {
    "mode": ["reverse:http://metrion.invalid"],
    "server": False,
    "proxy_debug": False,
    "validate_inbound_headers": True,
}


def test_the_right_flags_are_accepted():
    assert refusal(SimpleNamespace(**RIGHT), {}) is None
    with_port = RIGHT | {"mode": ["reverse:http://metrion.invalid@127.0.0.1:9000"]}
    assert refusal(SimpleNamespace(**with_port), {}) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"mode": ["regular"]},
        {"mode": []},
        {"mode": ["reverse:https://api.openai.com"]},
        {"mode": ["reverse:http://metrion.invalid.evil.example"]},
        {"mode": ["reverse:http://metrion.invalid", "regular@9999"]},
        {"mode": ["upstream:http://metrion.invalid"]},
        {"server": True},
        {"proxy_debug": True},
        {"validate_inbound_headers": False},
    ],
    ids=str,
)
def test_wrong_flags_are_refused(wrong):
    assert refusal(SimpleNamespace(**(RIGHT | wrong)), {})


@pytest.mark.parametrize("name", ["SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE"])
def test_key_logs_are_refused(name):
    assert refusal(SimpleNamespace(**RIGHT), {name: "/tmp/keys"})


@pytest.mark.parametrize(
    "wrong",
    [{"mode": ["regular"]}, {"proxy_debug": True}, {"validate_inbound_headers": False}],
    ids=str,
)
async def test_wrong_options_are_refused_at_run_time(proxy, wrong):
    with pytest.raises(OptionsError):
        proxy.master.options.update(**wrong)
    assert all(getattr(proxy.master.options, name) != value for name, value in wrong.items())


@pytest.mark.parametrize("tool", ["mitmdump", "mitmweb", "mitmproxy"])
def test_the_right_line_names_the_tool_that_was_used(tool, monkeypatch):
    monkeypatch.setattr("sys.argv", [f"/somewhere/{tool}", "--mode", "regular"])
    assert right_line() == (
        f"{tool} --mode reverse:http://metrion.invalid --set server=false -s addons/metrion.py"
    )


@pytest.mark.parametrize("hook", ["requestheaders", "request"])
def test_a_flow_that_did_not_pass_our_layer_is_killed(hook):
    """A replay, from mitmweb or the console, starts with these hooks."""
    replayed = tflow.tflow()
    replayed.live = True
    getattr(MetrionAddon(), hook)(replayed)
    assert replayed.error.msg == replayed.error.KILLED_MESSAGE
    ours = tflow.tflow()
    ours.metadata["metrion"] = {"id": "x"}
    getattr(MetrionAddon(), hook)(ours)
    assert ours.error is None
    ours.is_replay = "request"
    getattr(MetrionAddon(), hook)(ours)
    assert ours.error is not None


def test_a_connection_that_cannot_be_set_up_is_closed(proxy, connect, monkeypatch, provider):
    def broken(*arguments):
        raise RuntimeError("no layer")

    monkeypatch.setattr(addon, "gateway_layer", broken)
    client = connect()
    client.request("/api/proxy/openai/v1/models", method="GET")
    assert client.is_closed()
    assert not provider.requests


def test_connections_are_bounded(proxy, connect, monkeypatch):
    monkeypatch.setattr(addon, "MAX_CLIENTS", 2)
    kept = [connect(), connect()]
    for client in kept:
        client.request("/healthz", method="GET")
        assert client.response()[0] == 200
    refused = connect()
    assert refused.is_closed()
    kept[0].close()
    for _ in range(100):  # until the proxy has noticed
        client = connect()
        client.request("/healthz", method="GET")
        if not client.is_closed():
            break
    else:
        pytest.fail("a place that became free was not given away")


@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01\x00"])
def test_a_client_that_never_comes_to_a_request_is_closed(start_proxy, connect_to, sent):
    """Neither a byte, or half a TLS handshake."""
    client = connect_to(start_proxy(timeout_seconds=0.3))
    client.send(sent)
    assert client.is_closed()
