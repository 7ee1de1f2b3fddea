import asyncio

import pytest
from mitmproxy.test import taddons

from addons.commands import COLUMNS, KEPT_ROWS, MetrionCommands

ROW = {
    "created_at": "2026-01-02T03:04:05.678+00:00",
    "account_id": "01a2",
    "model": "gpt-4o",
    "cost_usd": "1E-7",
    "cached": False,
    "error": "no",
}


@pytest.fixture
def drained():
    return []


@pytest.fixture
def commands(drained):
    async def drain(seconds: float) -> None:
        drained.append(seconds)

    return MetrionCommands(lambda _seconds: 2, drain)


def table(context, *arguments: str) -> list[dict[str, str]]:
    head, *rows = context.master.commands.call_strings("metrion.rows", list(arguments))
    assert head == list(COLUMNS)
    return [dict(zip(head, row, strict=True)) for row in rows]


async def test_rows_are_a_table_of_allowed_columns(commands):
    with taddons.context(commands) as context:
        assert table(context) == []
        commands.add(ROW)
        (row,) = table(context)
    assert row["account_id"] == "01a2"
    assert row["created_at"] == "03:04:05"
    assert row["cost_usd"] == "0.0000001"
    assert row["cached"] == "False"
    assert row["requester"] == ""
    assert "error" not in row


async def test_the_newest_come_first_and_are_bounded(commands):
    with taddons.context(commands) as context:
        for number in range(KEPT_ROWS + 5):
            commands.add({"id": str(number)})
        assert [row["id"] for row in table(context, "2")] == ["1004", "1003"]
        assert len(table(context)) == 20
        assert len(table(context, "5000")) == KEPT_ROWS
        assert table(context, "-1") == []


async def test_a_flush_says_how_it_went(commands, caplog):
    caplog.set_level("INFO")
    with taddons.context(commands) as context:
        context.master.commands.call_strings("metrion.flush", [])
        await asyncio.gather(*commands._work)
        commands._flush = lambda _seconds: 0
        context.master.commands.call_strings("metrion.flush", [])
        await asyncio.gather(*commands._work)
    assert [record.message for record in caplog.records if record.levelname == "ALERT"] == [
        "Metrion: 2 rows wait",
        "Metrion: all rows are written",
    ]


async def test_a_drain_can_be_asked_for(commands, drained, caplog):
    caplog.set_level("INFO")
    with taddons.context(commands) as context:
        context.master.commands.call_strings("metrion.drain", [])
        await asyncio.gather(*commands._work)
    assert drained == [30.0]
    assert "has drained" in caplog.text


async def test_what_is_under_way_ends_with_the_tool(commands):
    asleep = asyncio.Event()
    commands._drain = lambda _seconds: asleep.wait()
    with taddons.context(commands):
        commands.drain()
        (task,) = commands._work
        await asyncio.sleep(0)
        commands.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert not commands._work
