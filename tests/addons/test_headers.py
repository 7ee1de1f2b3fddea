import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.credentials import KeyGuard
from addons.exchange import Exchange, Header, Headers, Marks
from addons.headers import blotted, check_head, client_headers, upstream_headers
from addons.outcome import Refused
from addons.providers import load_providers
from addons.providers.base import RouteTable

TABLE = RouteTable(load_providers(), {})
HOST = (b"host", b"api.example")
IDENTITY = (b"accept-encoding", b"identity")


def exchange(
    headers: Headers, path: str = "/api/proxy/openai/v1/chat/completions", query: str = ""
) -> Exchange:
    at = datetime.now(UTC)
    made = Exchange(
        str(uuid.uuid4()), at, "POST", path, query, headers, "::1", http2=False, marks=Marks(0.0)
    )
    made.route = TABLE.match("POST", "/api/proxy/openai/v1/chat/completions")
    return made


def sent(*headers: Header) -> Headers:
    """What goes upstream, without what always does."""
    first, *rest, last = upstream_headers(exchange(list(headers)), "api.example")
    assert (first, last) == (HOST, IDENTITY)
    return rest


HOP_BY_HOP = [
    b"connection",
    b"keep-alive",
    b"proxy-authenticate",
    b"proxy-authorization",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"transfer-encoding",
    b"upgrade",
    b"http2-settings",
]


class TestUpstream:
    @pytest.mark.parametrize(
        "name",
        [
            *(b"anthropic-beta", b"anthropic-version", b"openai-organization", b"openai-project"),
            *(b"idempotency-key", b"content-type", b"accept", b"user-agent", b"x-stainless-lang"),
            *(b"x-goog-api-client", b"x-request-id", b"traceparent", b"x-fake-status", b"priority"),
            *(b"content-encoding", b"cache-control", b"metrion", b"x-metrion"),
        ],
    )
    def test_passes(self, name: bytes) -> None:
        assert sent((name.title(), b"a, B;c=\xff")) == [(name, b"a, B;c=\xff")]

    @pytest.mark.parametrize(
        "name",
        [
            *HOP_BY_HOP,
            *(b"host", b"content-length", b"expect", b"accept-encoding"),
            *(b"forwarded", b"via", b"x-real-ip", b"x-forwarded-for", b"x-forwarded-host"),
            *(b"x-metrion-user", b"x-metrion-token", b"x-metrion-cache", b"x-metrion-anything"),
            *(b":path", b":authority"),
        ],
    )
    def test_does_not_pass(self, name: bytes) -> None:
        for spelt in (name, name.upper(), name.title()):
            assert sent((spelt, b"x"), (b"accept", b"y")) == [(b"accept", b"y")]

    @pytest.mark.parametrize(
        "connection",
        [b"x-hop", b"close, X-Hop", b"X-HOP,,keep-alive", b" x-hop\t, close", b"x-hop;q=1,x-hop"],
    )
    def test_headers_named_in_connection_do_not_pass(self, connection: bytes) -> None:
        assert sent((b"Connection", connection), (b"X-Hop", b"1"), (b"X-End", b"2")) == [
            (b"x-end", b"2")
        ]

    def test_all_connection_headers_are_read(self) -> None:
        headers = [(b"connection", b"a"), (b"a", b"1"), (b"b", b"2"), (b"connection", b"b")]
        assert sent(*headers) == []

    @pytest.mark.parametrize("name", [b"content-type", b"content-encoding"])
    def test_what_describes_the_body_passes_whatever_connection_says(self, name: bytes) -> None:
        assert sent((b"connection", name), (name, b"x")) == [(name, b"x")]

    def test_repeated_headers_keep_their_order(self) -> None:
        headers = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"A", b"1")]
        assert sent(*headers) == [(b"a", b"1"), (b"b", b"2"), (b"a", b"3"), (b"a", b"1")]

    def test_one_host_and_one_encoding(self) -> None:
        made = exchange([(b"Host", b"evil"), (b"accept-encoding", b"gzip"), (b"HOST", b"x")])
        assert upstream_headers(made, "a.example:1") == [(b"host", b"a.example:1"), IDENTITY]

    def test_default_headers_only_where_the_client_sent_none(self) -> None:
        made = exchange([])
        made.route = TABLE.match("POST", "/api/proxy/v1/messages")
        version = (b"anthropic-version", b"2023-06-01")
        assert upstream_headers(made, "a") == [(b"host", b"a"), IDENTITY, version]
        made.headers = [(b"Anthropic-Version", b"2099-01-01")]
        own = (b"anthropic-version", b"2099-01-01")
        assert upstream_headers(made, "a") == [(b"host", b"a"), own, IDENTITY]
        # taken off as a hop-by-hop header: then the default stands in
        made.headers.append((b"Connection", b"anthropic-version"))
        assert upstream_headers(made, "a") == [(b"host", b"a"), IDENTITY, version]


