import re

import pytest

from addons.providers.base import BEARER, RouteTable, UnknownRouteError
from addons.providers.mistral import PROVIDER

TABLE = RouteTable([PROVIDER], {})


@pytest.mark.parametrize(
    ("method", "path", "upstream", "flavour"),
    [
        ("POST", "chat/completions", "/v1/chat/completions", "openai.chat"),
        ("POST", "embeddings", "/v1/embeddings", "openai.embeddings"),
        ("GET", "models", "/v1/models", "openai.models"),
    ],
)
@pytest.mark.parametrize("prefix", ["/api/proxy/mistral/v1/", "/api/proxy/mistral/"])
def test_routes(prefix: str, method: str, path: str, upstream: str, flavour: str) -> None:
    route = TABLE.match(method, prefix + path)
    assert (route.path, route.endpoint.flavour, route.endpoint.name) == (upstream, flavour, path)
    assert route.key_place == BEARER


def test_has_no_responses() -> None:
    with pytest.raises(UnknownRouteError):
        TABLE.match("POST", "/api/proxy/mistral/v1/responses")
    assert len(PROVIDER.endpoints) == 3


def test_is_never_asked_for_usage() -> None:
    # it answers 422 to `stream_options`, and tells by itself
    assert not any(endpoint.usage_on_request for endpoint in PROVIDER.endpoints)


def test_where_it_is() -> None:
    origin = TABLE.origins["mistral"]
    assert (origin.scheme, origin.host_header) == ("https", "api.mistral.ai")


def test_error_shape_and_headers() -> None:
    assert PROVIDER.error_shape == "openai"
    assert PROVIDER.default_headers == {}


@pytest.mark.parametrize(
    ("key", "fits"), [("aB3dE6gH" * 4, True), ("aB3", False), ("with spaces in it " * 3, False)]
)
def test_key_form(key: str, *, fits: bool) -> None:
    assert bool(re.fullmatch(PROVIDER.key_pattern, key)) is fits
