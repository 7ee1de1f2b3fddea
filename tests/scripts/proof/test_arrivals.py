"""Whose requests a provider got, and what it got that nobody should have sent."""

import http.client

import pytest

from scripts.fake_provider import FakeProvider
from scripts.proof.arrivals import Arrivals

OWNERS = {"sk-anna-123": "anna", "sk-bob-1234": "bob"}


@pytest.fixture
def providers():
    with FakeProvider() as steady, FakeProvider() as fragile:
        yield steady, fragile


def get(provider: FakeProvider, **headers: str) -> None:
    host, _, port = provider.origin.removeprefix("http://").partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=5)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", "/v1/models", headers=named)
    connection.getresponse().read()
    connection.close()


def test_who_asked_for_which_answer(providers):
    steady, fragile = providers
    arrivals = Arrivals(steady, [fragile], OWNERS)
    get(steady, authorization="Bearer sk-anna-123")
    get(fragile, x_goog_api_key="sk-anna-123")
    arrivals.take()
    get(steady, x_api_key="sk-bob-1234")
    arrivals.take()
    arrivals.take()
    assert arrivals.counts == {"anna": 2, "bob": 1}
    assert arrivals.asked == {1: "anna", 2: "bob"}
    assert arrivals.strangers == []


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer sk-metrion-0123"},
        {"authorization": "Bearer sk-anna-123", "x_api_key": "sk-bob-1234"},
        {"authorization": "Bearer sk-anna-123", "x_metrion_token": "x"},
        {"authorization": "Bearer sk-anna-123", "cookie": "a=b"},
        {},
    ],
)
def test_what_no_provider_may_get(providers, headers):
    arrivals = Arrivals(*(providers[0], [providers[1]]), OWNERS)
    get(providers[0], **headers)
    arrivals.take()
    assert len(arrivals.strangers) == 1
    assert not arrivals.counts
