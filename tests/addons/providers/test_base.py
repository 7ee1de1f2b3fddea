import re
import string
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from addons.providers import load_providers
from addons.providers.base import (
    BEARER,
    CLIENT_PREFIX,
    Endpoint,
    KeyPlace,
    MethodNotAllowedError,
    Origin,
    Provider,
    Route,
    RouteTable,
    UnknownRouteError,
    parse_origin,
    versioned,
)

PROVIDERS = load_providers()
TABLE = RouteTable(PROVIDERS, {})
NATIVE_ACTIONS = {
    *("generateContent", "streamGenerateContent"),
    *("countTokens", "embedContent", "batchEmbedContents"),
}


def made_up(**changes: Any) -> Provider:
    chat = Endpoint("chat", versioned("chat"), "/chat", "openai.chat")
    fields: dict[str, Any] = {
        "name": "made-up",
        "title": "Made up",
        "origin": "https://api.made-up.example",
        "endpoints": (chat,),
        "key_place": BEARER,
        "key_pattern": r"mu-[a-z]{16,}",
        "key_page": "https://made-up.example/keys",
        "error_shape": "openai",
        "prefixes": (f"{CLIENT_PREFIX}/made-up",),
        "default_headers": {},
    }
    return Provider(**{**fields, **changes})


class TestParseOrigin:
    @pytest.mark.parametrize(
        ("text", "origin", "host_header"),
        [
            ("https://api.openai.com", Origin("https", "api.openai.com", 443), "api.openai.com"),
            ("https://api.openai.com/", Origin("https", "api.openai.com", 443), "api.openai.com"),
            ("https://API.x.ai:443", Origin("https", "api.x.ai", 443), "api.x.ai"),
            ("https://a.example:8443", Origin("https", "a.example", 8443), "a.example:8443"),
            ("http://127.0.0.1:9", Origin("http", "127.0.0.1", 9), "127.0.0.1:9"),
            ("http://localhost", Origin("http", "localhost", 80), "localhost"),
            ("http://localhost:443", Origin("http", "localhost", 443), "localhost:443"),
            ("https://localhost:80", Origin("https", "localhost", 80), "localhost:80"),
            ("http://[::1]:8080", Origin("http", "::1", 8080), "[::1]:8080"),
            ("https://[2001:DB8::1]", Origin("https", "2001:db8::1", 443), "[2001:db8::1]"),
            ("http://a:65535", Origin("http", "a", 65535), "a:65535"),
            ("http://a:1", Origin("http", "a", 1), "a:1"),
        ],
    )
    def test_reads(self, text: str, origin: Origin, host_header: str) -> None:
        assert parse_origin(text) == origin
        assert origin.host_header == host_header

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "api.openai.com",
            "//api.openai.com",
            "ftp://a",
            "HTTPS://a",
            "https://",
            "https:///path",
            "https://:443",
            "https://a/v1",
            "https://a//",
            "https://a?x=1",
            "https://a?",
            "https://a#x",
            "https://user:s3cret@a",
            "https://s3cret@a",
            "https://a:0",
            "https://a:65536",
            "https://a:99999999",
            "https://a:",
            "https://a:b",
            "https://a:-1",
            "https://a:８",  # noqa: RUF001 - a digit of another script
            "https://a b",
            " https://a",
            "https://a\n",
            "https://a\r\nHost: b",
            "https://a\\@b",
            "https://a,b",
            "https://[::1",
            "https://::1",
            "https://[g]",
            "https://%61",
        ],
    )
    def test_refuses_without_repeating_it(self, text: str) -> None:
        with pytest.raises(ValueError, match="no origin") as caught:
            parse_origin(text)
        assert "s3cret" not in str(caught.value)

    @given(st.text())
    def test_whatever_it_takes_is_only_an_origin(self, text: str) -> None:
        try:
            origin = parse_origin("https://" + text)
        except ValueError:
            return
        assert re.fullmatch(r"[a-z0-9._-]+|[0-9a-f:.]+", origin.host)
        assert 0 < origin.port < 65536


