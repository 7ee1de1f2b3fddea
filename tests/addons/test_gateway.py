"""The rules of a request's way: credentials, headers, bodies, own answers, CORS, rows."""

import contextlib
import gzip
import json
import socket
import time
import uuid
import zlib

import brotli
import pytest
import zstandard

from addons import validation
from addons.providers import load_providers

TOKEN = "sk-metrion-" + "0123456789abcdef" * 2
OTHER_TOKEN = "sk-metrion-" + "fedcba9876543210" * 2
FREE_TOKEN = "sk-metrion-" + "f" * 32
AWAY_TOKEN = "sk-metrion-" + "a" * 32
UNKNOWN_TOKEN = "sk-metrion-" + "00" * 16
PATH = "/api/proxy/openai/v1/chat/completions"
KEY = b"sk-REAL-openai-CANARYCANARY0123456789"
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}

# One POST endpoint of each provider, with a body that it takes.
PATHS = {
    "openai": PATH,
    "anthropic": "/api/proxy/v1/messages",
    "gemini": "/api/proxy/gemini/v1beta/models/gemini-2.5-flash:generateContent",
    "mistral": "/api/proxy/mistral/v1/chat/completions",
    "grok": "/api/proxy/grok/v1/chat/completions",
}
BODIES = dict.fromkeys(("openai", "mistral", "grok"), CHAT) | {
    "anthropic": {**CHAT, "max_tokens": 10},
    "gemini": {"contents": [{"parts": [{"text": "hi"}]}]},
}
SHAPES = {p.name: p.error_shape for p in load_providers()}


def own_error(provider: str, status: int, headers: dict[str, str], body: bytes) -> str:
    """Check the shape of an own error; returns its code."""
    error = json.loads(body)
    uuid.UUID(headers["x-metrion-request-id"])
    assert headers["content-type"] == "application/json"
    if SHAPES[provider] == "anthropic":
        assert error["type"] == "error"
        assert error["error"].keys() == {"type", "message"}
        assert error["request_id"] == headers["x-metrion-request-id"]
    elif SHAPES[provider] == "gemini":
        assert error["error"].keys() == {"code", "message", "status"}
        assert error["error"]["code"] == status
    else:
        assert error["error"].keys() == {"message", "type", "code", "param"}
        assert error["error"]["code"] == headers["x-metrion-error"]
    assert error["error"]["message"]
    assert "sk-metrion-0" not in body.decode()
    return headers["x-metrion-error"]


# What is sent (headers, body), and what is answered: one row per line of the SPEC's error table.
REFUSALS = {
    "not JSON": ({}, b"{", 400, "invalid_request"),
    "not an object": ({}, b"[]", 400, "invalid_request"),
    "empty": ({}, b"", 400, "invalid_request"),
    "a repeated key": ({}, b'{"model":"a","model":"b","messages":[]}', 400, "invalid_request"),
    "a field is missing": ({}, b"{}", 400, "invalid_request"),
    "two credentials": ({"x-api-key": OTHER_TOKEN}, None, 400, "invalid_request"),
    "no credential": ({"authorization": ""}, None, 401, "invalid_token"),
    "another scheme": ({"authorization": "Basic eDp5"}, None, 401, "invalid_token"),
    "a malformed token": ({"authorization": "Bearer sk-metrion-x"}, None, 401, "invalid_token"),
    "an unknown token": ({"authorization": f"Bearer {UNKNOWN_TOKEN}"}, None, 401, "invalid_token"),
    "an own key alone": ({"authorization": "Bearer sk-own"}, None, 401, "invalid_token"),
    "no stored key": ({"authorization": f"Bearer {OTHER_TOKEN}"}, None, 401, "provider_key_missing"),
    "an unlisted origin": ({"origin": "https://evil.example"}, None, 403, "origin_not_allowed"),
    "too long": ({"content-length": "1001"}, None, 413, "request_too_large"),
    "the month is used up": ({"authorization": f"Bearer {FREE_TOKEN}"}, None, 429, "monthly_limit"),
    "the database is away": ({"authorization": f"Bearer {AWAY_TOKEN}"}, None, 503, "unavailable"),
    "silent": ({"x-fake-stall": "head"}, None, 504, "provider_timeout"),
    "broken off": ({"x-fake-close": "head"}, None, 502, "provider_error"),
}  # fmt: skip


