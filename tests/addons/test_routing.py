"""Where a request goes, and whether its page may send it."""

import uuid
from datetime import UTC, datetime

import pytest

from addons.exchange import Exchange, Marks
from addons.outcome import Refused
from addons.providers import load_providers
from addons.providers.base import RouteTable
from addons.routing import cross_origin, find_route

ROUTES = RouteTable(load_providers(), {})
CHAT = "/api/proxy/openai/v1/chat/completions"
LISTED = {b"https://app.example"}


def exchange(method="POST", path=CHAT, **headers):
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Exchange(
        str(uuid.uuid4()), datetime.now(UTC), method, path, "", fields, "", http2=False,
        marks=Marks(0.0),
    )  # fmt: skip


def test_a_route_is_found_with_its_provider_and_model():
    made = exchange(path="/api/proxy/gemini/v1beta/models/gemini-2.5-flash:generateContent")
    find_route(made, ROUTES, ["x-goog-api-key"])
    assert made.route.path == "/v1beta/models/gemini-2.5-flash:generateContent"
    assert (made.provider.name, made.model) == ("gemini", "gemini-2.5-flash")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/", 404, "unknown_route"),
        ("POST", f"{CHAT}/", 404, "unknown_route"),
        ("GET", CHAT, 405, "method_not_allowed"),
        ("post", CHAT, 405, "method_not_allowed"),
        (
            "POST",
            f"/api/proxy/gemini/v1beta/models/sk-metrion-{'0' * 32}:generateContent",
            404,
            "unknown_route",
        ),
        (
            "POST",
            f"/api/proxy/gemini/v1beta/models/SK-Metrion-{'0' * 32}:generateContent",
            404,
            "unknown_route",
        ),
    ],
)
def test_what_is_not_in_the_table_is_refused(method, path, status, code):
    with pytest.raises(Refused) as refused:
        find_route(exchange(method, path), ROUTES, [])
    assert (refused.value.status, refused.value.code) == (status, code)
    assert refused.value.headers.get("allow") == ("POST" if status == 405 else None)


def test_a_page_has_to_be_listed():
    assert cross_origin(exchange(), LISTED, ROUTES) is None
    for origin in ("https://evil.example", "https://app.example:444", "null", ""):
        with pytest.raises(Refused) as refused:
            cross_origin(exchange(origin=origin), LISTED, ROUTES)
        assert (refused.value.status, refused.value.code) == (403, "origin_not_allowed")
    made = exchange(origin="https://app.example")
    assert cross_origin(made, LISTED, ROUTES) is None
    assert made.cors_origin == b"https://app.example"


def test_a_preflight_is_answered_here():
    asking = {"origin": "https://app.example", "access_control_request_method": "POST"}
    answer = cross_origin(exchange("OPTIONS", **asking), LISTED, ROUTES)
    assert answer.status == 204
    assert (b"access-control-allow-methods", b"POST") in answer.headers
    with pytest.raises(Refused, match="no such route"):
        cross_origin(exchange("OPTIONS", "/nowhere", **asking), LISTED, ROUTES)
    # without the question it is a request like others, which the table refuses
    assert cross_origin(exchange("OPTIONS", origin="https://app.example"), LISTED, ROUTES) is None
