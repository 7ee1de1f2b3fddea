import re
import uuid
from datetime import UTC, date, datetime

import pytest
from mitmproxy.utils.emoji import emoji

from addons import facts, inspection
from addons.exchange import Exchange, Marks
from addons.facts import COLUMNS, facts_of, marker, money, own_answer, sentence
from addons.outcome import Outcome
from addons.providers import load_providers
from addons.providers.base import RouteTable
from storage.callers import Caller

ACCOUNT = uuid.UUID("01a204fb-47c9-7059-8598-f6b522443eeb")
PATH = "/api/proxy/openai/v1/chat/completions"
ROW = {
    "id": "01a204fc-8928-70ca-b817-3f921cc60164",
    "account_id": str(ACCOUNT),
    "created_at": "2026-01-02T03:04:05+00:00",
    "provider": "openai",
    "endpoint": "chat/completions",
    "model": "gpt-4o-2024-08-06",
    "requester": "anna",
    "mode": "stored",
    "status": 200,
    "outcome": "ok",
    "streamed": True,
    "cached": False,
    "input_tokens": 12,
    "output_tokens": 8,
    "cost_usd": "0.000110000000",
    "latency_ms": 312.4,
    "ttfb_ms": 20.04,
    "overhead_ms": 0.4,
    "error": None,
    "left_out": 3,
    "something_new": "that nobody has allowed",
}


def exchange(**fields) -> Exchange:
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    made = Exchange(str(ACCOUNT), at, "POST", PATH, "", [], "::1", http2=False, marks=Marks(0.0))
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def said(**changes) -> str:
    return sentence(facts_of(exchange(row=ROW | changes)))


def test_only_allowed_columns_of_the_row_are_facts():
    found = facts_of(exchange(row=ROW))
    assert set(found) <= set(COLUMNS)
    assert "left_out" not in found
    assert "something_new" not in found
    assert "error" not in found  # there was none
    assert found["cached"] is False


def test_all_of_it_in_one_line():
    assert said() == (
        "ok · openai gpt-4o-2024-08-06 · 12 in 8 out · $0.00011"
        " · 312 ms (first byte 20.0, Metrion 0.4) · requester anna · stored"
        f" · account {ACCOUNT}"
    )


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"cached": True, "input_tokens": 0, "output_tokens": 0, "cost_usd": "0"}, "ok, cached"),
        ({"cached": True, "input_tokens": 0, "output_tokens": 0, "cost_usd": "0"}, "0 out · $0 "),
        ({"cost_usd": None}, "12 in 8 out · price unknown"),
        ({"input_tokens": None, "output_tokens": None}, "tokens not reported"),
        ({"output_tokens": None}, "12 in ? out"),
        ({"model": None}, "openai chat/completions"),
        ({"ttfb_ms": None, "overhead_ms": None}, " · 312 ms · "),
        ({"outcome": "provider_error", "error": "e" * 500}, " · " + "e" * 120),
    ],
)
def test_parts_of_the_line(changes, part):
    assert part in said(**changes)


def test_a_refusal_used_nothing():
    line = said(outcome="refused", input_tokens=None, output_tokens=None, cost_usd=None)
    assert "token" not in line
    assert "price" not in line


def test_while_it_is_under_way():
    made = exchange()
    assert sentence(facts_of(made)) == f"under way · POST {PATH}"
    made.route = RouteTable(load_providers(), {}).match("POST", PATH)
    made.caller = Caller(ACCOUNT, "pro", {}, date(2026, 1, 1), 0)
    made.model = "gpt-4o"
    assert sentence(facts_of(made)) == f"under way · openai gpt-4o · stored · account {ACCOUNT}"


def test_nothing_secret_becomes_a_fact():
    token = "sk-metrion-" + "0123456789abcdef" * 2
    made = exchange(path=f"/api/{token}", model=token, error=f"no {token}")
    assert token not in repr(facts_of(made))


def test_an_answer_to_nobody_known():
    assert sentence({"endpoint": "GET /healthz"} | own_answer(200, None)) == "ok · GET /healthz"
    assert marker(own_answer(401, "invalid_token")) == ":no_entry:"


def test_markers():
    assert marker({"outcome": "ok"}) == ""
    assert marker({"outcome": "ok", "cached": True}) == facts.CACHED_MARKER
    assert marker({}) == ""
    assert set(facts.MARKERS) == set(Outcome) - {Outcome.OK}
    assert {*facts.MARKERS.values(), facts.CACHED_MARKER} <= set(emoji)


@pytest.mark.parametrize(
    ("amount", "text"),
    [("0.000110000000", "0.00011"), ("0", "0"), ("1E-9", "0.000000001"), ("12.500", "12.5")],
)
def test_money(amount, text):
    assert money(amount) == text


def test_the_mark_is_no_fact():
    assert re.fullmatch(r"[a-z]+", inspection.MARK)
