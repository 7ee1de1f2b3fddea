"""Whoever debugs the proxy with mitmproxy's own tools sees neither a provider key nor a token.

The tools run by hand, as SPEC section 15 says, beside a deployment and on its data directory. (What
the deployment itself writes is searched when it ends: `Deployment.check_for_leaks`.)
"""

import base64
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

ROOT = Path(__file__).parent.parent.parent
RIGHT_FLAGS = ("--mode", "reverse:http://metrion.invalid", "--set", "server=false")
SCRIPT = ("-s", "addons/metrion.py")
START_SECONDS = 120
OWN_KEY = f"sk-OWN-{'z' * 30}"
PASSWORD = "look"
MESSAGES = [{"role": "user", "content": "Hello there!"}]


def secrets_of(account) -> list[bytes]:
    """The account's keys and token, plain and as they would look inside of base64."""
    plain = [
        *(key.encode() for key in account.keys.values()),
        account.token.encode(),
        OWN_KEY.encode(),
    ]
    return [*plain, *(form for secret in plain for form in in_base64(secret))]


def in_base64(secret: bytes) -> Iterator[bytes]:
    for shift in range(3):
        # without what depends on the neighbours
        yield base64.b64encode(bytes(shift) + secret)[4:-4]


def requests_to(url: str, account, http: httpx.Client) -> Iterator[Callable[[], int]]:
    """Requests of all kinds: in both modes, slow, streamed, echoed, failing, refused."""
    stored = {"authorization": f"Bearer {account.token}"}
    own = {"authorization": f"Bearer {OWN_KEY}", "x-metrion-token": account.token}
    slow = {"x-fake-delay": "1"}
    streamed = {"x-fake-events": "8", "x-fake-interval": "0.1"}
    chat = {"model": "gpt-4o", "messages": MESSAGES}
    message = {"model": "claude-opus-4-1", "max_tokens": 9, "messages": MESSAGES}
    content = {"contents": [{"parts": [{"text": "Hi"}]}]}
    openai, anthropic = "/api/proxy/openai/v1/chat/completions", "/api/proxy/v1/messages"
    gemini = "/api/proxy/gemini/v1beta/models/gemini-2.5-flash:generateContent"

    def post(path: str, headers: dict[str, str], body: Any) -> Callable[[], int]:
        return lambda: http.post(url + path, headers=headers, json=body).status_code

    for credentials in (stored, own):
        yield post(openai, credentials | slow, chat)
        yield post(openai, credentials | streamed, chat | {"stream": True})
        yield post(anthropic, credentials | streamed, message | {"stream": True})
        yield post(openai, credentials | {"x-fake-echo": "1"}, chat)
        yield post(openai, credentials | {"x-fake-echo": "1", "x-fake-status": "500"}, chat)
        yield post(openai, credentials, {"model": "gpt-4o"})
        yield post(openai, credentials | {"x-fake-stall": "head"}, chat)
    yield post(anthropic, {"x-api-key": account.token} | slow, message)
    yield post(gemini, {"x-goog-api-key": account.token} | slow, content)
    yield post(f"{gemini}?key={account.token}", slow, content)
    yield post(f"/api/proxy/{account.token}", stored, chat)
    yield post(openai, stored | {"x-other": account.token, "cookie": f"a={account.token}"}, chat)
    yield post(openai, {"authorization": f"Bearer {account.token}0"}, chat)
    yield post(openai, {"authorization": f"Basic {account.token}"}, chat)
    yield post(openai, {"authorization": f"Bearer {OWN_KEY}"}, chat)


def speak_nonsense(port: int, account) -> None:
    """Heads that cannot be read, with a token in each: parsers like to quote what they refuse."""
    token = account.token.encode()
    for said in (
        token + b"\r\n\r\n",
        b"GET /" + token + b" HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\n" + token + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\nauthorization : Bearer " + token + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: " + token + b"\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\nx: " + token + b"\ny: z\r\n\r\n",
        b"CONNECT " + token + b":443 HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + token,
        b"\x16\x03\x01\x00\xff" + token * 8,
    ):
        with socket.create_connection(("127.0.0.1", port), 5) as client:
            client.sendall(said)
            while client.recv(65536):
                pass
    for fields in (
        [(b"Authorization", b"Bearer " + token)],
        [(b"authorization", b"Bearer \0" + token)],
        [(b"connection", token)],
        [(b"x y", token)],
        [(b":" + token, b"x")],
    ):
        speak_odd_http2(port, fields)


