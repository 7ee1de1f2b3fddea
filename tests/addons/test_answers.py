import json
import uuid
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from addons.answers import (
    EXPOSED_HEADERS,
    Answer,
    cors_headers,
    error_answer,
    error_body,
    preflight_answer,
)
from addons.exchange import Exchange, Header, Marks
from addons.outcome import Refused
from addons.providers import load_providers
from addons.providers.base import ErrorShape

PROVIDERS = {provider.name: provider for provider in load_providers()}
ORIGIN = b"https://app.example"

# status, code → OpenAI's and Anthropic's type, Google's status
KINDS = [
    (400, "invalid_request", "invalid_request_error", "INVALID_ARGUMENT"),
    (401, "invalid_token", "authentication_error", "UNAUTHENTICATED"),
    (401, "provider_key_missing", "authentication_error", "UNAUTHENTICATED"),
    (403, "plan_required", "permission_error", "PERMISSION_DENIED"),
    (403, "origin_not_allowed", "permission_error", "PERMISSION_DENIED"),
    (404, "unknown_route", "not_found_error", "NOT_FOUND"),
    (405, "method_not_allowed", "invalid_request_error", "INVALID_ARGUMENT"),
    (408, "request_timeout", "timeout_error", "DEADLINE_EXCEEDED"),
    (413, "request_too_large", "request_too_large", "INVALID_ARGUMENT"),
    (429, "rate_limited", "rate_limit_error", "RESOURCE_EXHAUSTED"),
    (429, "monthly_limit", "rate_limit_error", "RESOURCE_EXHAUSTED"),
    (431, "invalid_request", "invalid_request_error", "INVALID_ARGUMENT"),
    (500, "internal_error", "api_error", "INTERNAL"),
    (502, "provider_unreachable", "api_error", "UNAVAILABLE"),
    (502, "provider_error", "api_error", "UNAVAILABLE"),
    (503, "unavailable", "overloaded_error", "UNAVAILABLE"),
    (504, "provider_timeout", "timeout_error", "DEADLINE_EXCEEDED"),
]


def exchange(provider: str | None = None, *headers: Header) -> Exchange:
    at = datetime.now(UTC)
    made = Exchange(
        str(uuid.uuid4()), at, "POST", "/x", "", [*headers], "::1", http2=False, marks=Marks(0.0)
    )
    made.provider = PROVIDERS[provider] if provider else None
    return made


def header(answer: Answer, name: bytes) -> bytes | None:
    values = [value for key, value in answer.headers if key == name]
    assert len(values) <= 1, name
    return values[0] if values else None


class TestShapes:
    @pytest.mark.parametrize(("status", "code", "kind", "google"), KINDS)
    def test_every_family_and_status(self, status: int, code: str, kind: str, google: str) -> None:
        refused = Refused(status, code, "What happened.")
        assert error_body("openai", refused, "id-1") == {
            "error": {"message": "What happened.", "type": kind, "code": code, "param": None}
        }
        assert error_body("anthropic", refused, "id-1") == {
            "type": "error",
            "error": {"type": kind, "message": "What happened."},
            "request_id": "id-1",
        }
        assert error_body("gemini", refused, "id-1") == {
            "error": {"code": status, "message": "What happened.", "status": google}
        }

    @pytest.mark.parametrize("shape", ["openai", "anthropic", "gemini"])
    def test_a_status_that_nobody_thought_of_is_answered_too(self, shape: ErrorShape) -> None:
        # an answer must not fail while a failure is being answered
        assert error_body(shape, Refused(418, "teapot", "no"), "id")["error"]

    @pytest.mark.parametrize(
        ("provider", "keys"),
        [
            ("openai", {"message", "type", "code", "param"}),
            ("mistral", {"message", "type", "code", "param"}),
            ("grok", {"message", "type", "code", "param"}),
            ("anthropic", {"message", "type"}),
            ("gemini", {"message", "code", "status"}),
            (None, {"message", "type", "code", "param"}),
        ],
    )
    def test_shape_is_the_provider_s(self, provider: str | None, keys: set[str]) -> None:
        answer = error_answer(exchange(provider), Refused(404, "unknown_route", "No."))
        assert set(json.loads(answer.body)["error"]) == keys


class TestErrorAnswer:
    @pytest.mark.parametrize(("status", "code"), sorted({kind[:2] for kind in KINDS}))
    @pytest.mark.parametrize("provider", [*PROVIDERS, None])
    def test_headers(self, provider: str | None, status: int, code: str) -> None:
        made = exchange(provider)
        answer = error_answer(made, Refused(status, code, "Ü \ud800 \0 \n"))
        assert answer.status == status
        assert header(answer, b"content-type") == b"application/json"
        assert header(answer, b"content-length") == b"%d" % len(answer.body)
        assert header(answer, b"x-metrion-request-id") == str(made.id).encode()
        assert header(answer, b"x-metrion-error") == code.encode()
        assert header(answer, b"cache-control") == b"no-store"
        assert header(answer, b"retry-after") is None
        assert header(answer, b"access-control-allow-origin") is None
        assert answer.body.isascii()
        assert all(name == name.lower() for name, _ in answer.headers)

    @pytest.mark.parametrize(("seconds", "text"), [(0, b"0"), (1, b"1"), (2_678_400, b"2678400")])
    def test_retry_after(self, seconds: int, text: bytes) -> None:
        refused = Refused(429, "rate_limited", "Wait.", retry_after=seconds)
        assert header(error_answer(exchange(), refused), b"retry-after") == text

    def test_further_headers(self) -> None:
        refused = Refused(405, "method_not_allowed", "No.", headers={"allow": "GET, POST"})
        assert header(error_answer(exchange(), refused), b"allow") == b"GET, POST"

    def test_the_id_is_in_anthropic_s_body_too(self) -> None:
        made = exchange("anthropic")
        body = json.loads(error_answer(made, Refused(400, "invalid_request", "No.")).body)
        assert body["request_id"] == str(made.id)


