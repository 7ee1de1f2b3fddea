"""From a request to an answer: whose path it is, whether a key is there, what it says."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple, cast
from urllib.parse import parse_qsl

import pydantic_core

from scripts.fake_provider import anthropic_api, gemini_api, openai_chat, openai_responses
from scripts.fake_provider.answers import Answer, json_answer, to_json
from scripts.fake_provider.knobs import NO_KNOBS, KnobError, Knobs
from scripts.fake_provider.speech import Call
from scripts.fake_provider.wire import Request

Family = Literal["openai", "anthropic", "gemini", "gemini-compatible"]

OUR_TOKEN = b"sk-metrion"  # what a provider must never see
_KEY = re.compile(rb"[!-~]{8,}\Z")
_RETRY_STATUSES = (429, 503, 529)


class Refusal(Exception):  # noqa: N818 - an answer, not a fault
    """The provider's own error answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint: whose it is, what its body must have, and who answers."""

    family: Family
    required: tuple[str, ...]
    answer: Callable[[Call], Answer]


class Reply(NamedTuple):
    """An answer, whose it is, how it is to go wrong, and the number of its request."""

    answer: Answer
    knobs: Knobs
    family: Family
    number: int


def _compatible(answer: Callable[[Call, openai_chat.Dialect], Answer]) -> Callable[[Call], Answer]:
    return lambda call: answer(call, "gemini")


_CHAT, _EMBED = ("model", "messages"), ("model", "input")
_MESSAGES = ("model", "max_tokens", "messages")
_ROUTES: dict[tuple[str, str], Route] = {
    ("POST", "/v1/chat/completions"): Route("openai", _CHAT, openai_chat.chat),
    ("POST", "/v1/responses"): Route("openai", _EMBED, openai_responses.responses),
    ("POST", "/v1/embeddings"): Route("openai", _EMBED, openai_chat.embeddings),
    ("GET", "/v1/models"): Route("openai", (), openai_chat.models),
    ("POST", "/v1/messages"): Route("anthropic", _MESSAGES, anthropic_api.messages),
    ("POST", "/v1/messages/count_tokens"): Route(
        "anthropic", _CHAT, anthropic_api.count_message_tokens
    ),
    ("POST", "/v1beta/openai/chat/completions"): Route(
        "gemini-compatible", _CHAT, _compatible(openai_chat.chat)
    ),
    ("POST", "/v1beta/openai/embeddings"): Route(
        "gemini-compatible", _EMBED, _compatible(openai_chat.embeddings)
    ),
    ("GET", "/v1beta/openai/models"): Route(
        "gemini-compatible", (), _compatible(openai_chat.models)
    ),
    ("GET", "/v1beta/models"): Route("gemini", (), gemini_api.models),
}
# Of three providers at one path, on one fake: told apart by their headers.
_GEMINI_MODELS = Route("gemini", (), gemini_api.models)
_ANTHROPIC_MODELS = Route("anthropic", (), anthropic_api.models)
_NO_BODY: dict[str, Any] = {}
_KNOWN_PATHS = {path for _, path in _ROUTES}


def family_of(path: str, fields: dict[bytes, bytes]) -> Family:
    """Return whose shape an answer on this path has, also if the path does not exist."""
    if path.startswith("/v1beta/openai/"):
        return "gemini-compatible"
    if path == "/v1/models" and b"x-goog-api-key" in fields:
        return "gemini"
    if path.startswith("/v1beta/") or (path.startswith("/v1/models/") and ":" in path):
        return "gemini"
    if path.startswith("/v1/messages") or b"anthropic-version" in fields:
        return "anthropic"
    return "openai"


def respond(request: Request, number: int) -> Reply:
    """Answer one request as its provider would, or as its knobs say."""
    path, _, query_text = request.target.partition("?")
    query = dict(parse_qsl(query_text, keep_blank_values=True)) if query_text else {}
    family = family_of(path, request.fields)
    knobs = NO_KNOBS
    try:
        if b"x-fake-" in request.head.lower():
            knobs = Knobs.parse(request.fields)
        _check_key(family, request.fields, query)
        if knobs.redirect is not None:
            location = b"location: " + knobs.redirect.encode("latin-1") + b"\r\n"
            answer = Answer(knobs.status or 307, b"text/plain", b"", headers=location)
        elif knobs.status is not None:
            answer = _with_status(request, knobs.status, knobs, family, number)
        else:
            call = Call(_NO_BODY, knobs, number, request.head, query)
            answer = _answer(request, path, call, family)
    except KnobError as error:
        answer = _error(family, 400, f"fake provider: {error}", number)
    except Refusal as refusal:
        answer = _error(family, refusal.status, refusal.message, number)
    if knobs.echo_in:
        answer = answer._replace(echo=_key_of(family, request.fields, query))
    return Reply(answer, knobs, family, number)


