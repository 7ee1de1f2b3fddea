"""What other addons see: everything of an exchange except its credentials."""

import json
import time

import pytest

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
def client(start_proxy, connect_to, onlooker, provider):
    provider.clear()
    return connect_to(start_proxy(addons=[onlooker]))


def test_a_forwarded_request_is_shown_whole(client, onlooker, chat):
    client.request(PATH, chat(), {"X-Metrion-User": "anna"})
    assert client.response()[0] == 200
    onlooker.wait(4)  # the last is shown while the answer is already on its way
    hooks = [hook for hook, _, _ in onlooker.shown]
    assert hooks == ["requestheaders", "request", "responseheaders", "response"]
    _, state, content = onlooker.shown[-1]
    assert json.loads(state["request"]["content"]) == json.loads(chat())
    assert json.loads(content)["object"] == "chat.completion"
    facts = state["metadata"]["metrion"]
    assert facts["requester"] == "anna"
    assert facts["model"] == "gpt-4o"
    assert facts["output_tokens"] > 0
    assert "gpt-4o" in state["comment"]


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
    assert onlooker.shown[-1][0] == "error"


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