class TestSdks:
    """The official SDKs raise what they would raise for the provider's own errors."""

    @staticmethod
    def client(library: ModuleType, provider: str, status: int, code: str) -> Any:
        """A client whose every request gets an own error; each SDK has a library of its own."""

        def handle(request: object) -> Any:
            answer = error_answer(exchange(provider), Refused(status, code, "Said Metrion."))
            return library.Response(answer.status, headers=answer.headers, content=answer.body)

        return library.Client(transport=library.MockTransport(handle))

    @pytest.mark.parametrize(
        ("status", "code", "error"),
        [
            (400, "invalid_request", openai.BadRequestError),
            (401, "invalid_token", openai.AuthenticationError),
            (403, "plan_required", openai.PermissionDeniedError),
            (404, "unknown_route", openai.NotFoundError),
            (429, "monthly_limit", openai.RateLimitError),
            (503, "unavailable", openai.InternalServerError),
            (504, "provider_timeout", openai.InternalServerError),
        ],
    )
    def test_openai(self, status: int, code: str, error: type[openai.APIStatusError]) -> None:
        http = self.client(httpx, "openai", status, code)
        with openai.OpenAI(api_key="x", max_retries=0, http_client=http) as client:
            with pytest.raises(error) as caught:
                client.models.list()
            assert (caught.value.code, caught.value.status_code) == (code, status)
            assert "Said Metrion." in caught.value.message

    @pytest.mark.parametrize(
        ("status", "code", "error"),
        [
            (400, "invalid_request", anthropic.BadRequestError),
            (401, "invalid_token", anthropic.AuthenticationError),
            (403, "plan_required", anthropic.PermissionDeniedError),
            (404, "unknown_route", anthropic.NotFoundError),
            (413, "request_too_large", anthropic.APIStatusError),
            (429, "rate_limited", anthropic.RateLimitError),
            (502, "provider_error", anthropic.InternalServerError),
            (503, "unavailable", anthropic.APIStatusError),
        ],
    )
    def test_anthropic(self, status: int, code: str, error: type[anthropic.APIStatusError]) -> None:
        http = self.client(httpx2, "anthropic", status, code)
        with anthropic.Anthropic(api_key="x", max_retries=0, http_client=http) as client:
            with pytest.raises(error) as caught:
                client.models.list()
            assert caught.value.status_code == status
            assert "Said Metrion." in caught.value.message


class TestCors:
    def test_a_listed_origin_is_named_on_errors(self) -> None:
        made = exchange("openai")
        made.cors_origin = ORIGIN
        answer = error_answer(made, Refused(504, "provider_timeout", "No."))
        assert header(answer, b"access-control-allow-origin") == ORIGIN
        assert header(answer, b"vary") == b"origin"
        exposed = (header(answer, b"access-control-expose-headers") or b"").decode()
        assert {"x-metrion-request-id", "x-metrion-error", "retry-after"} <= set(
            exposed.split(", ")
        )
        assert "*" not in exposed

    def test_nobody_else_is(self) -> None:
        made = exchange("openai", (b"origin", b"https://evil.example"))
        assert cors_headers(made) == []

    def test_exposed_headers_are_a_list(self) -> None:
        names = EXPOSED_HEADERS.split(", ")
        assert len(set(names)) == len(names)
        assert all(name == name.strip().lower() for name in names)

    def test_preflight(self) -> None:
        asked = b"authorization,content-type,x-stainless-os"
        made = exchange("openai", (b"access-control-request-headers", asked))
        made.cors_origin = ORIGIN
        answer = preflight_answer(made, "POST")
        assert (answer.status, answer.body) == (204, b"")
        assert header(answer, b"access-control-allow-origin") == ORIGIN
        assert header(answer, b"access-control-allow-methods") == b"POST"
        assert header(answer, b"access-control-allow-headers") == asked
        assert header(answer, b"access-control-max-age") == b"600"
        assert header(answer, b"access-control-allow-credentials") is None
        vary = (header(answer, b"vary") or b"").split(b", ")
        assert vary[0] == b"origin"
        assert b"access-control-request-headers" in vary
        assert header(answer, b"x-metrion-request-id") == str(made.id).encode()

    def test_preflight_that_asks_for_no_headers(self) -> None:
        made = exchange()
        made.cors_origin = ORIGIN
        assert header(preflight_answer(made, "GET"), b"access-control-allow-headers") is None


class TestPieces:
    def test_a_body_is_one_piece_unless_it_says_otherwise(self) -> None:
        assert list(Answer(200, [], b"abc").pieces) == [b"abc"]
        assert list(Answer(200, [], b"abc", (1, 2)).pieces) == [b"a", b"bc"]
