import csv
import io
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest

from storage import roles
from storage.accounts import set_plan
from storage.database import Database

PATH, CSV = "/api/v1/logs", "/api/v1/logs.csv"

FIELDS = (
    "id created_at provider endpoint model requester mode status outcome streamed cached "
    "input_tokens cache_read_tokens cache_write_tokens output_tokens reasoning_tokens "
    "total_tokens cost_usd latency_ms ttfb_ms overhead_ms error"
)


def ids(page: dict[str, Any]) -> list[str]:
    return [row["id"] for row in page["items"]]


async def test_a_row_has_exactly_the_fields_that_are_fixed(api, new_account, write_logs):
    account = await new_account("ada@example.com")
    (written,) = write_logs(account)
    (row,) = api.get("/api/v1/logs", headers=account.headers).json()["items"]
    assert " ".join(row) == FIELDS
    assert row["created_at"].endswith("Z")
    for field in set(FIELDS.split()) - {"created_at", "cost_usd"}:
        assert row[field] == written[field], field
    assert Decimal(str(row["cost_usd"])) == Decimal("0.000155123456")  # to the last digit


async def test_what_is_not_known_is_null_and_not_zero(api, new_account, write_logs):
    account = await new_account("ada@example.com")
    unknown = dict.fromkeys(
        ["model", "requester", "status", "total_tokens", "cost_usd", "ttfb_ms", "overhead_ms"]
    )
    write_logs(account, **unknown, outcome="client_closed")
    (row,) = api.get("/api/v1/logs", headers=account.headers).json()["items"]
    assert {field: row[field] for field in unknown} == unknown


async def test_pages_follow_each_other_though_rows_come_in(api, new_account, write_logs):
    account = await new_account("ada@example.com")
    expected = [row["id"] for row in write_logs(account, 7)][::-1]
    seen: list[str] = []
    cursor: dict[str, Any] = {}
    for size in (3, 3, 1):
        page = api.get("/api/v1/logs", params={"limit": 3} | cursor, headers=account.headers).json()
        assert len(page["items"]) == size
        seen += [row["id"] for row in page["items"]]
        cursor = {"cursor": page["next_cursor"]}
        write_logs(account)
    assert seen == expected
    assert cursor == {"cursor": None}


async def test_a_page_has_fifty_rows_unless_told_otherwise(api, new_account, write_logs):
    account = await new_account("ada@example.com")
    write_logs(account, 51)
    assert len(api.get("/api/v1/logs", headers=account.headers).json()["items"]) == 50


async def test_one_account_never_sees_anothers_rows(api, new_account, write_logs):
    ada, eve = await new_account("ada@example.com"), await new_account("eve@example.com")
    write_logs(ada, 3)
    own = write_logs(eve)
    page = api.get("/api/v1/logs", params={"limit": 2}, headers=ada.headers).json()
    assert page["next_cursor"]
    for params in ({}, {"cursor": page["next_cursor"]}, {"limit": 1000}):
        answer = api.get("/api/v1/logs", params=params, headers=eve.headers).json()
        assert {row["id"] for row in answer["items"]} <= {own[0]["id"]}
    assert len(api.get("/api/v1/logs", headers=ada.headers).json()["items"]) == 3


@pytest.mark.parametrize(
    ("params", "place"),
    [
        ({"limit": "0"}, "query.limit"),
        ({"limit": "1001"}, "query.limit"),
        ({"limit": "ten-thousand"}, "query.limit"),
        ({"cursor": "x" * 201}, "query.cursor"),
    ],
)
async def test_parameters_must_fit(api, new_account, params: dict[str, str], place: str):
    account = await new_account("ada@example.com")
    answer = api.get("/api/v1/logs", params=params, headers=account.headers)
    assert answer.status_code == 422
    (error,) = answer.json()["errors"]
    assert error["place"] == place
    assert "ten-thousand" not in answer.text  # what came in is not repeated


@pytest.mark.parametrize("cursor", ["", "nonsense", "MjAyNg", "\u00e9"])
async def test_a_cursor_must_be_one_of_ours(api, new_account, cursor: str):
    account = await new_account("ada@example.com")
    answer = api.get("/api/v1/logs", params={"cursor": cursor}, headers=account.headers)
    assert answer.status_code == 422
    assert "cursor" in answer.json()["detail"]


def test_without_a_database_it_says_so(api_alone: httpx.Client):
    headers = {"authorization": "Bearer sk-metrion-" + "0" * 32}
    answer = api_alone.get("/api/v1/logs", headers=headers)
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "127.0.0.1" not in answer.text


