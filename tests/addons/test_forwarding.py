"""What goes upstream, and the key that is opened for one write."""

import uuid
from datetime import UTC, datetime

import pytest

from addons.exchange import Exchange, Marks, Mode
from addons.forwarding import prepare, wire_headers
from addons.providers import load_providers
from addons.providers.base import RouteTable, parse_origin
from storage.callers import Caller, key_binding
from storage.sealing import MasterKeys

KEYS = MasterKeys({1: bytes(range(32))}, 1)
ACCOUNT = uuid.UUID(int=1)
ROUTES = RouteTable(load_providers(), {})


def exchange(path="/api/proxy/openai/v1/chat/completions", query="", **changes):
    made = Exchange(
        str(uuid.uuid4()), datetime.now(UTC), "POST", path, query,
        [(b"X-Kept", b"1"), (b"Host", b"metrion")], "", http2=False, marks=Marks(0.0),
    )  # fmt: skip
    made.route = ROUTES.match("POST", path)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def caller(**keys):
    sealed = {name: KEYS.seal(key, key_binding(ACCOUNT, name)) for name, key in keys.items()}
    return Caller(ACCOUNT, "pro", sealed, datetime.now(UTC).date(), 0)


@pytest.mark.parametrize(("query", "path"), [("", ""), ("a=b", "?a=b")])
def test_the_path_and_the_host_are_the_providers(query, path):
    made = exchange(query=query)
    prepare(made, parse_origin("https://eu.example:8443"))
    assert made.upstream_path == "/v1/chat/completions" + path
    assert (b"host", b"eu.example:8443") in made.upstream_headers
    assert (b"x-kept", b"1") in made.upstream_headers
    assert (b"host", b"metrion") not in made.upstream_headers


def test_a_stored_key_is_opened_where_the_provider_wants_it():
    made = exchange(caller=caller(openai=b"sk-0123456789"))
    assert wire_headers(made, KEYS) == [(b"authorization", b"Bearer sk-0123456789")]
    assert made.guard.blot(b"x sk-0123456789") == b"x " + b"*" * 13
    made = exchange("/api/proxy/v1/messages", caller=caller(anthropic=b"sk-ant-0123"))
    assert wire_headers(made, KEYS) == [(b"x-api-key", b"sk-ant-0123")]


def test_an_own_key_is_written_once():
    made = exchange(mode=Mode.PASS_THROUGH, own_key="sk-own-0123456789")
    assert wire_headers(made, KEYS) == [(b"authorization", b"Bearer sk-own-0123456789")]
    assert made.own_key is None
    with pytest.raises(RuntimeError, match="once"):
        wire_headers(made, KEYS)


def test_without_a_route_or_an_account_there_is_no_key():
    for made, why in (
        (exchange(route=None), "without a route"),
        (exchange(), "without an account"),
    ):
        with pytest.raises(RuntimeError, match=why):
            wire_headers(made, KEYS)
    with pytest.raises(RuntimeError):
        prepare(exchange(route=None), parse_origin("https://eu.example"))
