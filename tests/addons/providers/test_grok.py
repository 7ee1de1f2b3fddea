import re

import pytest

from addons.providers.base import BEARER, RouteTable, UnknownRouteError
from addons.providers.grok import PROVIDER

TABLE = RouteTable([PROVIDER], {})


@pytest.mark.parametrize(
    ("method", "path", "upstream", "flavour"),
    [
        ("POST", "chat/completions", "/v1/chat/completions", "openai.chat"),
        ("POST", "responses", "/v1/responses", "openai.responses"),
        ("GET", "models", "/v1/models", "openai.models"),
    ],
)
@pytest.mark.parametrize("prefix", ["/api/proxy/grok/v1/", "/api/proxy/grok/"])
def test_routes(prefix: str, method: str, path: str, upstream: str, flavour: str) -> None:
    route = TABLE.match(method, prefix + path)
    assert (route.path, route.endpoint.flavour, route.endpoint.name) == (upstream, flavour, path)
    assert route.key_place == BEARER


def test_has_no_embeddings() -> None:
    with pytest.raises(UnknownRouteError):
        TABLE.match("POST", "/api/proxy/grok/v1/embeddings")
    assert len(PROVIDER.endpoints) == 3


def test_where_it_is() -> None:
    origin = TABLE.origins["grok"]
    assert (origin.scheme, origin.host_header) == ("https", "api.x.ai")


def test_error_shape_and_headers() -> None:
    assert PROVIDER.error_shape == "openai"
    assert PROVIDER.default_headers == {}


@pytest.mark.parametrize(
    ("key", "fits"),
    [("xai-" + "aB3" * 26, True), ("xai-short", False), ("sk-" + "a" * 40, False)],
)
def test_key_form(key: str, *, fits: bool) -> None:
    assert bool(re.fullmatch(PROVIDER.key_pattern, key)) is fits