class TestTable:
    def test_origins_are_the_providers_own_unless_said_otherwise(self) -> None:
        table = RouteTable(PROVIDERS, {"openai": "http://127.0.0.1:1234"})
        assert table.origins["openai"] == Origin("http", "127.0.0.1", 1234)
        assert table.origins["mistral"] == Origin("https", "api.mistral.ai", 443)
        assert set(table.origins) == set(table.providers)

    def test_origin_of_nobody(self) -> None:
        with pytest.raises(ValueError, match=r"METRION_ORIGINS names opnai; .* openai"):
            RouteTable(PROVIDERS, {"opnai": "https://a"})

    @pytest.mark.parametrize("origin", ["", "https://a/v1"])
    def test_origin_that_is_none_names_the_provider(self, origin: str) -> None:
        with pytest.raises(ValueError, match="origin of grok is no origin"):
            RouteTable(PROVIDERS, {"grok": origin})

    @pytest.mark.parametrize("path", ["/chat", "/models/{model}:x"])
    def test_nothing_stands_twice(self, path: str) -> None:
        endpoint = Endpoint("chat", (path,), "/chat", "openai.chat")
        twice = made_up(endpoints=(endpoint, replace(endpoint, name="other")))
        with pytest.raises(ValueError, match=f"POST {CLIENT_PREFIX}/made-up.* stands twice"):
            RouteTable([twice], {})

    def test_one_path_may_take_two_methods(self) -> None:
        post = Endpoint("post", ("/thing",), "/p", "openai.chat")
        get = Endpoint("get", ("/thing",), "/g", "openai.models", method="GET")
        table = RouteTable([made_up(endpoints=(post, get))], {})
        path = f"{CLIENT_PREFIX}/made-up/thing"
        assert table.match("POST", path).path == "/p"
        assert table.match("GET", path).path == "/g"
        with pytest.raises(MethodNotAllowedError) as caught:
            table.match("PUT", path)
        assert str(caught.value) == "GET, POST"

    def test_one_path_may_depend_on_the_place_of_the_credential(self) -> None:
        all_ = Endpoint("thing", versioned("thing"), "/a", "openai.models", method="GET")
        some = replace(all_, path="/s", for_keys_in=("x-key", "?key="))
        table = RouteTable([made_up(endpoints=(all_, some))], {})
        for path in (f"{CLIENT_PREFIX}/made-up/v1/thing", f"{CLIENT_PREFIX}/made-up/thing"):
            assert table.match("GET", path).path == "/a"
            assert table.match("GET", path, ["authorization"]).path == "/a"
            assert table.match("GET", path, ["x-key"]).path == "/s"
            assert table.match("GET", path, ["authorization", "?key="]).path == "/s"
            with pytest.raises(MethodNotAllowedError):
                table.match("POST", path, ["x-key"])
        with pytest.raises(ValueError, match="stands twice"):
            RouteTable([made_up(endpoints=(all_, some, replace(some, name="other")))], {})

    def test_model_in_the_path(self) -> None:
        paths = ("/models/{model}:go", "/v1/models/{model}:go")
        native = Endpoint("n", paths, "/v9/{model}/go", "gemini.generate")
        table = RouteTable([made_up(endpoints=(native,))], {})
        for path in paths:
            named = path.replace("{model}", "a.b-C_9")
            route = table.match("POST", f"{CLIENT_PREFIX}/made-up{named}")
            assert (route.path, route.model) == ("/v9/a.b-C_9/go", "a.b-C_9")

    def test_an_endpoint_is_plain_unless_its_file_says_otherwise(self) -> None:
        (chat,) = made_up().endpoints
        assert (chat.method, chat.required) == ("POST", ())
        assert not chat.streams
        assert not chat.usage_on_request

    def test_a_bearer_token_goes_where_rfc_6750_says(self) -> None:
        assert (BEARER.header, f"{BEARER.prefix}key") == ("authorization", "Bearer key")

    def test_key_place_of_an_endpoint_comes_before_the_provider_s(self) -> None:
        place = KeyPlace("x-key")
        own = Endpoint("own", ("/own",), "/own", "openai.chat", key_place=place)
        plain = Endpoint("plain", ("/plain",), "/plain", "openai.chat")
        provider = made_up(endpoints=(own, plain))
        assert Route(provider, own, "/own").key_place == place
        assert Route(provider, plain, "/plain").key_place == BEARER

    def test_data_stays_as_it_is(self) -> None:
        with pytest.raises(FrozenInstanceError):
            PROVIDERS[0].origin = "https://evil.example"  # type: ignore[misc]

    @pytest.mark.parametrize(
        ("path", "name"),
        [
            ("/api/proxy/openai/v1/chat/completions", "openai"),
            ("/api/proxy/openai/nothing/here", "openai"),
            ("/api/proxy/gemini/", "gemini"),
            ("/api/proxy/anthropic/v1/messages", "anthropic"),
            ("/api/proxy/v1/messages", "anthropic"),
            ("/api/proxy/unknown/v1/chat/completions", "anthropic"),
            ("/api/proxy", None),
            ("/api/proxyopenai/v1", None),
            ("/healthz", None),
            ("/", None),
            ("", None),
        ],
    )
    def test_whose_error_shape(self, path: str, name: str | None) -> None:
        provider = TABLE.provider_of(path)
        assert (provider.name if provider else None) == name


