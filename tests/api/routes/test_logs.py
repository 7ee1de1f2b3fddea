from decimal import Decimal
from typing import Any

import httpx
import pytest

FIELDS = (
    "id created_at provider endpoint model requester mode status outcome streamed cached "
    "input_tokens cache_read_tokens cache_write_tokens output_tokens reasoning_tokens "
    "total_tokens cost_usd latency_ms ttfb_ms overhead_ms error"
)


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