@pytest.mark.parametrize("provider_name", PATHS)
@pytest.mark.parametrize("name", REFUSALS)
def test_own_answers_have_the_providers_shape(
    provider_name, name, start_proxy, connect_to, provider
):
    headers, body, status, code = REFUSALS[name]
    proxy = start_proxy(max_body_bytes=1000, timeout_seconds=0.3)
    provider.clear()
    client = connect_to(proxy)
    fields = {"Authorization": f"Bearer {TOKEN}", "Host": "m"}
    fields |= {key.title(): value for key, value in headers.items()}
    body = json.dumps(BODIES[provider_name]).encode() if body is None else body
    fields.setdefault("Content-Length", str(len(body)))
    if provider_name == "gemini" and name == "a repeated key":
        body = body.replace(b"messages", b"contents")
        fields["Content-Length"] = str(len(body))
    lines = [f"{key}: {value}" for key, value in fields.items() if value]
    head = f"POST {PATHS[provider_name]} HTTP/1.1\r\n" + "\r\n".join(lines) + "\r\n\r\n"
    client.send(head.encode() + body)
    got, answer_headers, answer = client.response()
    assert got == status, answer
    assert own_error(provider_name, status, answer_headers, answer) == code
    if status in (429, 503):
        assert int(answer_headers["retry-after"]) > 0
    if status < 500 or status == 503:
        assert not provider.requests
    nobody = ("invalid_token", "origin_not_allowed", "unavailable")
    authenticated = code not in nobody and "two" not in name
    if authenticated:
        row = proxy.rows.wait(1)[0]
        assert (row["id"], row["status"]) == (answer_headers["x-metrion-request-id"], status)
        assert row["error"]
    else:
        assert not proxy.rows.rows


@pytest.mark.parametrize("provider_name", PATHS)
def test_a_provider_that_cannot_be_reached(provider_name, origins, start_proxy, connect_to):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        origins[provider_name] = f"http://127.0.0.1:{unused.getsockname()[1]}"
        client = connect_to(start_proxy())
        client.request(PATHS[provider_name], json.dumps(BODIES[provider_name]).encode())
        status, headers, body = client.response()
    assert status == 502
    assert own_error(provider_name, status, headers, body) == "provider_unreachable"


@pytest.mark.parametrize("provider_name", PATHS)
def test_unknown_routes_and_methods(provider_name, client, provider):
    prefix = f"/api/proxy/{provider_name}"
    client.request(f"{prefix}/v1/nothing", b"{}")
    assert own_error(provider_name, *_args(client.response())) == "unknown_route"
    client.request(f"{prefix}/v1/models", b"{}")
    status, headers, body = client.response()
    assert (status, headers["allow"]) == (405, "GET")
    assert own_error(provider_name, status, headers, body) == "method_not_allowed"
    assert not provider.requests


def _args(response):
    assert response[0] == 404
    return response


@pytest.mark.parametrize("provider_name", PATHS)
def test_the_rate_is_limited_and_says_when_to_come_back(
    provider_name, start_proxy, connect_to, provider
):
    client = connect_to(start_proxy(rate_per_minute=2))
    provider.clear()
    body = json.dumps(BODIES[provider_name]).encode()
    statuses = []
    for _ in range(4):
        client.request(PATHS[provider_name], body)
        status, headers, answer = client.response()
        statuses.append(status)
    assert statuses == [200, 200, 429, 429]
    assert 0 < int(headers["retry-after"]) <= 60
    assert own_error(provider_name, status, headers, answer) == "rate_limited"
    assert len(provider.requests) == 2


