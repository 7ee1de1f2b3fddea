import re

import pytest

from addons.providers.anthropic import PROVIDER
from addons.providers.base import KeyPlace, RouteTable, UnknownRouteError

TABLE = RouteTable([PROVIDER], {})


@pytest.mark.parametrize(
    ("method", "path", "upstream", "flavour"),
    [
        ("POST", "messages", "/v1/messages", "anthropic.messages"),
        (
            "POST",
            "messages/count_tokens",
            "/v1/messages/count_tokens",
            "anthropic.count_tokens",
        ),
        ("GET", "models", "/v1/models", "anthropic.models"),
    ],
)
@pytest.mark.parametrize(
    "prefix",
    [
        "/api/proxy/anthropic/v1/",
        "/api/proxy/anthropic/",
        # the oldest paths have no provider in them
        "/api/proxy/v1/",
        "/api/proxy/",
    ],
)
def test_routes(prefix: str, method: str, path: str, upstream: str, flavour: str) -> None:
    route = TABLE.match(method, prefix + path)
    assert (route.path, route.endpoint.flavour, route.endpoint.name) == (upstream, flavour, path)
    assert route.key_place == KeyPlace("x-api-key")


def test_there_are_no_others() -> None:
    assert len(PROVIDER.endpoints) == 3
    for path in ("/api/proxy/anthropic/v1/complete", "/api/proxy/v1/messages/batches"):
        with pytest.raises(UnknownRouteError):
            TABLE.match("POST", path)


def test_where_it_is() -> None:
    origin = TABLE.origins["anthropic"]
    assert (origin.scheme, origin.host_header) == ("https", "api.anthropic.com")


def test_error_shape_and_headers() -> None:
    assert PROVIDER.error_shape == "anthropic"
    assert PROVIDER.default_headers == {"anthropic-version": "2023-06-01"}


@pytest.mark.parametrize(
    ("key", "fits"),
    [("sk-ant-api03-" + "aB3_-" * 18, True), ("sk-ant-", False), ("sk-" + "a" * 40, False)],
)
def test_key_form(key: str, *, fits: bool) -> None:
    assert bool(re.fullmatch(PROVIDER.key_pattern, key)) is fits