class TestClient:
    @pytest.mark.parametrize(
        "name",
        [
            *(b"retry-after", b"x-ratelimit-limit-requests", b"x-ratelimit-reset-tokens"),
            *(b"anthropic-ratelimit-requests-remaining", b"request-id", b"x-request-id"),
            *(b"content-type", b"content-length", b"content-encoding", b"openai-processing-ms"),
            *(b"location", b"date", b"server", b"www-authenticate", b"vary", b"cache-control"),
        ],
    )
    def test_passes(self, name: bytes) -> None:
        assert client_headers([(name.title(), b"a, B\xff")]) == [(name, b"a, B\xff")]

    @pytest.mark.parametrize(
        "name",
        [
            *HOP_BY_HOP,
            *(b"set-cookie", b"set-cookie2"),
            # about the provider's origin, which is not the one the client talks to
            *(b"alt-svc", b"strict-transport-security", b"clear-site-data", b"nel", b"report-to"),
            b"reporting-endpoints",
            # Metrion's to say
            *(b"access-control-allow-origin", b"access-control-allow-credentials"),
            *(b"access-control-expose-headers", b"x-metrion-request-id", b"x-metrion-cache"),
        ],
    )
    def test_does_not_pass(self, name: bytes) -> None:
        for spelt in (name, name.upper(), name.title()):
            assert client_headers([(spelt, b"x"), (b"date", b"y")]) == [(b"date", b"y")]

    def test_headers_named_in_connection_do_not_pass(self) -> None:
        headers = [(b"X-Hop", b"1"), (b"Connection", b"x-hop, close"), (b"date", b"2")]
        assert client_headers(headers) == [(b"date", b"2")]

    @pytest.mark.parametrize("name", [b"content-length", b"content-type", b"content-encoding"])
    def test_what_describes_the_body_passes_whatever_connection_says(self, name: bytes) -> None:
        assert client_headers([(b"connection", name), (name, b"x")]) == [(name, b"x")]

    @given(st.lists(st.tuples(st.sampled_from([b"a", b"B", b"Set-Cookie", b"TE"]), st.binary())))
    def test_order_stays(self, headers: Headers) -> None:
        kept = [(n.lower(), v) for n, v in headers if n.lower() in (b"a", b"b")]
        assert client_headers(headers) == kept


class TestCheckHead:
    @pytest.mark.parametrize(
        ("path", "query"),
        [
            ("/api/proxy/openai/v1/chat/completions", ""),
            ("/api/proxy/gemini/v1beta/models/gemini-2.5-flash:generateContent", "alt=sse&a=%20"),
            ("/", "a=b?c/d//e/../f"),
            ("/healthz", "%00%zz&;'\"<>[]{}|^`"),
        ],
    )
    def test_takes(self, path: str, query: str) -> None:
        check_head(exchange([(b"a", b"tab\tand \xff"), (b"b", b"")], path, query))

    @pytest.mark.parametrize(
        "path",
        [
            *("/api//proxy", "//api", "/api/../proxy", "/api/..", "/.", "/api/./proxy", "/.hidden"),
            *("/api%2fproxy", "/%2e%2e/x", "/a%00b", "/a b", "/a\tb", "/a\0b", "/a\x7fb", "/aéb"),
            *("/a\\b", "/..\\..", "/a#b", "/api/proxy/openai/v1/chat/completions#", "/a\nb"),
        ],
    )
    def test_refuses_paths(self, path: str) -> None:
        self.refuses(exchange([], path))

    @pytest.mark.parametrize("query", ["a b", "a\tb", "a\r\nb", "a\0", "é", "a#b", "a\\b", "\x7f"])
    def test_refuses_queries(self, query: str) -> None:
        self.refuses(exchange([], "/a", query))

    @pytest.mark.parametrize("code", [*range(9), *range(10, 32), 127])
    def test_refuses_control_characters(self, code: int) -> None:
        value = b"a" + bytes([code]) + b"b"
        self.refuses(exchange([(b"fine", b"x"), (b"x", value)]))
        self.refuses(exchange([(b"x", value), (b"fine", b"x")]))

    @given(st.text(st.characters(max_codepoint=0xFF)), st.text(st.characters(max_codepoint=0xFF)))
    def test_what_it_takes_is_plain(self, path: str, query: str) -> None:
        try:
            check_head(exchange([], path, query))
        except Refused:
            return
        assert (path + query).isascii()
        assert not any(c in path + query for c in " \\#\r\n\t\0")
        assert "%" not in path
        assert not any(segment.startswith(".") for segment in path.split("/")[1:])

    def refuses(self, made: Exchange) -> None:
        with pytest.raises(Refused) as caught:
            check_head(made)
        assert (caught.value.status, caught.value.code) == (400, "invalid_request")


def test_the_key_is_blotted_out_of_names_and_values_alone():
    request = Exchange(
        str(uuid.uuid4()), datetime.now(UTC), "POST", "/", "", [], "", http2=False, marks=Marks(0.0)
    )
    answer: Headers = [(b"X-Echo", b"a sk-12345678 b"), (b"sk-12345678", b"y"), (b"Z", b"sk-1234")]
    assert blotted(request, answer) == answer  # no key was sent
    request.guard = KeyGuard(b"sk-12345678")
    assert blotted(request, answer) == [
        (b"X-Echo", b"a *********** b"),
        (b"***********", b"y"),
        (b"Z", b"sk-1234"),
    ]
    assert blotted(request, answer[2:]) == answer[2:]
