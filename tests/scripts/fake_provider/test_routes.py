from typing import Any

import httpx
import pytest

from scripts.fake_provider import FakeProvider

CHAT: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hi"}]}
MESSAGE = CHAT | {"max_tokens": 5}
CONTENT = {"contents": [{"parts": [{"text": "Hi"}]}]}
ANTHROPIC = {"anthropic-version": "2023-06-01"}
GENERATE = "/v1beta/models/gemini-2.5-flash:generateContent"


@pytest.fixture
def keyless(running: FakeProvider):
    with httpx.Client(base_url=running.origin) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "body", "header", "value"),
    [
        ("/v1/chat/completions", CHAT, "authorization", "Bearer {}"),
        ("/v1beta/openai/chat/completions", CHAT, "authorization", "Bearer {}"),
        ("/v1/messages", MESSAGE, "x-api-key", "{}"),
        ("/v1/messages", MESSAGE, "authorization", "Bearer {}"),
        (GENERATE, CONTENT, "x-goog-api-key", "{}"),
        (GENERATE, CONTENT, "authorization", "Bearer {}"),
    ],
)
def test_a_key_is_needed_and_metrions_is_none(
    keyless: httpx.Client, path: str, body: Any, header: str, value: str
):
    def status(key: str | None) -> int:
        headers = ANTHROPIC | ({header: value.format(key)} if key else {})
        return keyless.post(path, json=body, headers=headers).status_code

    assert status("sk-real-0123456789") == 200
    assert status(None) == 401
    assert status("short") == 401
    assert status("sk-metrion-0123456789abcdef0123456789abcdef") == 401


def test_a_wrong_place_for_the_key_is_no_key(keyless: httpx.Client):
    headers = {"x-api-key": "sk-real-0123456789"}
    answer = keyless.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    answer = keyless.post(f"{GENERATE}?key=AIza-0123456789", json=CONTENT)
    assert answer.status_code == 200


def test_anthropic_wants_its_version(http: httpx.Client):
    assert http.post("/v1/messages", json=MESSAGE).status_code == 400
    assert http.post("/v1/messages", json=MESSAGE, headers=ANTHROPIC).status_code == 200
    assert http.get("/v1/models").json()["object"] == "list"
    assert http.get("/v1/models", headers=ANTHROPIC).json()["has_more"] is False


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("POST", "/v1/chat", 404),
        ("GET", "/", 404),
        ("GET", "/v1beta/files", 404),
    ],
)
def test_other_paths_and_methods(http: httpx.Client, method: str, path: str, status: int):
    answer = http.request(method, path)
    assert answer.status_code == status
    assert "message" in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"model":"m"}', b'{"model":"m","messages":[],"tools":[{"function":{}}]'],
)
def test_bodies_must_be_what_the_endpoint_needs(http: httpx.Client, body: bytes):
    assert http.post("/v1/chat/completions", content=body).status_code == 400


def test_odd_types_do_not_break_it(http: httpx.Client):
    body = {"model": "m", "input": "a", "dimensions": "many"}
    assert http.post("/v1/embeddings", json=body).status_code == 400
    odd: Any = {"model": 5, "messages": {"a": 1}, "tools": 7, "tool_choice": [], "stream": "yes"}
    assert http.post("/v1/chat/completions", json=odd).status_code == 200


def test_statuses(http: httpx.Client):
    def ask(**knobs: Any) -> httpx.Response:
        headers = {f"x-fake-{name}": str(value) for name, value in knobs.items()}
        return http.post("/v1/chat/completions", json=CHAT, headers=headers)

    limited = ask(status=429)
    assert limited.status_code == 429
    assert limited.headers["retry-after"] == "7"
    assert ask(status=500).headers.get("retry-after") is None
    assert ask(status=201).json() == {}
    assert ask(status=204).content == b""
    echoed = ask(status=400, echo=1).json()["error"]["message"]
    assert "Bearer sk-real-0123456789" in echoed
    moved = ask(redirect="http://elsewhere.invalid/")
    assert (moved.status_code, moved.headers["location"]) == (307, "http://elsewhere.invalid/")
    assert ask(redirect="/", status=302).status_code == 302
    unknown = ask(nonsense=1)
    assert unknown.status_code == 400
    assert "no knob x-fake-nonsense" in unknown.text


def test_each_providers_error_has_its_own_shape(http: httpx.Client):
    teapot = {"x-fake-status": "429"}
    openai = http.get("/v1/models", headers=teapot).json()
    assert openai["error"]["code"] == "rate_limit_exceeded"
    anthropic = http.get("/v1/models", headers=teapot | ANTHROPIC)
    assert anthropic.json()["error"]["type"] == "rate_limit_error"
    assert anthropic.json()["request_id"] == anthropic.headers["request-id"]
    gemini = http.post(GENERATE, headers=teapot, json=CONTENT).json()
    assert gemini["error"] == {
        "code": 429,
        "message": "The fake provider was asked to answer 429.",
        "status": "RESOURCE_EXHAUSTED",
    }


def test_an_answer_can_be_padded_and_renamed(http: httpx.Client):
    headers = {"x-fake-big": "100000", "x-fake-model": "gpt-4o-2024-11-20"}
    answer = http.post("/v1/chat/completions", json=CHAT, headers=headers)
    assert len(answer.content) > 100_000
    assert answer.json()["model"] == "gpt-4o-2024-11-20"


@pytest.mark.parametrize("place", ["reason", "header", "header-name"])
def test_the_key_can_be_said_again_in_the_head(http: httpx.Client, place: str):
    answer = http.post("/v1/chat/completions", json=CHAT, headers={"x-fake-echo-in": place})
    said = {
        "reason": answer.reason_phrase,
        "header": answer.headers.get("x-you-sent", ""),
        "header-name": " ".join(answer.headers),
    }
    places = [name for name, text in said.items() if "sk-real-0123456789" in text]
    assert places == [place]
