"""The response cache, in a proxy with everything real but the providers."""

import asyncio
import contextlib
import json
import threading
import time
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from psycopg.rows import dict_row

from addons import replay_cache
from addons.exchange import CacheUse, Exchange, Marks, Mode
from addons.outcome import Refused
from addons.providers import load_providers
from addons.providers.base import RouteTable
from addons.replay_cache import (
    DAY_SECONDS,
    MOST_SECONDS,
    USUAL_SECONDS,
    ReplayCache,
    fingerprint,
    take_cache_wish,
)
from addons.service import Service
from storage import accounts, keys, roles
from storage.callers import Caller
from storage.database import Database
from storage.errors import DatabaseUnavailable, SealingError
from storage.response_cache import StoredAnswer

CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
MESSAGES = {**CHAT, "model": "claude-sonnet-4-5", "max_tokens": 10}
CONTENTS = {"contents": [{"parts": [{"text": "hi"}]}]}
GEMINI = "/api/proxy/gemini/v1beta/models/gemini-2.5-flash"
CHAT_PATH = "/api/proxy/openai/v1/chat/completions"
WANTED = {"x-metrion-cache": "true"}


@dataclass(frozen=True)
class Asked:
    """A request that a provider answers."""

    path: str
    body: dict
    method: str = "POST"

    @property
    def json(self) -> bytes:
        return json.dumps(self.body).encode() if self.method == "POST" else b""

    def streamed(self) -> "Asked":
        return replace(self, body={**self.body, "stream": True})


CHATS = {
    name: Asked(f"/api/proxy/{name}/v1/chat/completions", {**CHAT, "model": model})
    for name, model in {
        "openai": "gpt-4o",
        "mistral": "mistral-large-latest",
        "grok": "grok-4",
        "gemini": "gemini-2.5-flash",
    }.items()
}
RESPONSES = Asked("/api/proxy/openai/v1/responses", {"model": "gpt-4o", "input": "hi"})
FLAVOURS = {
    **{f"{name} chat": asked for name, asked in CHATS.items()},
    **{f"{name} chat, stream": asked.streamed() for name, asked in CHATS.items()},
    "openai responses": RESPONSES,
    "openai responses, stream": RESPONSES.streamed(),
    "grok responses, stream": Asked(
        "/api/proxy/grok/v1/responses", {"model": "grok-4", "input": "hi", "stream": True}
    ),
    "openai embeddings": Asked(
        "/api/proxy/openai/v1/embeddings", {"model": "text-embedding-3-small", "input": "hi"}
    ),
    "openai models": Asked("/api/proxy/openai/v1/models", {}, "GET"),
    "anthropic messages": Asked("/api/proxy/v1/messages", MESSAGES),
    "anthropic messages, stream": Asked("/api/proxy/v1/messages", MESSAGES).streamed(),
    "anthropic count_tokens": Asked("/api/proxy/v1/messages/count_tokens", CHAT),
    "gemini native": Asked(f"{GEMINI}:generateContent", CONTENTS),
    "gemini native, stream": Asked(f"{GEMINI}:streamGenerateContent?alt=sse", CONTENTS),
    "gemini native, list": Asked(f"{GEMINI}:streamGenerateContent", CONTENTS),
}


class Installation:
    """A proxy, a database and accounts."""

    def __init__(self, fresh, settings, proxy_type, client_type, *, is_observed=False) -> None:
        self.fresh = fresh
        self.proxy = proxy_type(settings, [], Service, is_observed=is_observed)
        self._client_type = client_type
        self.administrator = psycopg.connect(
            fresh.administrator_url.get_secret_value(), autocommit=True, row_factory=dict_row
        )

    def account(self, plan="pro", email=None):
        """An account with a key for every provider; a client that calls for it."""
        return asyncio.run(self._account(plan, email or f"{uuid.uuid4()}@example.com"))

    async def _account(self, plan, email):
        database = Database(self.fresh.url(roles.API), pool_size=1)
        new = await accounts.create_account(database, self.fresh.keys, email, plan)
        async with database.account(new.id) as connection:
            for provider in load_providers():
                secret = f"sk-REAL-{provider.name}-{'x' * 30}"
                await keys.set_key(connection, self.fresh.keys, new.id, provider.name, secret)
        await database.close()
        return Person(self, new.id, new.token)

    def connect(self):
        return self._client_type(self.proxy.port)

    def metric(self, name, result):
        registry = self.proxy.gateway._probes._registry
        return registry.get_sample_value(f"metrion_cache_{name}_total", {"result": result}) or 0

    def close(self):
        self.proxy.stop()
        self.administrator.close()


