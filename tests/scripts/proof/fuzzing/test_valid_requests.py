import json

from scripts.fake_provider.wire import RequestReader
from scripts.proof.fuzzing.mangling import numbered
from scripts.proof.fuzzing.valid_requests import ROUTES, valid_body, valid_parts


def test_valid_ones_are_valid(callers):
    for number in range(100):
        reader = RequestReader()
        reader.feed(valid_parts(numbered(1, "valid", number), callers).joined())
        assert reader.next_request() is not None
        assert not reader.buffered


def test_every_route_is_asked():
    assert {route.provider.name for route in ROUTES} >= {"openai", "gemini"}
    assert all(b"{" not in route.path for route in ROUTES)


def test_bodies_have_what_their_endpoint_needs():
    for route in ROUTES:
        if route.endpoint.method == "POST":
            body = json.loads(valid_body(numbered(1, "body", 1), route.endpoint))
            assert set(route.endpoint.required) <= set(body)