def test_every_route_passes_admission(start_proxy, connect_to, provider):
    """No entry of the table avoids the limits: once they are reached, none answers."""
    provider.clear()
    client = connect_to(start_proxy(rate_per_minute=1))
    client.request("/api/proxy/openai/v1/models", method="GET")
    assert client.response()[0] == 200
    for each in load_providers():
        for endpoint in each.endpoints:
            for prefix in each.prefixes:
                for path in endpoint.client_paths:
                    target = prefix + path.replace("{model}", "m")
                    client.request(target, b"{}", method=endpoint.method)
                    assert client.response()[0] == 429, target
    assert len(provider.requests) == 1


# ---- what reaches the provider --------------------------------------------------------------


@pytest.mark.parametrize("provider_name", PATHS)
@pytest.mark.parametrize("place", ["bearer", "x-api-key", "x-goog-api-key", "api-key", "query"])
@pytest.mark.parametrize("mode", ["stored", "pass-through"])
def test_the_provider_gets_the_right_key_and_nothing_of_ours(
    provider_name, place, mode, proxy, client, provider
):
    credential = TOKEN if mode == "stored" else "sk-own-CANARYCANARYCANARY"
    headers = {
        "Authorization": f"Bearer {credential}",
        "Cookie": "session=CANARY",
        "X-Metrion-User": "anna",
        "X-Metrion-Cache": "true",
        "X-Forwarded-For": "10.1.2.3",
        "X-Kept": "kept",
        "Idempotency-Key": "i-1",
        "Connection": "x-named",
        "X-Named": "CANARY",
    }
    if mode == "pass-through":
        headers["X-Metrion-Token"] = TOKEN
    path = PATHS[provider_name] + "?a=b"
    if place != "bearer":
        del headers["Authorization"]
        if place == "query":
            path += f"&key={credential}&c=d"
        else:
            headers[place] = credential
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    body = json.dumps(BODIES[provider_name]).encode()
    client.send(
        f"POST {path} HTTP/1.1\r\nHost: m\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    assert client.response()[0] == 200
    request = provider.requests[0]
    wire = request.head.decode()
    key = f"sk-REAL-{provider_name}-CANARYCANARY0123456789" if mode == "stored" else credential
    assert wire.count(key) == 1
    assert wire.replace(key, "").count("CANARY") == 0
    assert "sk-metrion" not in wire
    assert "x-metrion" not in wire.lower()
    assert "10.1.2.3" not in wire
    assert "x-kept: kept" in wire
    assert "idempotency-key: i-1" in wire
    assert request.target.endswith("?a=b&c=d" if place == "query" else "?a=b")
    assert request.body == body
    row = proxy.rows.wait(1)[0]
    assert (row["mode"], row["requester"], row["provider"]) == (mode, "anna", provider_name)


def test_an_own_key_without_a_token_is_forwarded_only_if_the_operator_says_so(
    start_proxy, connect_to, provider, chat
):
    provider.clear()
    proxy = start_proxy(anonymous_pass_through=True, rate_per_minute=2)
    client = connect_to(proxy)
    own = {"Authorization": "Bearer sk-own-0123456789abcdef"}
    client.request(PATH, chat(), own)
    assert client.response()[0] == 200
    assert b"Bearer sk-own-0123456789abcdef" in provider.requests[0].head
    client.request(PATH, b"{", own)
    assert client.response()[0] == 400
    client.request(PATH, chat(), own)  # limited by its key …
    assert client.response()[0] == 429
    client.request(PATH, chat(), {"Authorization": "Bearer sk-another-0123456789"})
    assert client.response()[0] == 429  # … and by its address
    client.request(PATH, chat())  # which limits nobody who has a token
    assert client.response()[0] == 200
    assert len(proxy.rows.rows) == 1
    client.request("/metrics", method="GET")
    assert b'metrion_requests_total{outcome="ok",provider="openai"} 2.0' in client.response()[2]


def test_anthropic_version_is_set_if_the_client_sent_none(client, provider):
    body = json.dumps(BODIES["anthropic"]).encode()
    client.request(PATHS["anthropic"], body)
    client.response()
    client.request(PATHS["anthropic"], body, {"anthropic-version": "2099-01-01"})
    client.response()
    first, second = provider.requests
    assert b"anthropic-version: 2023-06-01" in first.head
    assert second.head.count(b"anthropic-version") == 1
    assert b"anthropic-version: 2099-01-01" in second.head


@pytest.mark.parametrize(
    "body",
    [
        b' \r\n{ "model" :\t"gpt-4o",\n"messages":[ ] , "x":1.0e5,"y":123456789012345678901234567890}\n',
        '{"model":"gpt-4o","messages":[{"role":"user","content":"Zoë \\u00e9 😀 \\ud83d\\ude00"}]}'.encode(),
        b'{"model":"gpt-4o","messages":[],"image":"' + b"QUJD" * 250_000 + b'"}',
    ],
    ids=["odd spacing, big numbers", "unicode", "1 MB of base64"],
)
def test_bodies_pass_byte_for_byte(body, client, provider):
    client.request(PATH, body)
    assert client.response()[0] == 200
    assert provider.requests[0].body == body


def test_a_body_of_20_megabytes_passes(start_proxy, connect_to, provider):
    provider.clear()
    client = connect_to(start_proxy(timeout_seconds=20))  # to read it takes the provider a while
    body = b'{"model":"gpt-4o","messages":[],"image":"' + b"QUJD" * 5_000_000 + b'"}'
    client.request(PATH, body)
    assert client.response()[0] == 200
    assert provider.requests[0].body == body


def test_a_large_body_is_not_read_through_here(start_proxy, connect_to, provider, lines_run):
    """What Python has to do for each of its members is done in the checker's process."""
    provider.clear()
    dense = b'{"a":[' + b"{}," * 200_000 + b'0],"user":"\\u00e9","model":"m","messages":[]'
    wish = b'"stream_options":{"include_usage":true}'

    def stream():
        client = connect_to(start_proxy(timeout_seconds=20))
        for rest, sent in (
            (b"}", b"{" + wish + b"," + dense[1:] + b',"stream":true}'),
            (b',"stream_options":{}}', dense + b',"stream":true,' + wish + b"}"),
        ):
            client.request(PATH, dense + b',"stream":true' + rest)
            assert client.response()[0] == 200
            assert provider.requests[-1].body == sent

    assert 0 < lines_run(validation, stream) < 50  # the splices, and no scan


# ---- what comes back ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 429, 500, 503, 529])
def test_provider_errors_come_back_unchanged(status, proxy, client, chat):
    client.request(PATH, chat(), {"x-fake-status": str(status), "x-fake-retry-after": "17"})
    got, headers, body = client.response()
    assert got == status
    assert "x-metrion-error" not in headers
    assert headers["x-request-id"]
    assert headers["x-ratelimit-limit-requests"]
    if status in (429, 503, 529):
        assert headers["retry-after"] == "17"
    row = proxy.rows.wait(1)[0]
    assert (row["status"], row["outcome"]) == (status, "provider_error")
    assert row["error"] == json.loads(body)["error"]["message"]
    assert headers["x-metrion-request-id"] == row["id"]


def test_cookies_and_cors_of_the_provider_are_not_passed_back(client, chat):
    client.request(PATH, chat())
    _, headers, _ = client.response()
    assert not {"set-cookie", "alt-svc", "access-control-allow-origin"} & headers.keys()


def test_a_provider_that_echoes_headers_does_not_give_the_key_away(proxy, client, chat):
    for knobs in (
        {"x-fake-echo": "1"},
        {"x-fake-echo": "1", "x-fake-chunk": "7"},
        {"x-fake-echo": "1", "x-fake-status": "401"},
    ):
        client.request(PATH, chat(), knobs)
        _, headers, body = client.response()
        assert b"CANARY" not in body
        assert b"***" in body
        assert "CANARY" not in str(headers)
    client.request(PATH, chat(stream=True), {"x-fake-echo": "1", "x-fake-events": "1"})
    assert b"CANARY" not in client.response()[2]
    assert "CANARY" not in str(proxy.rows.wait(4))


@pytest.mark.parametrize("place", ["reason", "header", "header-name", "interim", "trailer"])
def test_a_key_that_is_echoed_beside_the_body_is_not_given_away(proxy, client, chat, place):
    knobs = {"x-fake-echo-in": place, "x-fake-informational": "103", "x-fake-framing": "chunked"}
    client.request(PATH, chat(), {**knobs, "connection": "close"})
    answer = client.file.read()
    assert b" 200 " in answer
    assert b"canarycanary" not in answer.lower()
    assert proxy.rows.wait(1)[0]["outcome"] == "ok"


DECODERS = {
    "gzip": lambda: zlib.decompressobj(31).decompress,
    "deflate": lambda: zlib.decompressobj().decompress,
    "br": lambda: brotli.Decompressor().process,
    "zstd": lambda: zstandard.ZstdDecompressor().decompressobj().decompress,
}


@pytest.mark.parametrize("encoding", DECODERS)
def test_a_key_that_is_echoed_in_a_compressed_answer_is_not_given_away(
    proxy, connect, chat, encoding
):
    """It cannot be blotted out there: such an answer is broken off before the key begins."""
    knobs = [{}, {"x-fake-chunk": "7"}, {"x-fake-status": "401"}, {"x-fake-framing": "close"}]
    for number, odd in enumerate(knobs, start=1):
        client = connect()
        echo = {"x-fake-echo": "1", "x-fake-encoding": encoding, "x-fake-events": "1"}
        client.request(PATH, chat(stream="x-fake-chunk" in odd), {**echo, **odd})
        _, headers = client.head()
        pieces = []
        with contextlib.suppress(EOFError):  # in the middle of a chunk
            pieces.extend(client.chunks() if "transfer-encoding" in headers else ())
        pieces.append(client.file.read())
        assert b"sk-REAL" not in DECODERS[encoding]()(b"".join(pieces))
        row = proxy.rows.wait(number)[-1]
        assert (row["status"], row["outcome"]) == (502, "upstream_closed")
        assert "compressed" in row["error"]
        assert "sk-REAL" not in str(row)


@pytest.mark.parametrize("encoding", [b"", b"none", b"gzip", b"identity"])
def test_a_key_in_a_plain_answer_that_names_an_encoding_is_blotted(
    proxy, client, chat, provider, encoding
):
    said = b'{"error": {"message": "Incorrect API key provided: %b."}}'
    head = b"HTTP/1.1 401 No\r\nContent-Type: application/json\r\nContent-Encoding: %b\r\n\r\n"
    provider.scripts[b"coded"] = [head % encoding + said % KEY]
    client.request(PATH, chat(), {"x-fake-script": "coded"})
    assert client.response()[2] == said % (b"*" * len(KEY))
    assert "CANARY" not in str(proxy.rows.wait(1))


def test_an_answer_is_unpacked_whichever_of_its_fields_says_how(proxy, client, chat, provider):
    coded = b"Content-Encoding: gzip\r\nContent-Encoding: identity\r\n"
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%b\r\n" % coded
    provider.scripts[b"coded"] = [head + gzip.compress(KEY)]
    client.request(PATH, chat(), {"x-fake-script": "coded"})
    client.file.read()
    assert "compressed" in proxy.rows.wait(1)[0]["error"]


# ---- CORS -----------------------------------------------------------------------------------

PAGE = {"Origin": "https://app.example"}


@pytest.fixture
def cors_client(start_proxy, connect_to, provider):
    provider.clear()
    return connect_to(start_proxy(cors_origins=["https://app.example"], timeout_seconds=1))


def test_a_listed_origin_gets_its_headers_on_every_kind_of_answer(cors_client, chat):
    for path, body, knobs, status in (
        (PATH, chat(), {}, 200),
        (PATH, chat(stream=True), {}, 200),
        (PATH, chat(), {"x-fake-status": "429"}, 429),
        (PATH, chat(), {"x-fake-stall": "head"}, 504),
        (PATH, chat(), {"x-fake-close": "head"}, 502),
        (PATH, b"{", {}, 400),
        (PATH, chat(), {"Authorization": "Bearer x"}, 401),
        ("/nowhere", b"{}", {}, 404),
    ):
        cors_client.request(path, body, PAGE | knobs)
        got, headers, _ = cors_client.response()
        assert got == status
        assert headers["access-control-allow-origin"] == "https://app.example"
        assert headers["vary"] == "origin"
        assert "x-metrion-request-id" in headers["access-control-expose-headers"]


def test_a_preflight_is_answered_here_without_a_token(cors_client, provider):
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
        "Authorization": "",
    }
    cors_client.request(PATH, headers=PAGE | asked, method="OPTIONS")
    status, headers, body = cors_client.response()
    assert (status, body) == (204, b"")
    assert headers["access-control-allow-origin"] == "https://app.example"
    assert headers["access-control-allow-methods"] == "POST"
    assert headers["access-control-allow-headers"] == "authorization,content-type"
    assert "access-control-allow-credentials" not in headers
    assert not provider.requests


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example", "http://app.example", "https://app.example:8443",
        "https://app.example.evil.example", "null", "https://APP.example",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["OPTIONS", "POST"])
