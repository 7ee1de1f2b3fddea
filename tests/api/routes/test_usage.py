import calendar
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.routes import usage as routes
from storage import latency, usage
from storage.identifiers import uuid7
from storage.ingest import LogWriter
from storage.records import Question
from storage.records import ask as ask_records

PATH = "/api/v1/usage"
TABS = ("overview", "costs", "latency", "errors", "requesters")
NOW = datetime.now(UTC)
NOTHING = dict.fromkeys(
    [
        "input_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "total_tokens",
        "cost_usd",
    ]
)


def ago(**span: float) -> str:
    return (datetime.now(UTC) - timedelta(**span)).isoformat()


@pytest.fixture
def ask(api, new_account):
    """A function that asks as an account."""

    def get(account, tab: str, expect: int = 200, **params: Any) -> dict[str, Any]:
        answer = api.get(f"{PATH}/{tab}", params=params, headers=account.headers)
        assert answer.status_code == expect, answer.text
        return answer.json()

    return get


@pytest.fixture
async def ada(new_account, write_logs):
    """An account with requests of every kind in this week and the one before."""
    account = await new_account("ada@example.com", "pro")
    for days in (0, 1, 1, 3):
        write_logs(account, created_at=ago(days=days), cost_usd="0.5", requester="ann")
    other = {"provider": "anthropic", "model": "claude", "requester": None}
    write_logs(account, created_at=ago(days=1), cost_usd="0.25", latency_ms=2000.0, **other)
    write_logs(account, status=429, outcome="refused", overhead_ms=None, latency_ms=1.0, **NOTHING)
    write_logs(account, status=500, outcome="provider_error", error="Overloaded", **NOTHING)
    write_logs(account, status=None, outcome="client_closed", model=None, **NOTHING)
    write_logs(account, cost_usd=None, model="new-model")
    write_logs(account, cached=True, cost_usd="0", saved_usd="0.7", latency_ms=2.0)
    write_logs(account, created_at=ago(days=8), cost_usd="1.5", requester="bob")
    return account


def test_overview_adds_up(ask, ada):
    data = ask(ada, "overview", range="7d")
    assert data["range"]["step"] == "day"
    assert len(data["timestamps"]) == 7
    assert data["timestamps"][-1] == int(NOW.replace(hour=0, minute=0, second=0).timestamp())
    requests = data["requests"]
    assert (requests["total"], requests["previous"]) == (10, 1)
    assert requests["ok"] == [0, 0, 0, 1, 0, 3, 4]
    assert requests["errors"] == [0, 0, 0, 0, 0, 0, 2]
    assert data["requests_by_model"][0] == {
        "model": "gpt-4o-mini-2024-07-18",
        "provider": "openai",
        "requests": 7,
    }
    assert {"model": None, "provider": "openai", "requests": 1} in data["requests_by_model"]
    assert data["errors"] == {
        "total": 2,
        "rate": 0.2,
        "previous_rate": 0,
        "by_status": [{"status": 429, "count": 1}, {"status": 500, "count": 1}],
    }
    assert data["tokens"]["total"] == 7 * 1286
    assert data["tokens"]["unreported"] == 1
    assert sum(data["tokens"]["input"]) == 7 * 1200
    assert data["cost"]["total"] == 2.25
    assert data["cost"]["values"] == [0, 0, 0, 0.5, 0, 1.25, 0.5]
    assert data["cost"]["previous"] == 1.5
    assert data["cost"]["unpriced"] == 2
    assert [(each["provider"], each["cost"]) for each in data["providers"]] == [
        ("openai", 2.0),
        ("anthropic", 0.25),
    ]
    assert data["providers"][0]["share"] == pytest.approx(2 / 2.25)
    assert data["requesters"] == {"total": 2, "previous": 1, "values": [0, 0, 0, 1, 0, 1, 2]}
    assert data["latency"]["average_ms"] == pytest.approx((7 * 912.5 + 2000) / 8)
    assert data["latency"]["values"][0] is None
    assert data["currency"] == {"code": "USD", "rate": 1, "date": None}


