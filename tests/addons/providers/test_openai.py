import re

import pytest

from addons.providers.base import BEARER, RouteTable
from addons.providers.openai import PROVIDER

TABLE = RouteTable([PROVIDER], {})


@pytest.mark.parametrize(
    ("method", "path", "upstream", "flavour"),
    [
        ("POST", "chat/completions", "/v1/chat/completions", "openai.chat"),
        ("POST", "responses", "/v1/responses", "openai.responses"),
        ("POST", "embeddings", "/v1/embeddings", "openai.embeddings"),
        ("GET", "models", "/v1/models", "openai.models"),
    ],
)
@pytest.mark.parametrize("prefix", ["/api/proxy/openai/v1/", "/api/proxy/openai/"])
def test_routes(prefix: str, method: str, path: str, upstream: str, flavour: str) -> None:
    route = TABLE.match(method, prefix + path)
    assert (route.path, route.endpoint.flavour, route.endpoint.name) == (upstream, flavour, path)
    assert route.key_place == BEARER


def test_there_are_no_others() -> None:
    assert len(PROVIDER.endpoints) == 4


def test_where_it_is() -> None:
    origin = TABLE.origins["openai"]
    assert (origin.scheme, origin.host_header) == ("https", "api.openai.com")


def test_error_shape_and_headers() -> None:
    assert PROVIDER.error_shape == "openai"
    assert PROVIDER.default_headers == {}


@pytest.mark.parametrize(
    ("key", "fits"),
    [
        ("sk-proj-abcDEF0123456789_-abcdef", True),
        ("sk-0123456789abcdef0123456789abcdef", True),
        ("sk-svcacct-0123456789abcdef", True),
        ("sk-short", False),
        ("AIzaSy0123456789abcdef0123456789abcdef", False),
        ("sk-proj-abcDEF 0123456789", False),
    ],
)
def test_key_form(key: str, *, fits: bool) -> None:
    assert bool(re.fullmatch(PROVIDER.key_pattern, key)) is fits