class Person:
    """Somebody with an account."""

    def __init__(self, installation, account_id, token) -> None:
        self.installation = installation
        self.id = account_id
        self.token = token
        self.client = installation.connect()

    def ask(self, asked, headers=WANTED, body=None, client=None):
        """Status, headers, body."""
        self.send(asked, headers, body, client)
        return (client or self.client).response()

    def send(self, asked, headers=WANTED, body=None, client=None):
        fields = {"Authorization": f"Bearer {self.token}", **headers}
        data = asked.json if body is None else body
        (client or self.client).request(asked.path, data, fields, asked.method)

    def cache_of(self, *arguments, **options):
        """HIT or MISS."""
        status, headers, body = self.ask(*arguments, **options)
        assert status == 200, body
        return headers["x-metrion-cache"]

    def pieces(self, asked, headers=WANTED):
        """What the client got, chunk by chunk, and the answer's headers."""
        self.send(asked, headers)
        status, got = self.client.head()
        assert status == 200
        if got.get("transfer-encoding") == "chunked":
            return got, list(self.client.chunks())
        return got, [self.client.file.read(int(got["content-length"]))]

    def rows(self, count):
        """The account's log rows, oldest first."""
        deadline = time.monotonic() + 20
        query = "SELECT * FROM metrion.request_logs WHERE account_id = %s ORDER BY id"
        while True:
            found = self.installation.administrator.execute(query, [self.id]).fetchall()
            if len(found) >= count or time.monotonic() > deadline:
                assert len(found) == count
                return found
            time.sleep(0.02)

    def stored(self, count, seconds=10.0):
        """The account's stored answers, once there are so many."""
        deadline = time.monotonic() + seconds
        query = "SELECT * FROM metrion.response_cache WHERE account_id = %s"
        while True:
            found = self.installation.administrator.execute(query, [self.id]).fetchall()
            if len(found) == count or time.monotonic() > deadline:
                assert len(found) == count
                return found
            time.sleep(0.02)

    def age(self, seconds):
        """Let so much time pass for the stored answers."""
        self.installation.administrator.execute(
            "UPDATE metrion.response_cache SET created_at = created_at - make_interval(secs => %s),"
            " expires_at = expires_at - make_interval(secs => %s) WHERE account_id = %s",
            [seconds, seconds, self.id],
        )


@pytest.fixture(scope="module")
def install(postgres, tmp_path_factory, provider, proxy_type, client_type):
    """Start an installation: with sockets of our own, or with mitmproxy's if somebody looks."""
    with contextlib.ExitStack() as stack:

        def start(**options):
            fresh = stack.enter_context(postgres.fresh_database(tmp_path_factory.mktemp("replay")))
            changes = {
                "origins": dict.fromkeys((p.name for p in load_providers()), provider.origin),
                "timeout_seconds": 5.0,
                "cors_origins": ("https://app.example",),
                "monthly_requests_free": 3,
            }
            settings = fresh.settings.model_copy(update=changes)
            made = Installation(fresh, settings, proxy_type, client_type, **options)
            stack.callback(made.close)
            return made

        yield start


@pytest.fixture(scope="module")
def installation(install):
    """As in production."""
    return install()


@pytest.fixture
def person(installation, provider):
    provider.clear()
    made = installation.account()
    yield made
    made.client.close()


# ---- hits and misses ----------------------------------------------------------------------------


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_a_hit_is_the_answer_that_was_given_piece_by_piece(flavour, person, provider):
    asked = FLAVOURS[flavour]
    knobs = {"x-fake-events": "20", "x-fake-interval": "0.02"} if "stream" in flavour else {}
    first_headers, first = person.pieces(asked, WANTED | knobs)
    headers, again = person.pieces(asked, WANTED | knobs)
    assert (first_headers["x-metrion-cache"], headers["x-metrion-cache"]) == ("MISS", "HIT")
    assert b"".join(again) == b"".join(first)
    assert len(provider.requests) == 1
    framing = ("content-type", "content-length", "transfer-encoding")
    assert [headers.get(name) for name in framing] == [first_headers.get(name) for name in framing]
    if "stream" in flavour:
        assert again == first
        assert len(first) > 4
    assert headers["x-metrion-request-id"] != first_headers["x-metrion-request-id"]
    assert headers.keys() - first_headers.keys() <= {"age"}
    miss, hit = person.rows(2)
    assert (str(miss["id"]), str(hit["id"])) == (
        first_headers["x-metrion-request-id"],
        headers["x-metrion-request-id"],
    )
    assert (miss["cached"], hit["cached"]) == (False, True)
    assert (hit["status"], hit["outcome"], hit["model"]) == (200, "ok", miss["model"])
    assert (hit["total_tokens"], hit["cost_usd"]) == (0, 0)
    assert hit["saved_usd"] == miss["cost_usd"]
    assert miss["saved_usd"] is None
    assert hit["streamed"] == miss["streamed"]
    assert hit["ttfb_ms"] <= hit["latency_ms"]