async def test_pages_lead_back_too(api, new_account, write_logs):
    account = await new_account("ada@example.com")
    expected = [row["id"] for row in write_logs(account, 7)][::-1]

    def page(cursor: str | None) -> dict[str, Any]:
        params = {"limit": 3} | ({"cursor": cursor} if cursor else {})
        return api.get(PATH, params=params, headers=account.headers).json()

    first = page(None)
    assert first["previous_cursor"] is None
    second = page(first["next_cursor"])
    third = page(second["next_cursor"])
    assert ids(third) == expected[6:]
    back = page(third["previous_cursor"])
    assert (ids(back), back["total"]) == (expected[3:6], 7)
    assert ids(page(back["next_cursor"])) == expected[6:]
    newest = page(back["previous_cursor"])
    assert ids(newest) == expected[:3]
    assert newest["previous_cursor"] is None
    (newer,) = write_logs(account)
    again = page(page(newest["next_cursor"])["previous_cursor"])
    assert ids(again) == expected[:3]  # the page that was there, not the newest rows
    assert ids(page(again["previous_cursor"])) == [newer["id"]]


@pytest.mark.parametrize("most", [1000, 0])
async def test_a_search_looks_at_model_and_requester(
    api, new_account, write_logs, monkeypatch, most
):
    monkeypatch.setattr("storage.logs._MOST_NAMES", most)  # 0: all names are too many
    account = await new_account("ada@example.com")
    write_logs(account, model="claude-opus", requester="Billing 100%")
    write_logs(account, model=None, requester=None)
    write_logs(account)
    for search, count in {
        "OPUS": 1,
        "bill": 1,
        "100%": 1,
        "o": 2,
        "%": 1,
        "_": 0,
        "none": 0,
    }.items():
        found = api.get(PATH, params={"q": search}, headers=account.headers).json()
        assert (len(found["items"]), found["total"]) == (count, count), search


async def test_the_total_is_of_what_can_be_seen(api, new_account, write_logs, database):
    account = await new_account("ada@example.com", "pro")
    now = datetime.now(UTC)
    edge = now - timedelta(days=7)
    ages = [timedelta(minutes=m) for m in (-70, -20, -1, 1, 70, 25 * 60)]
    for age in ages:
        write_logs(account, created_at=(edge - age).isoformat())
    write_logs(account, 2, created_at=(now - timedelta(days=3)).isoformat())
    as_api = Database(database.url(roles.API))
    async with as_api.account(account.id) as connection:
        await set_plan(connection, "free")
    await as_api.close()
    for params in ({}, {"range": "30d"}, {"range": "90d", "provider": "openai"}):
        page = api.get(PATH, params=params, headers=account.headers).json()
        assert page["total"] == len(page["items"]) == 5, params
    long_ago = {"range": "custom", "from": "2020-01-01T00:00:00Z", "to": "2020-01-09T00:00:00Z"}
    assert api.get(PATH, params=long_ago, headers=account.headers).json()["total"] == 0


async def test_a_row_is_found_by_its_id(api, new_account, write_logs):
    account, other = await new_account("ada@example.com"), await new_account("eve@example.com")
    written = write_logs(account, 3)
    row = api.get(f"{PATH}/{written[1]['id']}", headers=account.headers).json()
    assert row["id"] == written[1]["id"]
    assert " ".join(row) == FIELDS
    for unknown in (written[0]["id"], str(uuid.uuid4()), "ffffffff-ffff-7fff-bfff-ffffffffffff"):
        answer = api.get(f"{PATH}/{unknown}", headers=other.headers)
        assert answer.status_code == 404
    assert api.get(f"{PATH}/x", headers=other.headers).status_code == 422


async def test_the_table_has_every_row_of_the_filter(api, new_account, write_logs, monkeypatch):
    monkeypatch.setattr("api.routes.logs.LARGEST_PAGE", 2)
    account = await new_account("ada@example.com")
    written = write_logs(account, 5)[::-1]
    write_logs(account, provider="grok")
    answer = api.get(CSV, params={"provider": "openai"}, headers=account.headers)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert list(rows[0]) == FIELDS.split()
    assert [row["id"] for row in rows] == [row["id"] for row in written]
    assert rows[0]["cost_usd"] == "0.000155123456"
    assert rows[0]["error"] == ""
    assert rows[0]["streamed"] == "true"
    assert rows[0]["created_at"].endswith("Z")


async def test_a_table_of_nothing_has_a_head(api, new_account):
    account = await new_account("ada@example.com")
    answer = api.get(CSV, headers=account.headers)
    assert answer.text == FIELDS.replace(" ", ",") + "\r\n"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
async def test_a_spreadsheet_sees_no_formula(api, new_account, write_logs, text):
    account = await new_account("ada@example.com")
    write_logs(account, requester=text, model=text + '",\n', error=text)
    (row,) = csv.DictReader(io.StringIO(api.get(CSV, headers=account.headers).text, newline=""))
    assert row["requester"] == "'" + text
    assert row["model"] == "'" + text + '",\n'
    assert row["error"] == "'" + text


def test_the_table_without_a_database_is_an_answer(api_alone: httpx.Client):
    headers = {"authorization": "Bearer sk-metrion-" + "0" * 32}
    assert api_alone.get(CSV, headers=headers).status_code == 503