def test_an_account_without_requests_has_no_figures_but_an_answer(api, ask, sign_in, account_of):
    sign_in("new@example.com")
    for tab in TABS:
        for name in ("24h", "7d", "30d", "90d"):
            answer = api.get(f"{PATH}/{tab}", params={"range": name})
            assert answer.status_code == 200, answer.text
    data = api.get(f"{PATH}/overview").json()
    assert data["requests"] == {"total": 0, "previous": None, "ok": [0] * 7, "errors": [0] * 7}
    assert data["errors"]["rate"] is None
    assert data["cost"]["total"] == 0
    assert data["latency"] == {"average_ms": None, "previous_ms": None, "values": [None] * 7}


async def test_nothing_known_is_not_nothing(ask, new_account, write_logs):
    account = await new_account("ada@example.com")
    write_logs(account, 3, **NOTHING)
    data = ask(account, "overview")
    assert data["tokens"]["total"] is None
    assert data["cost"] == {
        "total": None,
        "previous": None,
        "values": [0] * 7,
        "unpriced": 3,
    }
    (model,) = ask(account, "costs")["models"]
    assert (model["cost"], model["total_tokens"], model["unpriced"]) == (None, None, 3)
    (requester,) = ask(account, "requesters")["items"]
    assert (requester["cost_usd"], requester["tokens"]) == (None, None)


def test_costs_by_everything(ask, ada):
    data = ask(ada, "costs", range="30d")
    assert data["by_model"][0]["total"] == 3.5
    assert sum(data["by_model"][0]["values"]) == 3.5
    assert [(each["requester"], each["cost"]) for each in data["by_requester"][:3]] == [
        ("ann", 2.0),
        ("bob", 1.5),
        (None, 0.25),
    ]
    unpriced = {each["model"]: each for each in data["models"]}
    assert unpriced["new-model"]["cost"] is None
    assert unpriced["new-model"]["total_tokens"] == 1286
    assert unpriced["claude"]["cost"] == 0.25
    assert (data["cache_saved_usd"], data["cache_answers"], data["cache_unpriced"]) == (0.7, 1, 0)
    days = [0, 1, 1, 3, 8]
    prices = [0.5, 0.5, 0.5, 0.5, 1.5]
    this_month = sum(
        price
        for age, price in [*zip(days, prices, strict=True), (1, 0.25)]
        if (NOW - timedelta(days=age)).month == NOW.month
    )
    assert data["month_to_date"] == this_month
    if NOW.day > 1:
        passed = NOW.day - 1 + NOW.hour / 24 + NOW.minute / 1440
        expected = this_month * calendar.monthrange(NOW.year, NOW.month)[1] / passed
        assert data["projection"] == pytest.approx(expected, rel=0.01)


async def test_what_the_cache_saved_is_zero_unknown_or_known_in_part(ask, new_account, write_logs):
    account = await new_account("ada@example.com")

    def saved():
        data = ask(account, "costs")
        return data["cache_saved_usd"], data["cache_answers"], data["cache_unpriced"]

    write_logs(account, cost_usd="5")
    assert saved() == (0, 0, 0)
    write_logs(account, cached=True, cost_usd="0", saved_usd=None)
    assert saved() == (None, 1, 1)
    write_logs(account, 2, cached=True, cost_usd="0", saved_usd="0.25")
    assert saved() == (0.5, 3, 1)
    write_logs(account, cached=True, cost_usd="0", saved_usd="1", provider="mistral")
    only = ask(account, "costs", provider="mistral")
    assert (only["cache_saved_usd"], only["cache_answers"]) == (1, 1)


async def test_many_models_become_seven_and_other(ask, new_account, write_logs):
    account = await new_account("ada@example.com")
    for number in range(8):
        write_logs(account, model=f"model-{number}", cost_usd=f"{8 - number}")
    assert [each["model"] for each in ask(account, "costs")["by_model"]] == [
        f"model-{number}" for number in range(8)
    ]
    write_logs(account, model="model-8", cost_usd="0.5")
    shown = ask(account, "overview")["cost_by_model"]
    assert [each["model"] for each in shown] == [*(f"model-{n}" for n in range(7)), "other"]
    assert shown[-1]["total"] == 1.5
    assert shown[-1]["provider"] is None