def test_without_the_header_nothing_is_looked_up_stored_or_said(person, provider):
    for _ in range(2):
        _, headers, _ = person.ask(CHATS["openai"], {})
        assert "x-metrion-cache" not in headers
    assert len(provider.requests) == 2
    person.stored(0, 0.2)
    assert person.cache_of(CHATS["openai"]) == "MISS"


def test_a_refresh_asks_and_stores(person, provider):
    asked = CHATS["openai"]
    assert person.cache_of(asked) == "MISS"
    assert person.cache_of(asked, {"x-metrion-cache": "refresh"}) == "MISS"
    assert len(provider.requests) == 2
    assert person.cache_of(asked) == "HIT"
    assert len(provider.requests) == 2
    person.stored(1)


def test_nothing_of_the_first_exchange_is_told_again(person):
    first, _ = person.pieces(CHATS["openai"])
    again, _ = person.pieces(CHATS["openai"])
    belongs_to_it = {name for name in first if name.startswith(("x-ratelimit-", "openai-"))}
    belongs_to_it |= {"x-request-id", "date", "server"} & first.keys()
    assert belongs_to_it
    assert not belongs_to_it & again.keys()


def test_the_usage_chunk_that_was_metrions_wish_is_in_no_hit(person, provider):
    asked = CHATS["openai"].streamed()
    _, first = person.pieces(asked)
    assert b"include_usage" in provider.requests[-1].body
    _, again = person.pieces(asked)
    assert b"".join(first) == b"".join(again)
    assert b'"usage":{' not in b"".join(again)
    told = replace(asked, body={**asked.body, "stream_options": {"include_usage": True}})
    assert person.cache_of(told) == "MISS"
    _, with_usage = person.pieces(told)
    assert b'"usage":{' in b"".join(with_usage)
    assert [row["saved_usd"] for row in person.rows(4)][1] > 0


@pytest.mark.parametrize("name", ["openai", "gemini native"])
def test_a_stored_key_that_is_echoed_is_in_no_stored_answer(name, person):
    asked = FLAVOURS.get(name) or CHATS[name]
    for expected in ("MISS", "HIT"):
        _, headers, body = person.ask(asked, WANTED | {"x-fake-echo": "1"})
        assert headers["x-metrion-cache"] == expected
        assert b"sk-REAL" not in body


# ---- what is the same request -------------------------------------------------------------------