def expected(path: str) -> tuple[str, str, str] | None:
    """Provider, method and upstream path, found in another way than the table finds it."""
    for provider in PROVIDERS:
        for endpoint in provider.endpoints:
            for prefix in provider.prefixes:
                if path.removeprefix(prefix) in endpoint.client_paths and path.startswith(prefix):
                    return provider.name, endpoint.method, endpoint.path
    match path.split("/"):
        case ["", "api", "proxy", "gemini", "v1" | "v1beta" as version, "models", last]:
            model, _, action = last.rpartition(":")
            allowed = set(string.ascii_letters + string.digits + "._-")
            plain = 0 < len(model) <= 128 and set(model) <= allowed and model[0] not in "._-"
            if plain and action in NATIVE_ACTIONS:
                return "gemini", "POST", f"/{version}/models/{last}"
        case _:
            pass
    return None


SEGMENTS = st.sampled_from(
    [
        *("api", "proxy", "openai", "anthropic", "gemini", "mistral", "grok"),
        *("v1", "v1beta", "v2", "messages", "count_tokens", "models", "chat", "completions"),
        *("responses", "embeddings", "gemini-2.5-flash:generateContent", "m:embedContent"),
        *("m:countTokens", "m:streamGenerateContent", "m:delete", "..:generateContent"),
        *(
            "",
            ".",
            "..",
            "%2e%2e",
            "%2F",
            "OPENAI",
            "v1 ",
            "v1;x",
            "a@evil.example",
            "\\",
            "?",
            "#",
        ),
    ]
)
ROUTES = [
    prefix + client_path.replace("{model}", "gemini-2.5-pro")
    for provider in PROVIDERS
    for endpoint in provider.endpoints
    for prefix in provider.prefixes
    for client_path in endpoint.client_paths
]
PATHS = (
    st.sampled_from(ROUTES)
    | st.lists(SEGMENTS, max_size=8).map(lambda parts: "/" + "/".join(parts))
    | st.builds(
        lambda route, at, text, cut: route[:at] + text + route[at + cut :],
        st.sampled_from(ROUTES),
        st.integers(0, 60),
        st.text(string.printable + "é", max_size=3) | SEGMENTS,
        st.integers(0, 3),
    )
)


class TestMatch:
    @given(PATHS)
    @example("/api/proxy/gemini/v1beta/models/" + "m" * 128 + ":generateContent")
    @example("/api/proxy/gemini/v1beta/models/" + "m" * 129 + ":generateContent")
    @example("/api/proxy/gemini/v1beta/models/m:generateContent\n")
    @example("/api/proxy/gemini/v1beta/models/a:b:generateContent")
    @example("/api/proxy/openai/v1/chat/completions\n")
    @example("/api/proxy/openai/v1/chat/completions/")
    def test_a_path_is_its_own_route_or_none(self, path: str) -> None:
        entry = expected(path)
        if entry is None:
            with pytest.raises(UnknownRouteError):
                TABLE.match("POST", path)
            return
        _, method, upstream = entry
        route = TABLE.match(method, path)
        assert (route.provider.name, route.endpoint.method, route.path) == entry
        assert re.fullmatch(r"/v1[a-z]*(/[A-Za-z0-9._:-]+)+", upstream)
        assert ".." not in upstream.split("/")

    @given(path=st.sampled_from(ROUTES), method=st.text(string.ascii_letters, max_size=8))
    @example(path=ROUTES[0], method="post")
    @example(path=ROUTES[0], method="")
    def test_other_methods(self, path: str, method: str) -> None:
        allowed = expected(path)
        assert allowed is not None
        assume(method != allowed[1])
        with pytest.raises(MethodNotAllowedError) as caught:
            TABLE.match(method, path)
        assert str(caught.value) == allowed[1]

    @pytest.mark.parametrize("path", [p for p in ROUTES if "/v1/" in p and ":" not in p])
    def test_version_may_be_left_out(self, path: str) -> None:
        entry = expected(path)
        assert entry is not None
        without = path.replace("/v1/", "/")
        assert TABLE.match(entry[1], without) == TABLE.match(entry[1], path)