@pytest.mark.parametrize("params", [{"range": "7d"}, {"range": "24h"}, {"requester": "ann"}])
async def test_percentiles_come_from_records_and_log_alike(ask, new_account, write_logs, params):
    account = await new_account("ada@example.com")
    for ms in range(20, 1020, 20):
        write_logs(
            account,
            latency_ms=float(ms),
            ttfb_ms=ms / 2,
            requester="ann",
            created_at=ago(minutes=1),
        )
    write_logs(account, latency_ms=90_000.0, cached=True, requester="ann")
    write_logs(account, latency_ms=90_000.0, outcome="refused", status=429, requester="ann")
    data = ask(account, "latency", **params)
    overall = data["overall"]
    assert overall["p50"] == pytest.approx(500, rel=0.05)
    assert overall["p95"] == pytest.approx(950, rel=0.05)
    assert overall["p99"] == pytest.approx(990, rel=0.05)
    assert overall["previous_p95"] is None
    (model,) = data["by_model"]
    assert (model["requests"], model["model"]) == (50, "gpt-4o-mini-2024-07-18")
    assert model["ttfb_p50"] == pytest.approx(250, rel=0.05)
    assert data["ttfb"]["average_ms"] == pytest.approx(255, rel=0.05)
    assert data["overhead"]["average_ms"] == pytest.approx(0.5, rel=0.1)
    assert len([value for value in data["p95"] if value is not None]) in {1, 2}
    assert len(data["p50"]) == len(data["timestamps"])


def test_errors_by_code_and_the_newest(ask, ada):
    data = ask(ada, "errors")
    assert (data["requests"], data["total"], data["rate"]) == (10, 2, 0.2)
    assert (data["previous"], data["previous_rate"]) == (0, 0)
    assert {each["code"]: each["values"] for each in data["by_code"]} == {
        429: [0, 0, 0, 0, 0, 0, 1],
        500: [0, 0, 0, 0, 0, 0, 1],
    }
    assert [row["status"] for row in data["recent"]] == [500, 429]
    assert data["recent"][0]["error"] == "Overloaded"


async def test_the_newest_errors_are_of_several_days(ask, new_account, write_logs):
    account = await new_account("many@example.com", "pro")
    failed = {"status": 500, "outcome": "provider_error", **NOTHING}
    for days, count in ((0, 20), (2, 20), (5, 20), (6, 20)):
        write_logs(account, count, created_at=ago(days=days), error=f"{days} days ago", **failed)
    write_logs(account, created_at=ago(days=3))
    recent = ask(account, "errors")["recent"]
    said = [row["error"] for row in recent]
    assert said == ["0 days ago"] * 20 + ["2 days ago"] * 20 + ["5 days ago"] * 10


async def test_the_log_is_not_searched_for_errors_that_are_not_there(
    ask, new_account, write_logs, monkeypatch
):
    """It would take minutes among millions of rows."""
    account = await new_account("fine@example.com", "pro")
    write_logs(account, status=500, outcome="provider_error", **NOTHING)
    write_logs(account, cached=True, cost_usd="0", saved_usd="0.7")
    assert len(ask(account, "errors")["recent"]) == 1
    monkeypatch.setattr("api.routes.usage.recent_errors", None)
    data = ask(account, "errors", cached="true")
    assert (data["requests"], data["total"], data["recent"]) == (1, 0, [])


def test_requesters(ask, ada):
    data = ask(ada, "requesters")
    assert (data["total"], data["left_out"]) == (3, 0)
    ann = data["items"][0]
    assert (ann["requester"], ann["requests"], ann["cost_usd"], ann["errors"]) == ("ann", 4, 2.0, 0)
    assert ann["tokens"] == 4 * 1286
    seen = datetime.fromisoformat(ann["last_seen_at"])
    assert NOW - timedelta(minutes=1) < seen < datetime.now(UTC) + timedelta(minutes=1)
    assert None in [each["requester"] for each in data["items"]]


