"""What other addons see: everything of an exchange except its credentials."""

import gzip
import json
import time

import brotli
import pytest

from addons import inspection
from addons.inspection import _Body

PATH = "/api/proxy/openai/v1/chat/completions"
TOKEN = "sk-metrion-" + "0123456789abcdef" * 2


class Onlooker:
    """Stands for mitmweb, `-w`, any addon: keeps all that it is shown."""

    def __init__(self):
        self.shown = []

    def _see(self, hook, flow):
        self.shown.append((hook, flow.get_state(), flow.response and flow.response.raw_content))

    def wait(self, count):
        deadline = time.monotonic() + 5
        while len(self.shown) < count:
            assert time.monotonic() < deadline, self.shown
            time.sleep(0.005)

    def requestheaders(self, flow):
        self._see("requestheaders", flow)

    def request(self, flow):
        self._see("request", flow)

    def responseheaders(self, flow):
        self._see("responseheaders", flow)

    def response(self, flow):
        self._see("response", flow)

    def error(self, flow):
        self._see("error", flow)


@pytest.fixture
def onlooker():
    return Onlooker()


@pytest.fixture
def proxy(start_proxy, onlooker, provider):
    provider.clear()
    return start_proxy(addons=[onlooker])


@pytest.fixture
def client(proxy, connect_to):
    return connect_to(proxy)


def test_a_forwarded_request_is_shown_whole(client, onlooker, chat, proxy):
    client.request(PATH, chat(), {"X-Metrion-User": "anna"})
    assert client.response()[0] == 200
    onlooker.wait(4)  # the last is shown while the answer is already on its way
    hooks = [hook for hook, _, _ in onlooker.shown]
    assert hooks == ["requestheaders", "request", "responseheaders", "response"]
    _, state, content = onlooker.shown[-1]
    assert json.loads(state["request"]["content"]) == json.loads(chat())
    assert json.loads(content)["object"] == "chat.completion"
    facts = state["metadata"]
    assert facts["metrion.requester"] == "anna"
    assert facts["metrion.model"] == "gpt-4o"
    assert facts["metrion.output_tokens"] > 0
    assert facts["metrion.cost_usd"] == "0.000123000000"
    assert state["comment"].startswith("ok · openai gpt-4o · ")
    assert str(proxy.service.account_id) in state["comment"]
    assert state["marked"] == ""


def test_times_are_the_exchanges_own(client, onlooker, chat):
    client.request(PATH, chat(), {"x-fake-delay": "0.2"})
    client.response()
    onlooker.wait(4)
    states = [state for _, state, _ in onlooker.shown]
    assert states[2]["response"]["timestamp_end"] is None  # it is still coming
    request, response = states[-1]["request"], states[-1]["response"]
    moments = [
        *(request["timestamp_start"], request["timestamp_end"]),
        *(response["timestamp_start"], response["timestamp_end"]),
    ]
    assert moments == sorted(moments)
    assert response["timestamp_start"] - request["timestamp_end"] > 0.19
    assert states[-1]["metadata"]["metrion.latency_ms"] > 190
    assert states[-1]["server_conn"]["peername"]


def test_a_stream_is_readable_afterwards(client, onlooker, chat):
    client.request(PATH, chat(stream=True))
    client.response()
    onlooker.wait(4)
    assert onlooker.shown[-1][2].endswith(b"data: [DONE]\n\n")


def test_refusals_and_failures_are_shown(client, onlooker, chat):
    client.request(PATH, b"{")
    client.response()
    onlooker.wait(2)
    assert [hook for hook, _, _ in onlooker.shown] == ["requestheaders", "response"]
    client.request(PATH, chat(stream=True), {"x-fake-close": "2"})
    client.head()
    with pytest.raises(EOFError):
        list(client.chunks())
    onlooker.wait(6)
    hook, state, _ = onlooker.shown[-1]
    assert (hook, state["error"]["msg"]) == ("error", "upstream_closed")
    assert state["comment"].startswith("upstream_closed · openai gpt-4o · ")
    assert state["marked"] == ":boom:"


def test_somebody_unknown_is_shown_as_refused(client, onlooker, chat):
    client.request(PATH, chat(), {"Authorization": "Bearer nonsense"})
    assert client.response()[0] == 401
    onlooker.wait(2)
    _, state, _ = onlooker.shown[-1]
    assert state["comment"].startswith("refused · openai chat/completions · This is not a Metrion")
    assert state["marked"] == ":no_entry:"
    assert "metrion.mode" not in state["metadata"]


def test_a_probe_is_shown_as_what_it_is(client, onlooker):
    client.request("/healthz", method="GET")
    client.response()
    onlooker.wait(2)
    assert onlooker.shown[-1][1]["comment"] == "ok · GET /healthz"


def test_a_defect_in_the_middle_of_an_answer_ends_the_flow(proxy, client, onlooker, chat):
    def broken(*arguments):
        raise RuntimeError("no data")

    proxy.gateway.responsedata = broken
    client.request(PATH, chat(stream=True))
    client.head()
    with pytest.raises(EOFError):
        list(client.chunks())
    onlooker.wait(4)
    hook, state, _ = onlooker.shown[-1]
    assert (hook, state["error"]["msg"]) == ("error", "Metrion failed")


