import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from storage import roles
from storage.database import Database
from storage.errors import ExportUnderWay, NotFound
from storage.export import Exports


@pytest.fixture
async def exports(database) -> AsyncIterator[Exports]:
    made = Exports(Database(database.url(roles.API), pool_size=2), "eu-west-1")
    yield made
    await made.close()


async def read(exports: Exports, account_id: uuid.UUID) -> dict:
    async with exports.document(account_id) as parts:
        return json.loads(b"".join([part async for part in parts]))


async def test_an_empty_account_is_a_whole_document(exports, new_account):
    account = await new_account()
    document = await read(exports, account.id)
    assert document["account"]["id"] == str(account.id)
    assert (document["usage_records"], document["request_logs"]) == ([], [])


async def test_all_rows_are_there_the_oldest_first_and_of_nobody_else(
    exports, new_account, writer, log_row
):
    account, other = await new_account(), await new_account()
    now = datetime.now(UTC)
    # two parts and a bit; some of them in the same moment
    rows = [log_row(account.id, now - timedelta(minutes=n // 2)) for n in range(1100)]
    writer.write([*rows, log_row(other.id)])
    document = await read(exports, account.id)
    expected = sorted((row["created_at"], row["id"]) for row in rows)
    assert [row["id"] for row in document["request_logs"]] == [row_id for _, row_id in expected]
    assert sum(record["requests"] for record in document["usage_records"]) == 1100


async def test_rows_past_the_plans_time_are_not_there(exports, new_account, writer, log_row):
    account = await new_account("free")
    now = datetime.now(UTC)
    writer.write([log_row(account.id, now - timedelta(days=days)) for days in (0, 6, 8)])
    document = await read(exports, account.id)
    assert len(document["request_logs"]) == 2
    assert len(document["usage_records"]) == 3


async def test_texts_come_through_whatever_is_in_them(exports, new_account, writer, log_row):
    account = await new_account()
    wild = '"\\\n\u2028</script>\x1b 100 % :name ü 🦉'
    writer.write([log_row(account.id, requester=wild, error=wild)])
    document = await read(exports, account.id)
    assert document["request_logs"][0]["requester"] == wild
    assert document["usage_records"][0]["requester"] == wild


async def test_it_is_of_one_moment(exports, new_account, writer, log_row):
    """What is recorded while it is read is in no part of it."""
    account = await new_account()
    writer.write([log_row(account.id) for _ in range(700)])
    async with exports.document(account.id) as parts:
        document = await anext(parts)
        await asyncio.to_thread(writer.write, [log_row(account.id) for _ in range(10)])
        document += b"".join([part async for part in parts])
    whole = json.loads(document)
    assert len(whole["request_logs"]) == 700
    assert sum(record["requests"] for record in whole["usage_records"]) == 700


async def test_few_at_once_and_one_to_an_account(exports, new_account):
    one, two, three = [await new_account() for _ in range(3)]
    async with exports.document(one.id):
        with pytest.raises(ExportUnderWay):
            await read(exports, one.id)
        async with exports.document(two.id):
            with pytest.raises(ExportUnderWay):
                await read(exports, three.id)
        await read(exports, three.id)
    await read(exports, one.id)


async def test_of_nobody_there_is_none(exports):
    with pytest.raises(NotFound):
        await read(exports, uuid.uuid4())
