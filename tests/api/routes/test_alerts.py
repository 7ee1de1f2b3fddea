import uuid

import httpx
import pytest

from api.main import create_app

BUDGET = {"type": "budget", "threshold": 10}
VOLUME = {"type": "request_volume", "threshold": 2, "name": "Volume"}
ROLLING = {"kind": "rolling", "from": None, "to": None, "hours": 24}


@pytest.fixture
def ada(api, sign_in, account_of):
    """The account that the client is signed in as."""
    sign_in("ada@example.com")
    return account_of(api)


def make(api: httpx.Client, **rule) -> dict:
    made = api.post("/api/v1/alerts", json=rule)
    assert made.status_code == 201, made.text
    return made.json()


def rules(api: httpx.Client) -> list[dict]:
    return api.get("/api/v1/alerts").json()["items"]


def test_rules_are_made_seen_changed_and_deleted(api, ada, write_logs):
    empty = api.get("/api/v1/alerts").json()
    assert empty == {"items": [], "most": 3, "email": "ada@example.com"}
    write_logs(ada, 3, cost_usd="3")
    rule = make(api, **BUDGET)
    assert rule | {"id": "", "created_at": "", "series": ""} == {
        "id": "",
        "created_at": "",
        "series": "",
        "name": "",
        "type": "budget",
        "unit": "usd",
        "threshold": 10,
        "providers": [],
        "period": {"kind": "month", "from": None, "to": None, "hours": None},
        "paused": False,
        "present": {
            "state": "warning",
            "value": 9,
            "share": 0.9,
            "at_least": False,
            "requests": 3,
            "unknown": 0,
        },
        "mails": [],
        "quiet_until": None,
        "test_possible_at": None,
    }
    assert rule["series"]["step"] == "day"
    assert rule["series"]["values"][-1] == 9
    assert len(rule["series"]["timestamps"]) == len(rule["series"]["values"])
    assert rules(api) == [rule]
    address = f"/api/v1/alerts/{rule['id']}"
    changed = api.patch(address, json={"threshold": 4.5, "unit": "eur", "paused": True}).json()
    assert (changed["threshold"], changed["unit"], changed["paused"]) == (4.5, "eur", True)
    assert changed["present"]["state"] == "paused"
    assert changed["present"]["value"] == pytest.approx(9 * 0.8532)
    other = api.patch(address, json={"type": "error_rate", "paused": False}).json()
    assert (other["unit"], other["period"], other["threshold"]) == ("percent", ROLLING, 4.5)
    assert other["present"]["state"] == "ok"
    assert api.delete(address).status_code == 204
    assert rules(api) == []
    for answer in (api.delete(address), api.patch(address, json={}), api.post(f"{address}/test")):
        assert answer.status_code == 404
        assert answer.json()["detail"] == "There is no such alert rule."


def test_each_type_has_its_usual_unit_and_period(api, ada, database):
    made = [
        make(api, type=kind, threshold=5)
        for kind in ("error_rate", "latency_p95", "request_volume")
    ]
    assert [each["unit"] for each in made] == ["percent", "ms", "count"]
    assert [each["period"] for each in made] == [ROLLING] * 3
    assert {each["present"]["state"] for each in made} == {"no_data"}
    assert {each["present"]["value"] for each in made} == {None}


def test_what_is_not_known_is_said_and_is_not_0(api, ada, write_logs):
    write_logs(ada, 2, cost_usd=None)
    (rule,) = [make(api, **BUDGET)]
    assert rule["present"]["state"] == "unknown_prices"
    assert rule["present"]["value"] is None
    assert rule["present"]["unknown"] == 2
    write_logs(ada, 1, cost_usd="20")
    (rule,) = rules(api)
    assert rule["present"]["state"] == "alert"
    assert rule["present"]["at_least"] is True


def test_a_free_plan_has_three_rules(api, ada):
    for _ in range(3):
        make(api, **BUDGET)
    refused = api.post("/api/v1/alerts", json=BUDGET)
    assert refused.status_code == 403
    assert refused.json()["type"].endswith("plan-required")
    assert "Pro does" in refused.json()["detail"]


def test_a_test_is_a_real_mail_once_in_12_hours(api, ada, database):
    rule = make(api, **VOLUME)
    address = f"/api/v1/alerts/{rule['id']}/test"
    tested = api.post(address)
    assert tested.status_code == 202
    assert tested.json()["test_possible_at"] is not None
    assert [(mail["level"], mail["state"]) for mail in tested.json()["mails"]] == [
        ("test", "waiting")
    ]
    again = api.post(address)
    assert again.status_code == 429
    assert 43_000 < int(again.headers["retry-after"]) <= 43_200
    assert "once in 12 hours" in again.json()["detail"]


REFUSED = [
    ({}, "body.type"),
    ({"type": "budget"}, "body.threshold"),
    ({**BUDGET, "type": "weather"}, "body.type"),
    ({**BUDGET, "threshold": 0}, "body.threshold"),
    ({**BUDGET, "threshold": "much"}, "body.threshold"),
    ({**BUDGET, "treshold": 1}, "body.treshold"),
    ({**BUDGET, "unit": "percent"}, "has the unit usd or eur or chf"),
    ({**BUDGET, "period": {"kind": "rolling", "hours": 24}}, "one of: month, created, since"),
    ({**BUDGET, "period": {"kind": "since"}}, "`from` belongs"),
    ({**BUDGET, "period": {"kind": "since", "from": "yesterday"}}, "body.period.from"),
    ({**BUDGET, "period": {"kind": "month", "until": 1}}, "body.period.until"),
    ({**VOLUME, "period": {"kind": "rolling", "hours": 7}}, "`hours` is one of"),
    ({**BUDGET, "providers": ["skynet"]}, "`providers` are some of"),
    ({**BUDGET, "name": "x" * 101}, "body.name"),
    ({**BUDGET, "name": "\u0007"}, "printable"),
    ({**BUDGET, "name": "\u0000"}, "body.name"),
]


def test_what_cannot_be_watched_is_refused_with_the_place_or_reason(api, ada):
    for rule, place in REFUSED:
        refused = api.post("/api/v1/alerts", json=rule)
        assert refused.status_code == 422, rule
        problem = refused.json()
        places = [each["place"] for each in problem.get("errors", [])]
        assert place in places or place in problem["detail"], problem
    assert rules(api) == []


def test_nobody_reaches_anothers_rules(api, ada, sign_in, serve, database):
    rule = make(api, **BUDGET)
    with serve(create_app(database.settings)) as eve:
        sign_in("eve@example.com", eve)
        assert eve.get("/api/v1/alerts").json()["items"] == []
        address = f"/api/v1/alerts/{rule['id']}"
        assert eve.patch(address, json={"paused": True}).status_code == 404
        assert eve.delete(address).status_code == 404
        assert eve.post(f"{address}/test").status_code == 404
    assert [each["paused"] for each in rules(api)] == [False]


async def test_a_key_is_not_enough(api, new_account):
    account = await new_account("ada@example.com")
    for method, path in (
        ("GET", "alerts"),
        ("POST", "alerts"),
        ("POST", f"alerts/{uuid.uuid4()}/test"),
        ("GET", "mailbox"),
    ):
        answer = api.request(method, f"/api/v1/{path}", headers=account.headers, json=BUDGET)
        assert answer.status_code == 401
        assert answer.json()["type"].endswith("not-signed-in")
