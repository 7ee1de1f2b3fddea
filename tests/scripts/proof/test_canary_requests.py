import json

import pytest

from addons.providers import load_providers
from addons.providers.base import RouteTable, UnknownRouteError
from scripts.fake_provider.knobs import Knobs
from scripts.proof.canaries import Flock, Kind
from scripts.proof.canary_requests import (
    FAULTS,
    PLACES,
    STALLS,
    STATUSES,
    Caller,
    Questions,
    hung_up,
    main_route,
    misplaced,
    refused,
    statuses,
)

PROVIDERS = load_providers()
TOKEN = "sk-metrion-" + "0" * 32


@pytest.fixture
def flock() -> Flock:
    return Flock(1)


@pytest.fixture
def questions(flock) -> Questions:
    return Questions(flock, PROVIDERS)


@pytest.fixture
def own(flock) -> Caller:
    keys = {provider.name: flock.provider_key(provider, Kind.OWN_KEY) for provider in PROVIDERS}
    return Caller(TOKEN, keys, "a-session")


def knobs_of(ask) -> Knobs:
    return Knobs.parse({name.encode(): value.encode() for name, value in ask.headers.items()})


def test_every_route_is_asked_for_in_every_place(questions, own):
    table = RouteTable(PROVIDERS, {})
    stored = Caller(TOKEN)
    asked = [ask for place in PLACES for ask in questions.every_route(stored, [place])]
    reached = {
        (ask.method, table.match(ask.method, ask.path.partition("?")[0]).endpoint) for ask in asked
    }
    # of the two lists of Gemini's models at one path the credential's place chooses
    assert reached >= {
        (endpoint.method, endpoint)
        for provider in PROVIDERS
        for endpoint in provider.endpoints
        if not endpoint.for_keys_in
    }
    assert len(asked) >= 5 * 50
    for ask in asked:
        assert [TOKEN in value for value in (*ask.headers.values(), ask.path)].count(True) == 1
    mixed = list(questions.every_route(own, PLACES))
    assert len(mixed) == len(asked) / len(PLACES)
    assert all(ask.headers["x-metrion-token"] == TOKEN for ask in mixed)


def test_each_request_has_a_prompt_and_an_answer_of_its_own(questions, flock):
    asked = list(questions.one_of_each(Caller(TOKEN)))
    assert len(asked) == len(PROVIDERS) == len({ask.body for ask in asked})
    assert len({ask.headers["x-canary"] for ask in asked}) == len(PROVIDERS)
    assert all(flock.mark in ask.body for ask in asked)


@pytest.mark.parametrize("streamed", [False, True])
def test_the_main_route_streams_or_does_not(streamed):
    for provider in PROVIDERS:
        endpoint, path = main_route(provider, streamed=streamed)
        assert path.startswith("/api/proxy/")
        assert endpoint.name in {
            *("messages", "chat/completions", "generateContent", "streamGenerateContent"),
        }


def test_all_knobs_are_known(questions, own):
    asks = [
        *questions.failing(own, FAULTS | STALLS),
        *statuses(questions.one_of_each(own)),
        *hung_up(questions.one_of_each(own, streamed=True)),
    ]
    assert len(asks) == 2 * len(FAULTS | STALLS) + (len(STATUSES) + 1) * len(PROVIDERS)
    assert all(knobs_of(ask) != Knobs() for ask in asks)
    assert len({ask.what.partition(" ")[0] for ask in asks}) == len(PROVIDERS)
    assert sum(ask.leaves for ask in asks) == len(PROVIDERS)


def test_what_metrion_refuses_has_a_secret_in_it(questions, own, flock):
    ask = next(questions.one_of_each(own))
    table = RouteTable(PROVIDERS, {})
    key = own.key(PROVIDERS[0]).encode()
    assert (
        key.decode() in ask.headers["x-api-key" if "x-api-key" in ask.headers else "authorization"]
    )
    odd = list(refused(ask, flock))
    assert len({one.what for one in odd}) == len(odd) > 10
    for one in odd:
        said = json.dumps([one.headers, one.path, one.method]).encode() + one.body
        assert key in said
    with pytest.raises(UnknownRouteError):
        table.match("POST", next(one.path for one in odd if one.what == "no route"))


def test_a_secret_may_stand_where_a_label_belongs(questions, own):
    ask = next(questions.one_of_each(own))
    odd = list(misplaced(own, ask, "the-key"))
    assert json.loads(odd[0].body)["model"] == "the-key"
    assert {one.headers["x-metrion-user"] for one in odd} == {"anna", "the-key", TOKEN}
    assert f"a={TOKEN}" in odd[-1].path
