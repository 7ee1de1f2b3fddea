from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import accounts, logs
from storage.errors import InvalidValue

SPECIFIED = (
    "id created_at provider endpoint model requester mode status outcome streamed cached "
    "input_tokens cache_read_tokens cache_write_tokens output_tokens reasoning_tokens "
    "total_tokens cost_usd latency_ms ttfb_ms overhead_ms error"
)


async def pages(api, account, limit):
    found, cursor = [], None
    while True:
        async with api.account(account.id) as connection:
            page = await logs.list_logs(connection, limit=limit, cursor=cursor)
        found.append(page.rows)
        cursor = page.next_cursor
        if cursor is None:
            return found


async def ids(api, account):
    return [str(row.id) for page in await pages(api, account, logs.LARGEST_PAGE) for row in page]


def test_a_row_has_the_fields_that_are_specified():
    assert [field.name for field in fields(logs.RequestLog)] == SPECIFIED.split()


async def test_a_row_comes_back_as_it_was_written(api, writer, new_account, log_row):
    account = await new_account()
    written = log_row(account.id, error="the provider said no", requester="ann")
    assert writer.write([written]) == 1
    async with api.account(account.id) as connection:
        [row] = (await logs.list_logs(connection)).rows
    for name, value in written.items():
        if name in SPECIFIED.split() and name not in {"id", "created_at", "cost_usd"}:
            assert getattr(row, name) == value, name
    assert str(row.id) == written["id"]
    assert row.created_at == datetime.fromisoformat(written["created_at"])
    assert row.cost_usd == Decimal("0.001250")


async def test_not_reported_and_not_known_stay_apart_from_zero(api, writer, new_account, log_row):
    account = await new_account()
    unknown = dict.fromkeys(
        ["model", "status", "input_tokens", "total_tokens", "cost_usd", "ttfb_ms", "latency_ms"]
    )
    zero = {"input_tokens": 0, "total_tokens": 0, "cost_usd": "0"}
    earlier = datetime.now(UTC) - timedelta(seconds=1)
    writer.write([log_row(account.id, **unknown), log_row(account.id, earlier, **zero)])
    async with api.account(account.id) as connection:
        first, second = (await logs.list_logs(connection)).rows
    assert [getattr(first, name) for name in unknown] == [None] * len(unknown)
    assert (second.input_tokens, second.total_tokens, second.cost_usd) == (0, 0, Decimal(0))


async def test_pages_hold_every_row_once_newest_first(api, writer, new_account, log_row):
    account = await new_account()
    start = datetime.now(UTC) - timedelta(days=3)
    # also several of the same moment, and several days (partitions)
    written = [log_row(account.id, start + timedelta(hours=4 * (i // 3))) for i in range(40)]
    writer.write(written)
    found = await pages(api, account, 7)
    assert [len(page) for page in found] == [7] * 5 + [5]
    rows = [row for page in found for row in page]
    assert {str(row.id) for row in rows} == {row["id"] for row in written}
    assert rows == sorted(rows, key=lambda row: (row.created_at, row.id), reverse=True)


async def test_rows_that_come_in_do_not_shift_the_next_page(api, writer, new_account, log_row):
    account = await new_account()
    start = datetime.now(UTC) - timedelta(hours=1)
    writer.write([log_row(account.id, start + timedelta(seconds=i)) for i in range(4)])
    async with api.account(account.id) as connection:
        first = await logs.list_logs(connection, limit=2)
    writer.write([log_row(account.id)])
    async with api.account(account.id) as connection:
        second = await logs.list_logs(connection, limit=2, cursor=first.next_cursor)
    assert second.next_cursor is None
    assert not {row.id for row in first.rows} & {row.id for row in second.rows}


@pytest.mark.parametrize("limit", [0, -1, logs.LARGEST_PAGE + 1])
async def test_a_page_is_bounded(api, new_account, limit):
    account = await new_account()
    async with api.account(account.id) as connection:
        with pytest.raises(InvalidValue, match="limit"):
            await logs.list_logs(connection, limit=limit)


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_a_cursor_that_is_none_is_refused(text):
    with pytest.raises(InvalidValue, match="cursor"):
        logs._decode_cursor(text)


async def test_the_plan_says_how_far_back_the_log_goes(api, writer, new_account, log_row):
    free, pro = await new_account(), await new_account("pro")
    now = datetime.now(UTC)
    ages = (0, 6.9, 7.1, 89.9, 90.1)
    for account in (free, pro):
        writer.write([log_row(account.id, now - timedelta(days=age)) for age in ages])
    assert [len(await ids(api, account)) for account in (free, pro)] == [2, 4]


async def test_a_downgrade_hides_at_once_and_an_upgrade_keeps(
    api, writer, jobs, new_account, log_row
):
    account = await new_account("pro")
    now = datetime.now(UTC)
    writer.write([log_row(account.id, now - timedelta(days=age)) for age in (1, 3, 30)])
    async with api.account(account.id) as connection:
        await accounts.set_plan(connection, "free")
        assert len((await logs.list_logs(connection)).rows) == 2
    writer.write([log_row(account.id, now - timedelta(days=age)) for age in (0, 2)])
    async with api.account(account.id) as connection:
        await accounts.set_plan(connection, "pro")
    # nothing is left among the rows that are dropped after seven days, nothing hidden comes back
    jobs.execute("SELECT metrion.delete_expired_logs(100)")
    assert len(await ids(api, account)) == 4