def test_what_goes_wrong_with_a_picture_stays_with_the_picture(
    proxy, client, onlooker, chat, monkeypatch, caplog
):
    def broken(*arguments):
        raise RuntimeError(f"cannot paint {TOKEN}")

    monkeypatch.setattr(inspection, "sentence", broken)
    for _ in range(2):
        client.request(PATH, chat())
        assert client.response()[0] == 200
    assert "A flow cannot be shown: RuntimeError" in caplog.text
    assert TOKEN not in caplog.text


def test_odd_paths_are_shown_as_they_came(client, onlooker):
    for path in ("//evil.example/x", "/[::1", "/@:x"):
        client.request(path, method="GET")
        assert client.response()[0] in (400, 404)
    onlooker.wait(6)
    shown = [state["request"]["path"] for hook, state, _ in onlooker.shown if hook == "response"]
    assert shown == [b"//evil.example/x", b"/[::1", b"/@:x"]


def test_long_bodies_are_shown_in_part(client, onlooker, provider, monkeypatch):
    monkeypatch.setattr(inspection, "SHOWN_MAX_BYTES", 1000)
    body = json.dumps({"model": "m", "messages": [{"content": "x" * 5000}]}).encode()
    client.request(PATH, body, {"x-fake-big": "9000"})
    assert len(client.response()[2]) >= 9000
    assert provider.requests[-1].body == body
    onlooker.wait(4)
    _, state, content = onlooker.shown[-1]
    note = b"(Metrion shows the beginning of %d bytes)"
    assert state["request"]["content"] == body[:1000] + b"\n" + note % len(body)
    assert content[1000:].startswith(b"\n(Metrion shows the beginning of ")


def test_what_looks_like_a_key_is_masked_wherever_it_stands(client, onlooker, chat):
    secret = "sk-" + "Other" * 6
    body = chat(messages=[{"role": "user", "content": f"my key is {secret} and {TOKEN}"}])
    client.request(f"{PATH}?api={secret}", body, {"x-other": f"a {secret}", "x-fake-echo": "1"})
    answer = client.response()[2]
    assert secret.encode() in answer  # it is what the provider said: the client gets it
    onlooker.wait(4)
    assert secret not in repr(onlooker.shown)
    assert TOKEN not in repr(onlooker.shown)
    _, state, content = onlooker.shown[-1]
    assert b"my key is *****" in state["request"]["content"]
    assert len(state["request"]["content"]) == len(body)
    assert len(content) == len(answer)


def test_no_credential_is_ever_shown(client, onlooker, chat):
    for knobs in (
        {},
        {"x-fake-echo": "1"},
        {"Authorization": "", "x-api-key": TOKEN},
        {"x-fake-status": "401", "x-fake-echo": "1"},
        {"x-fake-stall": "head"},
        {"Cookie": f"session={TOKEN}"},
    ):
        client.request(PATH, chat(), knobs)
        client.response()
    client.request(f"{PATH}?key={TOKEN}", chat(), {"Authorization": ""})
    client.response()
    for path in (f"/nowhere?key={TOKEN}", f"/api/proxy/{TOKEN}"):
        client.request(path, chat())
        assert client.response()[0] == 404
    assert len(onlooker.shown) > 20
    assert "CANARY" not in repr(onlooker.shown)
    assert TOKEN not in repr(onlooker.shown)


def test_what_an_addon_does_to_a_flow_changes_nothing_on_the_wire(
    start_proxy, connect_to, provider, chat
):
    class Meddler:
        def request(self, flow):
            flow.request.host = "evil.example"
            flow.request.headers["x-evil"] = "1"
            flow.request.content = b"{}"

        def responseheaders(self, flow):
            flow.response.status_code = 500

    provider.clear()
    client = connect_to(start_proxy(addons=[Meddler()]))
    client.request(PATH, chat())
    assert client.response()[0] == 200
    assert b"x-evil" not in provider.requests[0].head
    assert provider.requests[0].body == chat()


class TestBody:
    def test_what_is_compressed_is_shown_readable(self):
        said = json.dumps({"said": "sk-" + "Other" * 6}).encode()
        for encoding, compressed in (("gzip", gzip.compress(said)), ("br", brotli.compress(said))):
            body = _Body()
            body.add(compressed)
            assert body.shown(encoding) == b'{"said": "' + b"*" * 33 + b'"}'

    def test_a_bomb_stays_small(self):
        body = _Body()
        body.add(gzip.compress(bytes(64 * 1024 * 1024)))
        assert len(body.shown("gzip")) < inspection.SHOWN_MAX_BYTES + 100

    @pytest.mark.parametrize("encoding", ["gzip", "lzma", "gzip, br"])
    def test_what_cannot_be_read_is_not_shown(self, encoding):
        body = _Body()
        body.add(b"\xffsk-metrion-0123456789")
        assert body.shown(encoding).startswith(b"(compressed with ")
        assert b"0123456789" not in body.shown(encoding)

    def test_memory_is_bounded(self):
        body = _Body()
        for _ in range(5):
            body.add(bytes(inspection.SHOWN_MAX_BYTES))
        assert sum(map(len, body._chunks)) == inspection.SHOWN_MAX_BYTES
        assert b"beginning of 5242880 bytes" in body.shown("identity")