BASE = {**CHAT, "temperature": 1, "max_tokens": 10, "tools": [{"type": "function", "n": {"a": 1}}]}
CHANGES = {
    "the model": {"model": "gpt-4o-mini"},
    "the text": {"messages": [{"role": "user", "content": "hi "}]},
    "a system message": {"messages": [{"role": "system", "content": "x"}, *CHAT["messages"]]},
    "the role": {"messages": [{"role": "system", "content": "hi"}]},
    "the temperature": {"temperature": 0.5},
    "max_tokens": {"max_tokens": 11},
    "the tools": {"tools": [{"type": "function", "n": {"a": 2}}]},
    "no tools": {"tools": []},
    "the seed": {"seed": 1},
    "a stream": {"stream": True},
    "no stream, said": {"stream": False},
    "the user": {"user": "anna"},
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_could_change_the_answer_makes_another_request(change, person, provider):
    base = Asked(CHAT_PATH, BASE)
    assert person.cache_of(base) == "MISS"
    assert person.cache_of(replace(base, body={**BASE, **CHANGES[change]})) == "MISS"
    assert person.cache_of(base) == "HIT"
    assert len(provider.requests) == 2


def test_another_provider_endpoint_mode_or_account_is_another_request(
    installation, person, provider
):
    other = installation.account()
    own = {"Authorization": "Bearer sk-own-0123456789", "x-metrion-token": person.token}
    own_too = own | {"Authorization": "Bearer sk-own-9876543210"}
    body = {**CHAT, "max_tokens": 5, "input": "hi"}
    asked = {
        "openai": (person, Asked(CHAT_PATH, body), {}),
        "another provider": (person, Asked("/api/proxy/mistral/v1/chat/completions", body), {}),
        "another endpoint": (person, Asked("/api/proxy/openai/v1/embeddings", body), {}),
        "a query": (person, Asked(f"{CHAT_PATH}?a=b", body), {}),
        "another version": (
            person,
            Asked("/api/proxy/v1/messages", body),
            {"anthropic-version": "2023-01-01"},
        ),
        "the usual version": (person, Asked("/api/proxy/v1/messages", body), {}),
        "a beta": (person, Asked("/api/proxy/v1/messages", body), {"anthropic-beta": "x"}),
        "an organization": (person, Asked(CHAT_PATH, body), {"openai-organization": "o"}),
        "a header nobody knows": (person, Asked(CHAT_PATH, body), {"x-unknown": "1"}),
        "an own key": (person, Asked(CHAT_PATH, body), own),
        "another own key": (person, Asked(CHAT_PATH, body), own_too),
        "another account": (other, Asked(CHAT_PATH, body), {}),
    }
    for expected in ("MISS", "HIT"):
        for name, (who, request, headers) in asked.items():
            assert who.cache_of(request, WANTED | headers) == expected, name
    assert len(provider.requests) == len(asked)
    other.client.close()


def test_what_says_nothing_of_the_question_makes_no_other_request(person, provider):
    asked = CHATS["openai"]
    assert person.cache_of(asked) == "MISS"
    for name in (
        "user-agent",
        "idempotency-key",
        "traceparent",
        "x-stainless-retry-count",
        "x-metrion-user",
        "x-request-id",
        "cookie",
        "x-forwarded-for",
    ):
        assert person.cache_of(asked, WANTED | {name: str(uuid.uuid4())}) == "HIT", name
    written_otherwise = b'{ "messages" : [{"content":"\\u0068i","role":"user"}],\n"model":"gpt-4o"}'
    assert person.cache_of(asked, body=written_otherwise) == "HIT"
    # another spelling of the same route
    short = replace(asked, path="/api/proxy/openai/chat/completions")
    assert person.cache_of(short) == "HIT"
    assert "version" not in person.ask(asked)[1]
    usual = {"anthropic-version": "2023-06-01"}
    assert person.cache_of(FLAVOURS["anthropic messages"]) == "MISS"
    assert person.cache_of(FLAVOURS["anthropic messages"], WANTED | usual) == "HIT"
    assert len(provider.requests) == 2


def test_a_large_body_is_digested_as_a_small_one_is(person, provider):
    text = "x" * 600_000
    asked = Asked(CHAT_PATH, {**CHAT, "messages": [{"role": "user", "content": text}]})
    assert person.cache_of(asked) == "MISS"
    assert person.cache_of(asked, body=json.dumps(asked.body, indent=1).encode()) == "HIT"


def exchange(headers=(), **changes):
    """A request on its way, ready to be forwarded."""
    made = Exchange(
        str(uuid.uuid4()), datetime.now(UTC), "POST", CHAT_PATH, "", list(headers), "", http2=False,
        marks=Marks(0.0),
    )  # fmt: skip
    made.route = RouteTable(load_providers(), {}).match("POST", CHAT_PATH)
    made.caller = Caller(uuid.UUID(int=1), "pro", {}, datetime.now(UTC).date(), 0)
    made.upstream_path = "/v1/chat/completions"
    for name, value in changes.items():
        setattr(made, name, value)
    return made


HEADER = st.tuples(st.sampled_from([b"a", b"ab", b"b"]), st.sampled_from([b"", b"a", b"b", b"ab"]))


@given(st.lists(HEADER, max_size=4), st.lists(HEADER, max_size=4))
def test_the_order_of_header_names_means_nothing_and_all_else_does(one, other):
    def by_name(headers):
        return {name: [v for n, v in headers if n == name] for name, _ in headers}

    digests = [fingerprint(exchange(upstream_headers=each), b"") for each in (one, other)]
    assert (digests[0] == digests[1]) == (by_name(one) == by_name(other))


def test_every_part_of_the_request_is_in_its_fingerprint():
    mistral = RouteTable(load_providers(), {}).match("GET", "/api/proxy/mistral/v1/models")
    stranger = Caller(uuid.UUID(int=2), "pro", {}, datetime.now(UTC).date(), 0)
    parts = [
        {},
        {"caller": stranger},
        {"route": mistral},
        {"mode": Mode.PASS_THROUGH},
        {"mode": Mode.PASS_THROUGH, "own_key": "a"},
        {"mode": Mode.PASS_THROUGH, "own_key": "b"},
        {"method": "GET"},
        {"upstream_path": "/v1/chat/completions?a"},
        {"upstream_headers": [(b"a", b"b")]},
    ]
    found = {fingerprint(exchange(**part), b"") for part in parts}
    assert len(found | {fingerprint(exchange(), b"x")}) == len(parts) + 1
    assert all(len(each) == 32 for each in found)


# ---- what is asked of the cache -----------------------------------------------------------------


def wish(*headers):
    return take_cache_wish(exchange([(name.encode(), value.encode()) for name, value in headers]))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("max-age=0", 0),
        ("max-age=1", 1),
        ("Max-Age=60", 60),
        ("max-age=007", 7),
        (f"max-age={MOST_SECONDS}", MOST_SECONDS),
        (f"max-age={MOST_SECONDS + 1}", MOST_SECONDS),
        ("max-age=" + "9" * 4999, MOST_SECONDS),
    ],
)
def test_an_answer_lives_as_long_as_is_said_and_a_year_at_most(value, seconds):
    use = wish(("X-Metrion-Cache", "true"), ("Cache-Control", value))
    assert (use.reads, use.life, use.oldest) == (True, seconds, seconds)