@pytest.fixture
async def named(new_account, write_logs, database):
    """An account of which each of 450 requests has a name of its own, and the requests."""
    account = await new_account("ada@example.com", "pro")
    made = write_logs(account, requester=None, model=None, cost_usd="0")
    for number in range(1, 450):
        values = {
            "id": str(uuid7()),
            "created_at": ago(days=number % 3),
            "provider": ("grok", "openai")[number % 2],
            "model": f"m{number:03}",
            "requester": f"r{number:03}",
            "cost_usd": str(number % 300) if number % 11 else None,
            "latency_ms": number * 7 % 400 + 1.0,
        }
        made.append(made[0] | values)
    writer = LogWriter(database.url("metrion_proxy"))
    assert writer.write(made[1:]) == 449
    writer.close()
    return account, made


@pytest.fixture
def sizes(monkeypatch):
    """Of how many rows the largest answer of the database was, each time that it was asked."""
    found: list[int] = []

    async def counted(*arguments):
        answer = await ask_records(*arguments)
        found.append(max(map(len, answer.values())))
        return answer

    for module in (usage, latency):
        monkeypatch.setattr(module, "ask", counted)
    return found


def test_of_many_requesters_few_come_out_of_the_database(ask, named, sizes):
    """They are whatever clients send: a million of them would fill the process and hold it up."""
    account, made = named
    made.sort(key=lambda row: (-int(row["cost_usd"] or 0), row["requester"] or ""))
    names = [row["requester"] for row in made]
    data = ask(account, "requesters")
    assert [each["requester"] for each in data["items"]] == names[:200]
    assert (data["total"], data["left_out"]) == (450, 250)
    data = ask(account, "filters")
    assert data["requesters"] == [f"r{number:03}" for number in range(1, 201)]
    assert len(data["models"]) == 200
    assert len(sizes) == 2
    assert max(sizes) <= 300


@pytest.mark.parametrize("params", [{}, {"status": "2xx"}])
def test_of_many_models_the_others_come_together(ask, named, sizes, monkeypatch, params):
    account, _ = named
    tabs = ("overview", "costs", "latency")
    found = {tab: ask(account, tab, **params) for tab in tabs}
    assert len(sizes) == 3
    assert max(sizes) <= 410
    for module in (routes, latency):
        monkeypatch.setattr(module, "Question", whole)
    expected = {tab: ask(account, tab, **params) for tab in tabs}
    assert max(sizes) == 450
    for data in (found, expected):
        del data["costs"]["projection"]  # it is of the moment
    assert found == expected
    assert found["costs"]["by_model"][-1]["model"] == "other"


def whole(*asked, rest=False, **more):
    """A question whose answer is all there is."""
    return Question(*asked[:3]) if rest else Question(*asked, **more)


FILTERS: list[tuple[dict[str, Any], int]] = [
    ({"provider": "anthropic"}, 1),
    ({"provider": "anthropic,openai"}, 10),
    ({"provider": ["anthropic", "openai"]}, 10),
    ({"model": "claude"}, 1),
    ({"model": ["claude", "new-model"]}, 2),
    ({"requester": "ann"}, 4),
    ({"status": "4xx"}, 1),
    ({"status": "4xx,5xx"}, 2),
    ({"status": "none"}, 1),
    ({"status": "3xx"}, 0),
    ({"cached": "true"}, 1),
    ({"cached": "false"}, 9),
    ({"provider": "openai", "status": "2xx", "cached": "false", "requester": "ann"}, 4),
    ({"provider": "unknown"}, 0),
    ({"model": "'; DROP TABLE metrion.accounts --"}, 0),
]


@pytest.mark.parametrize("span", ["7d", "24h"])
def test_filters_hold_on_every_tab(ask, api, ada, span):
    for params, count in FILTERS:
        wanted = params | {"range": span}
        total = ask(ada, "overview", **wanted)["requests"]["total"]
        assert total == count if span == "7d" else total <= count, params
        logs = api.get("/api/v1/logs", params=wanted, headers=ada.headers).json()
        assert logs["total"] == len(logs["items"]) == total, params
        assert ask(ada, "errors", **wanted)["requests"] == total, params
        found = ask(ada, "requesters", **wanted)["items"]
        assert sum(each["requests"] for each in found) == total, params


