"""How mitmproxy is started, and what those who look see. By hand: tests/e2e/test_leaks.py."""

import time
from types import SimpleNamespace

import pytest
from mitmproxy import contentviews
from mitmproxy.addons.view import View
from mitmproxy.exceptions import OptionsError
from mitmproxy.test import tflow

from addons import addon, production
from addons.addon import MetrionAddon, refusal, right_line
from addons.bounded_view import BoundedView

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
        {"client_replay": ["flows"]},
        {"server_replay": ["flows"]},
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
    [
        {"mode": ["regular"]},
        {"proxy_debug": True},
        {"validate_inbound_headers": False},
        {"server_replay": ["flows"]},
    ],
    ids=str,
)
@pytest.mark.parametrize("way", ["mitmproxy"])
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


@pytest.mark.parametrize("hook", ["requestheaders", "request", "response", "error"])
def test_a_flow_that_is_read_from_a_file_is_left_alone(hook):
    read = tflow.tflow(resp=True)
    read.live = False
    addon = MetrionAddon()
    getattr(addon, hook)(read)
    assert read.error is None
    assert len(addon._commands.rows()) == 1  # the heads of the columns


async def test_a_defect_at_the_start_is_said_and_ends_it(monkeypatch, caplog):
    """Nobody awaits the start: it would wait for ever, with no listener and no word."""

    def broken():
        raise RuntimeError("no service")

    said = []
    monkeypatch.setattr(addon, "_give_up", said.append)
    await MetrionAddon(broken)._open()
    assert said == ["Metrion does not start: this is a defect of Metrion"]
    assert "no service" in caplog.text


class TestThoseWhoLook:
    PATH = "/api/proxy/openai/v1/chat/completions"

    @pytest.fixture
    def view(self):
        return View()

    @pytest.fixture
    def proxy(self, start_proxy, view):
        return start_proxy(addons=[view])

    def ask(self, proxy, client, chat, count):
        for _ in range(count):
            client.request(self.PATH, chat())
            assert client.response()[0] == 200
        deadline = time.monotonic() + 5
        while len(proxy.addon._commands.rows(1000)) <= count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def test_rows_can_be_listed(self, proxy, client, chat):
        self.ask(proxy, client, chat, 2)
        client.request("/healthz", method="GET")
        client.response()
        head, *rows = proxy.master.commands.call_strings("metrion.rows", [])
        assert len(rows) == 2  # a probe has none
        newest = dict(zip(head, rows[0], strict=True))
        assert newest["id"] == proxy.rows.rows[-1]["id"]
        assert newest["cost_usd"] == "0.000123"

    def test_the_view_keeps_the_newest(self, proxy, client, chat, view):
        proxy.addon._bounded = BoundedView(max_flows=2)
        self.ask(proxy, client, chat, 4)
        shown = [flow.metadata["metrion"] for flow in view]
        assert shown == [row["id"] for row in proxy.rows.rows[-2:]]

    def test_streams_have_their_view(self, proxy):
        assert "metrion" in contentviews.registry


def test_connections_are_bounded(proxy, connect, monkeypatch):
    for module in (addon, production):
        monkeypatch.setattr(module, "MAX_CLIENTS", 2)
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
