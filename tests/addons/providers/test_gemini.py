import re

import pytest

from addons.providers.base import BEARER, KeyPlace, RouteTable, UnknownRouteError
from addons.providers.gemini import PROVIDER

TABLE = RouteTable([PROVIDER], {})


@pytest.mark.parametrize(
    ("method", "path", "flavour"),
    [
        ("POST", "chat/completions", "openai.chat"),
        ("POST", "embeddings", "openai.embeddings"),
        ("GET", "models", "openai.models"),
    ],
)
@pytest.mark.parametrize("prefix", ["/api/proxy/gemini/v1/", "/api/proxy/gemini/"])
def test_compatible_routes(prefix: str, method: str, path: str, flavour: str) -> None:
    route = TABLE.match(method, prefix + path)
    assert route.path == f"/v1beta/openai/{path}"
    assert (route.endpoint.flavour, route.endpoint.name, route.model) == (flavour, path, None)
    assert route.key_place == BEARER


@pytest.mark.parametrize("version", ["v1", "v1beta"])
@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-embedding-001", "m", "a..b"])
@pytest.mark.parametrize(
    ("action", "flavour", "streams"),
    [
        ("generateContent", "gemini.generate", False),
        ("streamGenerateContent", "gemini.generate", True),
        ("countTokens", "gemini.count_tokens", False),
        ("embedContent", "gemini.embed", False),
        ("batchEmbedContents", "gemini.embed", False),
    ],
)
def test_native_routes(
    version: str, model: str, action: str, flavour: str, *, streams: bool
) -> None:
    path = f"/{version}/models/{model}:{action}"
    route = TABLE.match("POST", "/api/proxy/gemini" + path)
    assert (route.path, route.model) == (path, model)
    assert (route.endpoint.flavour, route.endpoint.streams) == (flavour, streams)
    assert route.endpoint.name == action
    assert route.key_place == KeyPlace("x-goog-api-key")


@pytest.mark.parametrize("places", [[], ["authorization"], ["x-goog-api-key"], ["?key="]])
def test_the_native_list_of_models(places: list[str]) -> None:
    route = TABLE.match("GET", "/api/proxy/gemini/v1beta/models", places)
    assert (route.path, route.endpoint.flavour) == ("/v1beta/models", "gemini.models")
    assert route.key_place == KeyPlace("x-goog-api-key")


@pytest.mark.parametrize(
    ("place", "path", "key_place"),
    [
        # as Google's own SDKs and documents have it
        ("x-goog-api-key", "/v1/models", KeyPlace("x-goog-api-key")),
        ("?key=", "/v1/models", KeyPlace("x-goog-api-key")),
        # as OpenAI's SDKs, and those that imitate them, have it
        ("authorization", "/v1beta/openai/models", BEARER),
        ("api-key", "/v1beta/openai/models", BEARER),
        ("x-api-key", "/v1beta/openai/models", BEARER),
    ],
)
def test_which_list_of_models_is_told_by_the_place_of_the_key(
    place: str, path: str, key_place: KeyPlace
) -> None:
    route = TABLE.match("GET", "/api/proxy/gemini/v1/models", [place])
    assert (route.path, route.endpoint.name, route.key_place) == (path, "models", key_place)


@pytest.mark.parametrize(
    ("action", "required"),
    [
        ("generateContent", ("contents",)),
        ("streamGenerateContent", ("contents",)),
        ("countTokens", ()),
        ("embedContent", ("content",)),
        ("batchEmbedContents", ("requests",)),
    ],
)
def test_what_a_native_body_needs(action: str, required: tuple[str, ...]) -> None:
    route = TABLE.match("POST", f"/api/proxy/gemini/v1beta/models/m:{action}")
    assert route.endpoint.required == required


@pytest.mark.parametrize(
    "path",
    [
        "/models/m:generateContent",  # native paths have their version
        "/v2/models/m:generateContent",
        "/v1/models/m:deleteContent",
        "/v1/models/m:generateContent:generateContent",
        "/v1/models/:generateContent",
        "/v1/models/..:generateContent",
        "/v1/models/.m:generateContent",
        "/v1/models/a/b:generateContent",
        "/v1/models/a%2fb:generateContent",
        "/v1/models/a%2e:generateContent",
        "/v1/models/m:GenerateContent",
        "/v1/models/m:generateContent/",
        "/v1/models/m",
        "/v1/models/é:generateContent",
        "/v1/tunedModels/m:generateContent",
        "/v1beta/openai/chat/completions",
        "/upload/v1beta/files",
    ],
)
def test_no_route(path: str) -> None:
    with pytest.raises(UnknownRouteError):
        TABLE.match("POST", "/api/proxy/gemini" + path)


def test_where_it_is() -> None:
    origin = TABLE.origins["gemini"]
    assert (origin.scheme, origin.host_header) == ("https", "generativelanguage.googleapis.com")


def test_error_shape_and_headers() -> None:
    assert PROVIDER.error_shape == "gemini"
    assert PROVIDER.default_headers == {}


@pytest.mark.parametrize(
    ("key", "fits"),
    [
        ("AIzaSy" + "aB3_-x9" * 5, True),
        ("AQ.Ab8RN6" + "aB3_-" * 10, True),
        ("AIza", False),
        ("AIzaSy" + "aB3 " * 10, False),
    ],
)
def test_key_form(key: str, *, fits: bool) -> None:
    assert bool(re.fullmatch(PROVIDER.key_pattern, key)) is fits