def test_other_origins_get_nothing(origin, method, cors_client, provider, chat):
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    cors_client.request(PATH, chat() if method == "POST" else b"", headers, method=method)
    status, answer_headers, _ = cors_client.response()
    assert status == 403
    assert not [name for name in answer_headers if name.startswith("access-control")]
    assert not provider.requests


# ---- fails closed ---------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["requestheaders", "request", "_identify", "wire_headers"])
def test_a_step_that_raises_gives_an_error_and_sends_nothing(
    step, start_proxy, connect_to, provider, chat, monkeypatch, caplog
):
    proxy = start_proxy()
    provider.clear()

    def broken(*arguments):
        raise RuntimeError(f"secret {TOKEN}")

    monkeypatch.setattr(proxy.gateway, step, broken)
    client = connect_to(proxy)
    client.request(PATH, chat())
    status, headers, body = client.response()
    assert status == 500
    assert own_error("openai", status, headers, body) == "internal_error"
    assert not provider.requests
    assert TOKEN not in caplog.text


def test_a_defect_in_the_accounting_does_not_stop_an_answer(
    start_proxy, connect_to, chat, monkeypatch
):
    proxy = start_proxy()
    client = connect_to(proxy)
    client.request(PATH, chat(stream=True), {"x-fake-encoding": "gzip"})
    assert client.response()[0] == 200
    assert proxy.rows.wait(1)[0]["usage"].output_tokens > 0


def test_refusals_do_not_fill_the_disk(start_proxy, connect_to, chat):
    proxy = start_proxy(rate_per_minute=1)
    client = connect_to(proxy)
    for _ in range(40):
        client.request(PATH, chat())
        client.response()
    refused = [row for row in proxy.rows.rows if row["outcome"] == "refused"]
    assert len(refused) == 10


def test_large_bodies_share_a_bounded_memory(start_proxy, connect_to, monkeypatch):
    monkeypatch.setattr("addons.body_budget.ALL_BODIES_BYTES", 300_000)
    proxy = start_proxy(timeout_seconds=20)
    first, second = connect_to(proxy), connect_to(proxy)
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: m\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Length: 250000\r\n\r\n"
    ).encode()
    first.send(head + b"x" * 240_000)
    while not proxy.gateway._bodies.held_bytes:
        time.sleep(0.005)  # the proxy is in this process
    second.send(head + b"x" * 250_000)
    status, headers, _ = second.response()
    assert (status, headers["retry-after"]) == (503, "1")
    first.send(b"x" * 10_000)
    assert first.response()[0] == 400  # read to its end, and no JSON
    assert proxy.gateway._bodies.held_bytes == 0