def error_event(family: Family) -> bytes:
    """Return the event by which this provider breaks off a stream that it cannot finish."""
    message = "The fake provider was asked to fail here."
    status = 529 if family == "anthropic" else 503
    name = b"event: error\n" if family == "anthropic" else b""
    return name + b"data: " + to_json(_error_body(family, status, message)) + b"\n\n"


def _answer(request: Request, path: str, call: Call, family: Family) -> Answer:
    native = gemini_api.NATIVE_PATH.match(path) if family == "gemini" else None
    if native and request.method == "POST":
        call = call._replace(body=_body(request))
        answer = partial(gemini_api.answer, model=native["model"], verb=native["verb"])
    else:
        route = _find_route(request, path, family)
        if route.required:
            call = call._replace(body=_body(request))
        for name in route.required:
            if name not in call.body:
                raise Refusal(400, f"{name}: Field required")
        answer = route.answer
    try:
        return answer(call)
    except (AttributeError, KeyError, TypeError, ValueError):
        # The APIs read bodies of any shape as if they were well-formed.
        raise Refusal(400, "A field of your request has a wrong type.") from None


def _find_route(request: Request, path: str, family: Family) -> Route:
    route = _ROUTES.get((request.method, path))
    if route is None:
        status, text = (
            (405, "Not allowed") if path in _KNOWN_PATHS else (404, "Unknown request URL")
        )
        raise Refusal(status, f"{text}: {request.method} {path}")
    if family == "gemini" and path == "/v1/models":
        return _GEMINI_MODELS
    if family != "anthropic":
        return route
    if b"anthropic-version" not in request.fields:
        raise Refusal(400, "anthropic-version: header is required")
    return _ANTHROPIC_MODELS if path == "/v1/models" else route


def _body(request: Request) -> dict[str, Any]:
    try:
        body = pydantic_core.from_json(request.body)
    except ValueError:
        raise Refusal(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(body, dict):
        raise Refusal(400, "The body of your request is not a JSON object.")
    return cast("dict[str, Any]", body)


def _key_of(family: Family, fields: dict[bytes, bytes], query: dict[str, str]) -> bytes:
    scheme, _, token = fields.get(b"authorization", b"").partition(b" ")
    bearer = token if scheme.lower() == b"bearer" else b""
    if family == "anthropic":
        return fields.get(b"x-api-key") or bearer
    if family == "gemini":
        return fields.get(b"x-goog-api-key") or query.get("key", "").encode() or bearer
    return bearer


def _check_key(family: Family, fields: dict[bytes, bytes], query: dict[str, str]) -> None:
    key = _key_of(family, fields, query)
    if not key:
        raise Refusal(401, "You didn't provide an API key.")
    if OUR_TOKEN in key or not _KEY.match(key):
        raise Refusal(401, f"Incorrect API key provided: {key[:10].decode('latin-1')}***")


def _with_status(
    request: Request, status: int, knobs: Knobs, family: Family, number: int
) -> Answer:
    if status in (204, 304):
        return Answer(status, b"", b"")
    if status < 400:  # noqa: PLR2004 - from 400 on it is an error
        return json_answer({}, status)
    message = f"The fake provider was asked to answer {status}."
    if knobs.echo:
        message += "\n" + request.head.decode("latin-1")
    answer = _error(family, status, message, number)
    if status not in _RETRY_STATUSES:
        return answer
    wait = b"retry-after: %d\r\n" % knobs.retry_after
    return Answer(status, answer.content_type, answer.body, headers=wait)


def _error(family: Family, status: int, message: str, number: int) -> Answer:
    return json_answer(_error_body(family, status, message, number), status)


def _error_body(family: Family, status: int, message: str, number: int | None = None) -> Any:
    match family:
        case "anthropic":
            request_id = None if number is None else f"req_{number:024x}"
            return anthropic_api.error(status, message, request_id)
        case "gemini":
            return gemini_api.error(status, message)
        case "gemini-compatible":
            return [gemini_api.error(status, message)]  # in a list, as Google's endpoint does
        case "openai":
            return openai_chat.error(status, message)