def speak_odd_http2(port: int, fields: list[tuple[bytes, bytes]]) -> None:
    """A well-framed HTTP/2 request with fields that are not allowed."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    anything = H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    http2 = H2Connection(anything)
    http2.initiate_connection()
    head = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a"), (b":path", b"/")]
    http2.send_headers(1, head + fields, end_stream=True)
    with (
        socket.create_connection(("127.0.0.1", port), 5) as plain,
        context.wrap_socket(plain) as client,
    ):
        client.sendall(http2.data_to_send())
        answered = b""
        while not answered.endswith(b"}") and (data := client.recv(65536)):
            answered += data


class Onlooker:
    """Asks mitmweb for everything that it would show, again and again.

    Attributes:
        seen: all that it answered.
        under_way: flows that were looked at before their answer had begun or ended.
    """

    def __init__(self, url: str) -> None:
        self.seen: list[bytes] = []
        self.under_way: set[str] = set()
        self.web = httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {PASSWORD}", "x-xsrftoken": "x"},
            cookies={"_mitmproxy_xsrf": "x"},
        )

    def get(self, path: str) -> httpx.Response:
        answer = self.web.get(path)
        self.seen.append(answer.content)
        return answer

    def flows(self) -> list[dict[str, Any]]:
        return self.get("/flows").json()

    def look(self) -> None:
        """One round."""
        for path in ("/events", "/state", "/flows/dump"):
            assert self.get(path).status_code == 200
        for flow in self.flows():
            if not flow.get("error") and not flow.get("response", {}).get("timestamp_end"):
                self.under_way.add(flow["id"])
            self.look_at(flow["id"])

    def look_at(self, flow: str) -> None:
        for message in ("request", "response"):
            self.get(f"/flows/{flow}/{message}/content.data")
            self.get(f"/flows/{flow}/{message}/content/auto.json")

    def call(self, command: str, *arguments: str) -> Any:
        """Run one of mitmproxy's commands."""
        answer = self.web.post(f"/commands/{command}", json={"arguments": arguments})
        assert answer.status_code == 200
        self.seen.append(answer.content)
        return answer.json()


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    """For requests of many threads."""
    with httpx.Client(verify=False, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def tools(run, folder, web_port):
    """Both tools with the right flags, started at once because each takes seconds."""
    # `-v` would set flow_detail back to 2
    loud = ("--set", "flow_detail=4", "--set", "termlog_verbosity=debug")
    web = ("--set", "web_open_browser=false", "--set", f"web_password={PASSWORD}")
    return {
        "mitmdump": run("mitmdump", *RIGHT_FLAGS, *SCRIPT, *loud, "-w", str(folder / "flows")),
        "mitmweb": run("mitmweb", *RIGHT_FLAGS, *SCRIPT, *web, "--set", f"web_port={web_port}"),
    }


@pytest.fixture
def mitmdump(tools, eventually):
    eventually(tools["mitmdump"].is_listening, START_SECONDS)
    return tools["mitmdump"]


@pytest.fixture
def mitmweb(tools, eventually):
    eventually(tools["mitmweb"].is_listening, START_SECONDS)
    return tools["mitmweb"]


@pytest.fixture
def onlooker(mitmweb, web_port) -> Iterator[Onlooker]:
    """Somebody who looks at mitmweb."""
    looking = Onlooker(f"http://127.0.0.1:{web_port}")
    yield looking
    looking.web.close()


def test_mitmdump_prints_and_writes_no_secret(mitmdump, http, account, folder, provider):
    with ThreadPoolExecutor(32) as threads:
        pending = [threads.submit(ask) for ask in requests_to(mitmdump.url, account, http)]
        statuses = [request.result() for request in pending]
    speak_nonsense(mitmdump.port, account)
    assert statuses.count(200) >= 10
    assert {400, 401, 404, 500, 504} <= set(statuses)
    assert provider.requests
    assert not provider.leaks
    mitmdump.stop()
    for file in (mitmdump.output, folder / "flows"):
        content = file.read_bytes()
        assert b"Hello there!" in content  # there was something to see
        assert b"put in by Metrion" in content
        assert not [secret for secret in secrets_of(account) if secret in content]


def test_mitmweb_shows_no_secret(mitmweb, http, onlooker, account, folder, provider, eventually):
    with ThreadPoolExecutor(32) as threads:
        pending = [threads.submit(ask) for ask in requests_to(mitmweb.url, account, http)]
        while not all(request.done() for request in pending):
            onlooker.look()
    speak_nonsense(mitmweb.port, account)
    assert [request.result() for request in pending].count(200) >= 10
    onlooker.look()
    flows = onlooker.flows()
    assert len(flows) >= len(pending)
    assert len(onlooker.under_way) >= 10

    # everything that mitmproxy can make of a flow
    for flow in flows:
        for form in ("curl", "httpie", "raw_request", "raw_response"):
            onlooker.call("export", form, f"@{flow['id']}")
    onlooker.call("save.har", "@all", str(folder / "all.har"))
    onlooker.seen += [(folder / "all.har").read_bytes(), mitmweb.output.read_bytes()]
    everything = b"\n".join(onlooker.seen)
    assert everything.count(b': "curl -H') > 10
    assert b"put in by Metrion" in everything
    assert not [secret for secret in secrets_of(account) if secret in everything]

    # a replay does not pass our layer, so it goes nowhere; nor does one of what was saved
    before = len(provider.requests)
    onlooker.call("replay.client", "@all")
    eventually(lambda: onlooker.call("replay.client.count") == {"value": 0})
    saved = onlooker.get("/flows/dump").content
    onlooker.web.post("/flows/dump", content=saved)
    onlooker.call("replay.client", "@all")
    eventually(lambda: onlooker.call("replay.client.count") == {"value": 0})
    replayed = onlooker.flows()
    assert len(replayed) == len(flows)
    assert {flow["is_replay"] for flow in replayed} == {"request"}
    assert {flow["error"]["msg"] for flow in replayed} == {"Connection killed."}
    assert all(flow["comment"].startswith("not replayed · ") for flow in replayed)
    assert len(provider.requests) == before

    # and it cannot be talked into more at run time
    for wish in (
        {"proxy_debug": True},
        {"mode": ["regular"]},
        {"mode": [f"reverse:{mitmweb.url}"]},
    ):
        onlooker.web.put("/options", json=wish)
    options = onlooker.get("/options").json()
    assert options["proxy_debug"]["value"] is False
    assert options["mode"]["value"] == ["reverse:http://metrion.invalid"]
    mitmweb.stop()


WRONG: dict[str, tuple[list[str], dict[str, str]]] = {
    "no mode": (["--set", "server=false"], {}),
    "no server=false": (["--mode", "reverse:http://metrion.invalid"], {}),
    "replay": ([*RIGHT_FLAGS, "--set", f"server_replay={os.devnull}"], {}),
    "proxy_debug": ([*RIGHT_FLAGS, "--set", "proxy_debug=true"], {}),
    "key log": ([*RIGHT_FLAGS], {"SSLKEYLOGFILE": os.devnull}),
}


def test_with_wrong_flags_they_refuse_and_say_the_right_line(run, provider, account):
    # all combinations, without starting anything: tests/addons/test_addon.py
    tools = {
        name: run("mitmdump", *flags, *SCRIPT, **variables)
        for name, (flags, variables) in WRONG.items()
    }
    with ThreadPoolExecutor() as threads:
        attempts = [threads.submit(knock, tool, account) for tool in tools.values()]
    assert [attempt.result() for attempt in attempts] == [[]] * len(tools)
    for name, tool in tools.items():
        assert tool.process.returncode not in (0, None), name
        line = (
            "mitmdump --mode reverse:http://metrion.invalid --set server=false -s addons/metrion.py"
        )
        assert line in tool.said, tool.said
        assert "Traceback" not in tool.said, tool.said
    assert not provider.requests


def knock(tool, account) -> list[bytes]:
    """Send requests until the tool has ended; returns the answers, if there are any."""
    answers: list[bytes] = []
    head = (
        f"GET /api/proxy/openai/v1/models HTTP/1.1\r\nhost: a\r\nx-api-key: {account.token}\r\n\r\n"
    )
    deadline = time.monotonic() + START_SECONDS
    while tool.process.poll() is None:
        assert time.monotonic() < deadline, f"it runs\n{tool.said}"
        try:
            with socket.create_connection(("127.0.0.1", tool.port), 5) as client:
                client.sendall(head.encode())
                answers += [answer] if (answer := client.recv(65536)) else []
        except OSError:
            time.sleep(0.05)
    return answers