def test_a_custom_range_is_in_whole_hours_or_days(ask, ada):
    data = ask(ada, "overview", **{"range": "custom", "from": ago(days=9), "to": ago(days=7.5)})
    assert data["range"]["step"] == "day"
    assert data["requests"]["total"] == 1
    start = NOW - timedelta(hours=3)
    hours = {"range": "custom", "from": start.isoformat(), "to": NOW.isoformat()}
    data = ask(ada, "overview", **hours)
    assert data["range"]["step"] == "hour"
    assert len(data["timestamps"]) == 4
    same = start.astimezone().isoformat()
    assert ask(ada, "overview", **hours | {"from": same})["range"] == data["range"]


UNFIT: list[dict[str, Any]] = [
    {"range": "1y"},
    {"range": "custom"},
    {"range": "custom", "from": "2026-01-01T00:00:00Z"},
    {"range": "custom", "from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"},
    {"range": "custom", "from": "2026-01-02T00:00:00Z", "to": "2026-01-02T00:00:00Z"},
    {"range": "custom", "from": "2024-01-02T00:00:00Z", "to": "2026-01-02T00:00:00Z"},
    {"range": "custom", "from": "2026-01-01T00:00:00", "to": "2026-01-02T00:00:00"},
    {"range": "custom", "from": "0001-01-01T00:00:00Z", "to": "0001-01-02T00:00:00Z"},
    {"range": "custom", "from": "9999-12-31T00:00:00Z", "to": "9999-12-31T23:30:00Z"},
    {"range": "custom", "from": "yesterday", "to": "2026-01-02T00:00:00Z"},
    {"range": "7d", "from": "2026-01-01T00:00:00Z"},
    {"status": "200"},
    {"status": "6xx"},
    {"cached": "perhaps"},
    {"model": "a\0b"},
    {"model": "m" * 201},
    {"model": ["m"] * 51},
]


async def test_filters_must_fit(ask, api, new_account):
    account = await new_account("ada@example.com")
    for params in UNFIT:
        for tab in TABS:
            ask(account, tab, 422, **params)
        answer = api.get("/api/v1/logs", params=params, headers=account.headers)
        assert answer.status_code == 422, params


def test_what_can_be_filtered_by(ask, ada):
    assert ask(ada, "filters", range="30d") == {
        "providers": ["openai", "anthropic"],
        "models": [
            {"model": "gpt-4o-mini-2024-07-18", "provider": "openai"},
            {"model": "claude", "provider": "anthropic"},
            {"model": "new-model", "provider": "openai"},
        ],
        "requesters": ["checkout-bot", "ann", "bob"],
    }


async def test_the_version_changes_with_a_request(ask, new_account, write_logs):
    account, other = await new_account("ada@example.com"), await new_account("eve@example.com")
    before = ask(account, "version")
    write_logs(other)
    assert ask(account, "version") == before
    write_logs(account)
    assert ask(account, "version") != before


def test_money_in_the_currency_of_choice(api, sign_in):
    sign_in("ada@example.com")
    api.patch("/api/v1/account", json={"currency": "CHF"})
    for tab in TABS:
        currency = api.get(f"{PATH}/{tab}").json()["currency"]
        assert currency == {"code": "CHF", "rate": 0.7975, "date": "2025-06-30"}


async def test_accounts_do_not_mix(ask, ada, new_account):
    eve = await new_account("eve@example.com")
    assert ask(eve, "overview")["requests"]["total"] == 0
    assert ask(eve, "errors")["recent"] == []
    assert ask(eve, "requesters")["items"] == []
    assert ask(eve, "latency")["by_model"] == []
    assert ask(eve, "costs", range="90d")["month_to_date"] == 0
    assert ask(eve, "filters") == {"providers": [], "models": [], "requesters": []}


@pytest.mark.parametrize("tab", [*TABS, "filters", "version"])
def test_without_a_database_it_says_so(api_alone, tab):
    headers = {"authorization": "Bearer sk-metrion-" + "0" * 32}
    assert api_alone.get(f"{PATH}/{tab}", headers=headers).status_code == 503
    assert api_alone.get(f"{PATH}/{tab}").status_code == 401