def test_it_lives_a_week_if_nothing_is_said():
    assert wish(("x-metrion-cache", "refresh")) == CacheUse(
        reads=False, life=USUAL_SECONDS, oldest=MOST_SECONDS
    )
    assert USUAL_SECONDS == 7 * DAY_SECONDS
    assert wish(("cache-control", "garbage")) is None


@pytest.mark.parametrize("value", ["false", "TRUE", "yes", "1", "", "hit", "true, true"])
def test_another_wish_is_refused(value):
    with pytest.raises(Refused, match="refresh") as refused:
        wish(("x-metrion-cache", value))
    assert (refused.value.status, refused.value.code) == (400, "invalid_request")
    with pytest.raises(Refused):
        wish(("x-metrion-cache", "true"), ("x-metrion-cache", "refresh"))


@pytest.mark.parametrize(
    "value",
    ["max-age=", "max-age=-1", "max-age=1.5", "max-age=abc", "max-age", "no-store", "no-cache",
     "max-age=1, max-age=2", "max-age=60, no-transform", 'max-age="60"', "max-age = 60", "",
     "max-age=1" + "0" * 6000, "max-age=\u0661"],
)  # fmt: skip
def test_garbage_for_a_life_is_refused(value):
    with pytest.raises(Refused, match="max-age=N"):
        wish(("x-metrion-cache", "true"), ("cache-control", value))
    with pytest.raises(Refused, match="max-age=N"):
        wish(("x-metrion-cache", "true"), *[("cache-control", "max-age=1")] * 2)


def test_a_wish_of_nobody_is_refused():
    nobody = exchange([(b"x-metrion-cache", b"true")], caller=None)
    with pytest.raises(Refused, match="x-metrion-token"):
        take_cache_wish(nobody)


def test_refusals_reach_the_client_and_nothing_is_forwarded(person, provider):
    for headers in ({"x-metrion-cache": "no"}, WANTED | {"cache-control": "max-age=soon"}):
        status, got, body = person.ask(CHATS["openai"], headers)
        assert (status, got["x-metrion-error"]) == (400, "invalid_request"), body
    assert not provider.requests
    assert [row["status"] for row in person.rows(2)] == [400, 400]


def test_cache_control_is_the_providers_unless_the_cache_is_used(person, provider):
    person.ask(CHATS["openai"], {"cache-control": "no-cache, x=y"})
    assert provider.requests[-1].header("cache-control") == "no-cache, x=y"
    person.ask(CHATS["openai"], WANTED | {"cache-control": "max-age=5"})
    assert provider.requests[-1].header("cache-control") is None


# ---- how long -----------------------------------------------------------------------------------


def life_of(row):
    return round((row["expires_at"] - row["created_at"]).total_seconds())


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, USUAL_SECONDS),
        ({"cache-control": "max-age=90"}, 90),
        ({"cache-control": "max-age=999999999999"}, MOST_SECONDS),
    ],
)
def test_an_answer_expires(headers, seconds, person, provider):
    asked = CHATS["openai"]
    assert person.cache_of(asked, WANTED | headers) == "MISS"
    assert life_of(person.stored(1)[0]) == seconds
    person.age(seconds - 60)
    _, got, _ = person.ask(asked)
    assert got["x-metrion-cache"] == "HIT"
    assert seconds - 60 <= int(got["age"]) <= seconds
    person.age(61)
    assert person.cache_of(asked) == "MISS"
    assert len(provider.requests) == 2


def test_nobody_gets_an_older_answer_than_they_say(person, provider):
    asked = CHATS["openai"]
    person.ask(asked)
    person.stored(1)
    person.age(100)
    assert person.cache_of(asked, WANTED | {"cache-control": "max-age=200"}) == "HIT"
    assert person.cache_of(asked, WANTED | {"cache-control": "max-age=50"}) == "MISS"
    assert person.cache_of(asked, WANTED | {"cache-control": "max-age=50"}) == "HIT"
    assert life_of(person.stored(1)[0]) == 50
    assert person.cache_of(asked, WANTED | {"cache-control": "max-age=0"}) == "MISS"
    assert len(provider.requests) == 3


# ---- what is stored -----------------------------------------------------------------------------

STREAM = CHATS["openai"].streamed()
NOT_STORED = {
    "an error": (CHATS["openai"], {"x-fake-status": "500"}),
    "a refusal of the provider": (CHATS["openai"], {"x-fake-status": "429"}),
    "a redirect": (CHATS["openai"], {"x-fake-redirect": "https://elsewhere.example"}),
    "another success": (CHATS["openai"], {"x-fake-status": "201"}),
    "a stream with an error in it": (STREAM, {"x-fake-error-at": "2"}),
    "a stream of Anthropic's with an error in it": (
        FLAVOURS["anthropic messages, stream"],
        {"x-fake-error-at": "2"},
    ),
    "a stream of responses with an error in it": (
        FLAVOURS["openai responses, stream"],
        {"x-fake-error-at": "2"},
    ),
    "a stream of Gemini's with an error in it": (
        FLAVOURS["gemini native, stream"],
        {"x-fake-error-at": "2"},
    ),
    "a stream that breaks off": (STREAM, {"x-fake-close": "3"}),
    "a stream without an end": (STREAM, {"x-fake-framing": "close", "x-fake-close": "3"}),
    "a body without an end": (
        CHATS["openai"],
        {"x-fake-framing": "close", "x-fake-close": "40b"},
    ),
    "a body that breaks off": (CHATS["openai"], {"x-fake-close": "40b"}),
    "a stream of Gemini's without an end": (
        FLAVOURS["gemini native, stream"],
        {"x-fake-framing": "close", "x-fake-events": "6", "x-fake-close": "2"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NOT_STORED)
def test_only_whole_answers_without_errors_are_stored(name, person, provider):
    asked, knobs = NOT_STORED[name]
    for _ in range(2):
        client = person.installation.connect()
        person.send(asked, WANTED | knobs, client=client)
        status, headers = client.head()
        with contextlib.suppress(EOFError):
            any(client.chunks() if "transfer-encoding" in headers else ())
        if status != 502:
            assert headers["x-metrion-cache"] == "MISS"
        client.close()
    person.rows(2)
    person.stored(0)
    assert len(provider.requests) == 2


def test_an_answer_up_to_a_size_is_stored(person, installation):
    fits, too_long = {"x-fake-big": "1900000"}, {"x-fake-big": "2200000"}
    for knobs, expected in ((fits, "HIT"), (too_long, "MISS")):
        assert person.cache_of(CHATS["openai"], WANTED | knobs) == "MISS"
        assert person.cache_of(CHATS["openai"], WANTED | knobs) == expected
    person.stored(1)
    assert installation.metric("answers", "too_long") == 2


def test_a_long_stream_is_passed_on_and_not_stored(person, installation, monkeypatch):
    cache = installation.proxy.gateway._cache
    monkeypatch.setattr(cache, "_answer_bytes", 2000)
    _, first = person.pieces(STREAM, WANTED | {"x-fake-events": "50"})
    assert len(b"".join(first)) > 2000
    person.stored(0, 0.2)
    assert cache.budget.held_bytes == 0


def test_a_client_that_leaves_loses_nothing_that_is_paid_for(person, provider, installation):
    knobs = {"x-fake-events": "6", "x-fake-interval": "0.05"}
    leaving = installation.connect()
    person.send(STREAM, WANTED | knobs, client=leaving)
    assert leaving.head()[0] == 200
    leaving.close()
    assert person.rows(1)[0]["outcome"] == "client_closed"
    person.stored(1)
    _, headers, body = person.ask(STREAM, WANTED | knobs)
    assert headers["x-metrion-cache"] == "HIT"
    assert body.endswith(b"data: [DONE]\n\n")
    assert len(provider.requests) == 1


def test_a_client_that_leaves_before_the_end_of_draining_stores_nothing(
    person, provider, installation, monkeypatch
):
    monkeypatch.setattr(installation.proxy.gateway, "drain_bytes", 200)
    leaving = installation.connect()
    knobs = {"x-fake-events": "40", "x-fake-interval": "0.02"}
    person.send(STREAM, WANTED | knobs, client=leaving)
    leaving.head()
    leaving.close()
    person.rows(1)
    person.stored(0, 0.3)
    assert installation.proxy.gateway._cache.budget.held_bytes == 0


def test_two_at_once_both_ask_and_one_answer_is_kept(person, provider, installation):
    slow = {"x-fake-delay": "0.3"}
    clients = [installation.connect() for _ in range(4)]
    for client in clients:
        person.send(CHATS["openai"], WANTED | slow, client=client)
    answers = [client.response() for client in clients]
    assert {headers["x-metrion-cache"] for _, headers, _ in answers} == {"MISS"}
    assert len(provider.requests) == 4
    _, headers, body = person.ask(CHATS["openai"], WANTED | slow)
    assert headers["x-metrion-cache"] == "HIT"
    assert body in [body for _, _, body in answers]
    person.stored(1)
    for client in clients:
        client.close()


def test_an_answer_can_be_had_again_as_soon_as_it_was_given(person, installation, monkeypatch):
    """Also while it is still being stored."""
    store = installation.proxy.gateway._cache._store
    usual = store.store

    async def slowly(*arguments):
        await asyncio.sleep(0.3)
        return await usual(*arguments)

    monkeypatch.setattr(store, "store", slowly)
    for number in range(3):
        asked = replace(CHATS["openai"], body={**CHAT, "seed": number})
        assert [person.cache_of(asked) for _ in range(2)] == ["MISS", "HIT"]


# ---- what a hit is ------------------------------------------------------------------------------


def test_hits_count_towards_the_rate(installation, provider, monkeypatch):
    person = installation.account()
    statuses = [person.ask(CHATS["openai"])[0] for _ in range(101)]
    assert statuses == [200] * 100 + [429]
    person.client.close()


def test_hits_count_towards_the_month(installation, provider):
    provider.clear()
    person = installation.account("free")
    answers = [person.ask(CHATS["openai"]) for _ in range(4)]
    assert [status for status, _, _ in answers] == [200, 200, 200, 429]
    assert answers[-1][1]["x-metrion-error"] == "monthly_limit"
    assert len(provider.requests) == 1
    refused = person.rows(4)[-1]
    assert (refused["cached"], refused["outcome"]) == (False, "refused")
    counted = installation.administrator.execute(
        "SELECT sum(forwarded) AS forwarded, sum(cached) AS cached, sum(saved_usd) AS saved,"
        " sum(cost_usd) AS cost, sum(unsaved) AS unsaved FROM metrion.usage_days"
        " WHERE account_id = %s",
        [person.id],
    ).fetchone()
    assert (counted["forwarded"], counted["cached"], counted["unsaved"]) == (3, 2, 0)
    assert counted["saved"] == 2 * counted["cost"] > 0
    person.client.close()


def test_what_a_hit_saves_is_not_known_if_the_provider_did_not_say(person, installation):
    knobs = {"x-fake-usage": "none"}
    assert [person.cache_of(CHATS["openai"], WANTED | knobs) for _ in range(2)] == ["MISS", "HIT"]
    miss, hit = person.rows(2)
    assert (miss["total_tokens"], hit["total_tokens"]) == (None, 0)
    assert (hit["cost_usd"], hit["saved_usd"]) == (0, None)


def test_a_listed_page_may_read_what_became_of_it(person):
    origin = {"origin": "https://app.example"}
    for expected in ("MISS", "HIT"):
        _, headers, _ = person.ask(CHATS["openai"], WANTED | origin)
        assert headers["x-metrion-cache"] == expected
        assert headers["access-control-allow-origin"] == "https://app.example"
        assert "x-metrion-cache" in headers["access-control-expose-headers"]
    # the page is not part of the question
    assert "access-control-allow-origin" not in person.ask(CHATS["openai"])[1]


def test_an_old_client_gets_a_stored_stream_too(person, installation):
    """HTTP/1.0 knows no chunks: the end of the connection is the end of the answer."""
    first = b"".join(person.pieces(STREAM)[1])
    old = installation.connect()
    body = STREAM.json
    old.send(
        f"POST {STREAM.path} HTTP/1.0\r\nAuthorization: Bearer {person.token}\r\n"
        f"x-metrion-cache: true\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        + body
    )
    status, headers = old.head()
    assert (status, headers["x-metrion-cache"]) == (200, "HIT")
    assert old.file.read() == first
    old.close()


def test_a_hit_is_the_same_where_somebody_looks(install, provider):
    provider.clear()
    person = install(is_observed=True).account()
    for asked in (CHATS["openai"], STREAM, FLAVOURS["gemini native, list"]):
        got = [person.pieces(asked, WANTED | {"x-fake-events": "4"}) for _ in range(2)]
        assert [headers["x-metrion-cache"] for headers, _ in got] == ["MISS", "HIT"]
        assert got[0][1] == got[1][1]
    assert len(provider.requests) == 3
    leaving = person.installation.connect()
    slow = {"x-fake-events": "6", "x-fake-interval": "0.05"}
    person.send(STREAM, WANTED | slow, client=leaving)
    leaving.head()
    leaving.close()
    assert person.rows(7)[-1]["outcome"] == "client_closed"
    person.stored(4)
    assert person.cache_of(STREAM, WANTED | slow) == "HIT"
    person.client.close()


def test_answers_go_with_their_account(person, installation):
    assert person.cache_of(CHATS["openai"]) == "MISS"
    person.stored(1)
    installation.administrator.execute("DELETE FROM metrion.accounts WHERE id = %s", [person.id])
    person.stored(0)


def test_a_new_token_leaves_the_answers(person, installation):
    assert person.cache_of(CHATS["openai"]) == "MISS"

    async def regenerate():
        database = Database(installation.fresh.url(roles.API), pool_size=1)
        async with database.account(person.id) as connection:
            token = await accounts.regenerate_token(connection, installation.fresh.keys, person.id)
        await database.close()
        return token

    person.token = asyncio.run(regenerate())
    assert person.cache_of(CHATS["openai"]) == "HIT"


def test_nothing_that_was_asked_or_answered_is_in_the_database(person, installation):
    text = "CANARY of a question"
    asked = Asked(CHAT_PATH, {**CHAT, "messages": [{"role": "user", "content": text}]})
    _, _, body = person.ask(asked, WANTED | {"x-fake-echo": "1"})
    said = json.loads(body)["choices"][0]["message"]["content"].encode()
    (row,) = person.stored(1)
    kept = row["digest"] + row["sealed"]
    assert text.encode() not in kept
    assert said[:20] not in kept


# ---- failures -----------------------------------------------------------------------------------


class BrokenStore:
    """Fails as it is told to; counts how often it is asked."""

    def __init__(self, error=None, seconds=0.0) -> None:
        self.error, self.seconds, self.asked = error, seconds, 0

    async def find(self, account_id, fingerprint, max_age):
        self.asked += 1
        await asyncio.sleep(self.seconds)
        if self.error:
            raise self.error

    async def store(self, account_id, fingerprint, answer, life):
        return await self.find(account_id, fingerprint, life)


@pytest.mark.parametrize(
    "store",
    [
        BrokenStore(DatabaseUnavailable("away")),
        BrokenStore(SealingError("changed")),
        BrokenStore(RuntimeError("a defect")),
        BrokenStore(seconds=30),
    ],
    ids=["away", "does not open", "a defect", "silent"],
)
def test_a_cache_that_fails_is_a_miss(store, person, provider, installation, monkeypatch):
    cache = installation.proxy.gateway._cache
    monkeypatch.setattr(cache, "_store", store)
    monkeypatch.setattr(replay_cache, "ASK_SECONDS", 0.1)
    monkeypatch.setattr(replay_cache, "STORE_SECONDS", 0.1)
    failed = installation.metric("lookups", "failed")
    for _ in range(3):
        assert person.cache_of(CHATS["openai"]) == "MISS"
    assert len(provider.requests) == 3
    assert installation.metric("lookups", "failed") == failed + 3
    if isinstance(store.error, DatabaseUnavailable):
        assert store.asked == 1  # and left alone for a while
    deadline = time.monotonic() + 5
    while cache.budget.held_bytes and time.monotonic() < deadline:
        time.sleep(0.01)
    assert cache.budget.held_bytes == 0
    cache._away_until = 0.0


def test_an_answer_that_was_changed_in_the_database_is_asked_for_again(person, installation):
    asked = CHATS["openai"]
    assert person.cache_of(asked) == "MISS"
    person.stored(1)
    installation.administrator.execute(
        "UPDATE metrion.response_cache SET sealed = set_byte(sealed, 40, 255 - get_byte(sealed, 40))"
        " WHERE account_id = %s",
        [person.id],
    )
    assert person.cache_of(asked) == "MISS"
    assert person.cache_of(asked) == "HIT"


# ---- the end ------------------------------------------------------------------------------------


class Whole:
    """A meter that heard all of it."""

    complete, error_message, model, usage = True, None, "m", None


async def test_a_question_that_is_slow_to_let_go_is_left(monkeypatch):
    """As one to a database that hangs: to end it, it has to be asked again."""
    monkeypatch.setattr(replay_cache, "ASK_SECONDS", 0.05)

    class Stubborn(BrokenStore):
        async def find(self, account_id, fingerprint, max_age):
            try:
                await asyncio.sleep(10)
            finally:
                await asyncio.sleep(0.3)

    cache = ReplayCache(Stubborn(), CollectorRegistry())
    one = exchange(cache=CacheUse(reads=True, life=60, oldest=60))
    begun = time.monotonic()
    assert await cache.find(one, b"") is None
    assert time.monotonic() - begun < 0.25
    assert await cache.find(one, b"") is None  # the database is left alone
    assert len(cache._left) == 1
    await cache.close()
    assert not cache._left


async def test_it_waits_at_its_end_for_what_is_being_stored():
    kept = []

    class SlowStore(BrokenStore):
        async def store(self, account_id, fingerprint, answer, life):
            await asyncio.sleep(0.05)
            kept.append(answer)
            return True

    cache = ReplayCache(SlowStore(), CollectorRegistry())
    one = exchange(meter=Whole(), status=200, cache=CacheUse(reads=True, life=60, oldest=60))
    await cache.find(one, b"")
    cache.begin(one, [(b"content-type", b"application/json"), (b"x-request-id", b"1")])
    one.cache.recording.add(b"{}")
    cache.end(one)
    await cache.close()
    assert kept == [StoredAnswer((("content-type", "application/json"),), b"{}", (2,), "m", None)]
    assert cache.budget.held_bytes == 0


def test_threads_and_tasks_are_not_left(installation):
    assert threading.active_count() < 20
