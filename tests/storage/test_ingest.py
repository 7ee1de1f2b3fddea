import asyncio
import json
import socket
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest
from pydantic import SecretStr

from storage import accounts, roles
from storage.errors import DatabaseUnavailable, RowsRejected
from storage.identifiers import uuid7
from storage.ingest import LogWriter
from storage.latency import unpacked
from storage.migrate import downgrade, migrate

KINDS = (
    *("days", "days_models", "days_models_statuses", "days_requesters"),
    *(
        "days_requesters_statuses",
        "days_providers",
        "days_names",
        "hours",
        "hours_models",
        "hours_models_statuses",
    ),
    *("hours_requesters", "hours_requesters_statuses"),
)
SUMS = (
    "SELECT coalesce(sum(requests), 0) AS requests, coalesce(sum(cost_usd), 0) AS cost_usd,"
    " coalesce(sum(total_tokens), 0) AS total_tokens FROM metrion."
)


def sums(administrator, table):
    return administrator.execute(f"{SUMS}{table}").fetchone()


def logged(administrator):
    return administrator.execute(
        "SELECT count(*) AS requests, coalesce(sum(cost_usd), 0) AS cost_usd,"
        " coalesce(sum(total_tokens), 0) AS total_tokens FROM metrion.request_logs"
    ).fetchone()


def check_that_all_sums_agree(administrator):
    assert logged(administrator) == sums(administrator, "usage_days")
    assert logged(administrator) == sums(administrator, "usage_hours")
    for kind in KINDS:
        assert logged(administrator) == sums(administrator, f"usage_sums_{kind}"), kind


async def test_a_batch_is_written_once_however_often_it_is_sent(
    administrator, writer, new_account, log_row
):
    account = await new_account()
    batch = [log_row(account.id) for _ in range(20)]
    assert writer.write(batch) == 20
    assert writer.write(batch) == 0
    # other batch boundaries, as after a restart; and a row twice in one batch
    assert writer.write([*batch[10:], log_row(account.id), batch[0], batch[0]]) == 1
    assert logged(administrator)["requests"] == 21
    check_that_all_sums_agree(administrator)


@pytest.mark.parametrize(("before", "after"), [("free", "pro"), ("pro", "free")])
async def test_a_batch_sent_again_after_a_change_of_plan_is_not_counted_again(
    api, administrator, writer, new_account, log_row, before, after
):
    account = await new_account(before)
    now = datetime.now(UTC)
    batch = [log_row(account.id, now - timedelta(days=age)) for age in (0, 1, 6, 6)]
    writer.write(batch)
    async with api.account(account.id) as connection:
        await accounts.set_plan(connection, after)
    assert writer.write([*batch, log_row(account.id)]) == 1
    check_that_all_sums_agree(administrator)


async def test_writers_at_the_same_time_count_every_row_once(
    administrator, database, new_account, log_row
):
    owners = [(await new_account(plan)).id for plan in ("free", "pro", "pro")]
    rows = [log_row(owner) for _ in range(100) for owner in owners]

    def write(offset):
        writer = LogWriter(database.url(roles.PROXY))
        # every writer sends every row, in an order of its own
        mine = rows[offset:] + rows[:offset]
        written = sum(writer.write(mine[at : at + 20]) for at in range(0, len(mine), 20))
        writer.close()
        return written

    written = await asyncio.gather(
        *(asyncio.to_thread(write, offset) for offset in range(0, 300, 75))
    )
    assert sum(written) == len(rows)
    check_that_all_sums_agree(administrator)


async def test_rows_of_an_account_that_is_gone_are_dropped(
    administrator, writer, new_account, log_row
):
    account, gone = await new_account(), await new_account()
    administrator.execute("DELETE FROM metrion.accounts WHERE id = %s", [gone.id])
    assert writer.write([log_row(gone.id), log_row(account.id), log_row(uuid7())]) == 1
    assert writer.gone == 2
    assert writer.write([log_row(gone.id)]) == 0
    assert writer.gone == 3
    kept = administrator.execute("SELECT account_id FROM metrion.usage_days").fetchall()
    assert [row["account_id"] for row in kept] == [account.id]


async def test_an_erasure_under_way_is_waited_for_and_leaves_nothing(
    administrator, database, writer, new_account, log_row
):
    account = await new_account()
    writer.write([log_row(account.id)])
    with psycopg.connect(database.administrator_url.get_secret_value()) as erasing:
        erasing.execute("DELETE FROM metrion.request_logs WHERE account_id = %s", [account.id])
        erasing.execute("DELETE FROM metrion.accounts WHERE id = %s", [account.id])
        ingest = asyncio.ensure_future(asyncio.to_thread(writer.write, [log_row(account.id)]))
        await asyncio.sleep(0.1)
        assert not ingest.done()
    assert await ingest == 0
    assert logged(administrator)["requests"] == 0


async def test_what_the_daily_record_counts(administrator, writer, new_account, log_row):
    account = await new_account()
    day = (datetime.now(UTC) - timedelta(days=1)).replace(hour=10)
    nothing = dict.fromkeys(
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
    gone_early = nothing | {"status": None, "outcome": "client_closed", "overhead_ms": None}
    writer.write(
        [
            log_row(account.id, day),
            log_row(account.id, day, cost_usd=None),  # unpriced
            log_row(account.id, day, **nothing),  # unreported
            # also unreported, and never forwarded
            log_row(account.id, day, **gone_early),
            log_row(account.id, day, **nothing, status=500, outcome="provider_error"),
            log_row(account.id, day, **nothing, status=429, outcome="refused", left_out=7),
            log_row(account.id, day, cached=True, total_tokens=0, cost_usd="0", saved_usd="0.5"),
        ]
    )
    records = administrator.execute("SELECT * FROM metrion.usage_days").fetchall()
    key = {"account_id": account.id, "day": day.date(), "provider": "openai", "model": "gpt-5"}
    for record in records:
        assert key | {"requester": "", "last_at": day} == {
            name: record.pop(name) for name in (*key, "requester", "last_at")
        }
    kinds = [(record.pop("status"), record.pop("from_cache")) for record in records]
    assert sorted(kinds) == [(0, False), (200, False), (200, True), (429, False), (500, False)]
    sums = {name: sum(record[name] for record in records) for name in records[0]}
    assert [unpacked(str(int(sums.pop(name)))) for name in ("latency", "ttfb", "overhead")] == [
        {31: 5},
        {25: 5},
        {-2: 4},
    ]
    assert sums == {
        "requests": 7,
        "errors": 2,
        "refused": 1,
        "left_out": 7,
        "forwarded": 5,
        "cached": 1,
        "input_tokens": 300,
        "cache_read_tokens": 60,
        "cache_write_tokens": 0,
        "output_tokens": 150,
        "reasoning_tokens": 30,
        "total_tokens": 300,
        "cost_usd": Decimal("0.001250"),
        "unreported": 2,
        "unpriced": 1,
        "timed": 5,
        "latency_ms_sum": 5 * 250.5,
        "saved_usd": Decimal("0.5"),
        "unsaved": 0,
    }


async def test_what_the_cache_saved_is_summed_and_unknown_is_not_zero(
    administrator, writer, new_account, log_row
):
    account = await new_account()
    hit = {"cached": True, "total_tokens": 0, "cost_usd": "0"}
    saved = ["0.000000000001", "0.25", "0", None]
    batch = [log_row(account.id, **hit, saved_usd=amount) for amount in saved]
    # of an older process, which does not know the column
    assert writer.write([*batch, log_row(account.id, **hit), log_row(account.id)]) == 6
    for table in ("usage_days", "usage_hours"):
        record = administrator.execute(
            f"SELECT sum(saved_usd) AS saved, sum(unsaved) AS unsaved FROM metrion.{table}"
        ).fetchone()
        assert record == {"saved": Decimal("0.250000000001"), "unsaved": 2}, table


async def test_records_are_kept_by_hour_day_provider_model_and_requester(
    administrator, writer, new_account, log_row
):
    account = await new_account()
    day = (datetime.now(UTC) - timedelta(days=2)).replace(hour=22, minute=59, second=59)
    writer.write(
        [
            log_row(account.id, day, requester="ann"),
            log_row(account.id, day + timedelta(seconds=1), requester="ann"),
            log_row(account.id, day + timedelta(hours=1, seconds=1), requester="ann"),
            log_row(account.id, day, requester="bob", provider="grok", model=None),
        ]
    )
    hours = administrator.execute(
        "SELECT extract(hour FROM hour)::int AS hour, provider, model, requester, requests"
        " FROM metrion.usage_hours ORDER BY metrion.usage_hours.hour, provider"
    ).fetchall()
    assert [tuple(row.values()) for row in hours] == [
        (22, "grok", "", "bob", 1),
        (22, "openai", "gpt-5", "ann", 1),
        (23, "openai", "gpt-5", "ann", 1),
        (0, "openai", "gpt-5", "ann", 1),
    ]
    days = administrator.execute(
        "SELECT day, model, requests FROM metrion.usage_days ORDER BY day, model"
    ).fetchall()
    assert [tuple(row.values()) for row in days] == [
        (day.date(), "", 1),
        (day.date(), "gpt-5", 2),
        (day.date() + timedelta(days=1), "gpt-5", 1),
    ]


def test_buckets_are_four_to_the_octave(administrator):
    times = [-5.0, 0.0, 0.5, 1.0, 2.0, 3.9, 1000.0, 1e12]
    rows = administrator.execute(
        "SELECT metrion.latency_bucket(ms) AS bucket FROM unnest(%s::float8[]) AS ms", [times]
    ).fetchall()
    assert [row["bucket"] for row in rows] == [-40, -40, -4, 0, 4, 7, 39, 84]


async def test_times_are_counted_in_buckets_unless_refused_or_cached(
    administrator, writer, new_account, log_row
):
    account = await new_account()
    times = {"latency_ms": 1000.0, "ttfb_ms": 2.0, "overhead_ms": 0.5}
    writer.write(
        [
            log_row(account.id, **times),
            log_row(account.id, **times),
            log_row(account.id, **times, cached=True),
            log_row(account.id, **times, outcome="refused"),
            log_row(account.id, **(times | {"ttfb_ms": None})),
        ]
    )
    for table in ("usage_days", "usage_hours", *(f"usage_sums_{kind}" for kind in KINDS)):
        record = administrator.execute(
            "SELECT sum(latency)::text AS latency, sum(ttfb)::text AS ttfb,"
            f" sum(overhead)::text AS overhead FROM metrion.{table}"
        ).fetchone()
        assert {name: unpacked(number) for name, number in record.items()} == {
            "latency": {39: 3},
            "ttfb": {4: 2},
            "overhead": {-4: 3},
        }, table


async def test_no_row_waits_for_a_partition(administrator, writer, new_account, log_row):
    """Rows of an outage of weeks, of a clock that is wrong, with nobody making partitions."""
    free, pro = await new_account(), await new_account("pro")
    now = datetime.now(UTC)
    moments = [
        now,
        now - timedelta(days=6),
        now - timedelta(days=45),
        now - timedelta(days=400),
        now + timedelta(days=800),
        datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC),
    ]
    batch = [log_row(account.id, moment) for account in (free, pro) for moment in moments]
    assert writer.write(batch) == 12
    assert writer.write(batch) == 0
    check_that_all_sums_agree(administrator)


async def test_a_missing_partition_is_made_while_the_log_is_being_read(
    database, writer, new_account, log_row
):
    account = await new_account()
    writer.write([log_row(account.id)])
    with psycopg.connect(database.administrator_url.get_secret_value()) as reader:
        reader.execute("SELECT count(*) FROM metrion.request_logs")  # holds its locks
        moment = datetime.now(UTC) - timedelta(days=3)
        assert writer.write([log_row(account.id, moment)]) == 1


async def test_partitions_are_made_ahead(administrator, jobs, writer, new_account, log_row):
    today = datetime.now(UTC).date()
    ahead = [today, today + timedelta(days=3)]
    [made] = jobs.execute("SELECT metrion.ensure_partitions(%s, %s)", ahead).fetchone()
    assert made in {5, 6}  # four days, and one or two weeks
    assert jobs.execute("SELECT metrion.ensure_partitions(%s, %s)", ahead).fetchone() == (0,)
    account = await new_account()
    writer.write([log_row(account.id)])
    tables = administrator.execute(
        "SELECT count(*) AS n FROM pg_inherits"
        " WHERE inhparent IN ('metrion.request_logs_7'::regclass,"
        " 'metrion.request_logs_90'::regclass)"
    ).fetchone()
    assert tables["n"] == made


async def test_expired_partitions_are_dropped_and_no_other(
    api, administrator, jobs, writer, new_account, log_row
):
    free, pro = await new_account(), await new_account("pro")
    now = datetime.now(UTC)
    for account in (free, pro):
        writer.write(
            [log_row(account.id, now - timedelta(days=age)) for age in (0, 5, 8.1, 80, 98)]
        )
    dropped = []
    while (
        name := jobs.execute("SELECT metrion.drop_expired_partition()").fetchone()[0]
    ) is not None:
        dropped.append(name)
    assert len(dropped) == 4
    counts = administrator.execute(
        "SELECT retention, count(*) AS n FROM metrion.request_logs GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert [tuple(row.values()) for row in counts] == [(7, 2), (90, 4)]
    # what was counted stays counted
    assert sums(administrator, "usage_days")["requests"] == 10


async def test_a_drop_gives_way_to_a_long_reader(database, jobs, writer, new_account, log_row):
    account = await new_account()
    writer.write([log_row(account.id, datetime.now(UTC) - timedelta(days=9))])
    with psycopg.connect(database.administrator_url.get_secret_value()) as reader:
        reader.execute("SELECT count(*) FROM metrion.request_logs")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            jobs.execute("SELECT metrion.drop_expired_partition()")
    assert jobs.execute("SELECT metrion.drop_expired_partition()").fetchone() != (None,)


async def test_rows_past_their_accounts_window_are_deleted_in_chunks(
    api, administrator, jobs, writer, new_account, log_row
):
    account, gone, other = await new_account("pro"), await new_account(), await new_account("pro")
    now = datetime.now(UTC)
    for owner in (account, other):
        writer.write([log_row(owner.id, now - timedelta(days=age)) for age in range(12)])
    writer.write([log_row(gone.id)])
    administrator.execute("DELETE FROM metrion.accounts WHERE id = %s", [gone.id])
    async with api.account(account.id) as connection:
        await accounts.set_plan(connection, "free")
    deleted = []
    while not deleted or deleted[-1]:
        [count] = jobs.execute("SELECT metrion.delete_expired_logs(2)").fetchone()
        deleted.append(count)
    assert sum(deleted) == 5 + 1
    assert max(deleted) == 2
    left = administrator.execute(
        "SELECT account_id, count(*) AS n FROM metrion.request_logs GROUP BY 1"
    ).fetchall()
    assert {row["account_id"]: row["n"] for row in left} == {account.id: 7, other.id: 12}


async def test_the_jobs_hear_whose_usage_changed(database, writer, new_account, log_row):
    accounts_of_batch = [(await new_account()).id for _ in range(2)]
    listener = psycopg.connect(database.url(roles.JOBS).get_secret_value(), autocommit=True)
    with listener:
        listener.execute("LISTEN metrion_usage")
        batch = [log_row(account) for account in accounts_of_batch * 2]
        writer.write(batch)
        writer.write(batch)  # nothing new: no news
        writer.write([log_row(accounts_of_batch[0])])
        heard = [
            json.loads(notify.payload) for notify in listener.notifies(timeout=5, stop_after=2)
        ]
    assert sorted(heard[0]["accounts"]) == sorted(str(account) for account in accounts_of_batch)
    assert heard[1]["accounts"] == [str(accounts_of_batch[0])]


async def test_news_of_many_accounts_fit_their_notifications(
    administrator, database, writer, log_row
):
    many = [uuid7() for _ in range(400)]
    with administrator.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO metrion.accounts (id, email) VALUES (%s, %s)",
            [(account, f"{account}@example.com") for account in many],
        )
    listener = psycopg.connect(database.url(roles.JOBS).get_secret_value(), autocommit=True)
    with listener:
        listener.execute("LISTEN metrion_usage")
        assert writer.write([log_row(account) for account in many]) == 400
        heard = [notify.payload for notify in listener.notifies(timeout=5, stop_after=3)]
    assert max(map(len, heard)) < 8000
    assert {account for payload in heard for account in json.loads(payload)["accounts"]} == {
        str(account) for account in many
    }


BAD = [
    {"created_at": "yesterday-ish"},
    {"created_at": "infinity"},
    {"created_at": None},
    {"id": "1"},
    {"id": None},
    {"account_id": "x"},
    {"status": "teapot"},
    {"status": 70_000},
    {"input_tokens": 10**30},
    {"cost_usd": "1e20"},
    {"provider": None},
    {"latency_ms": float("nan")},
    {"error": b"bytes"},
]


async def test_a_bad_row_is_rejected_and_nothing_of_its_batch_written(
    administrator, writer, new_account, log_row
):
    account = await new_account()
    for change in BAD:
        with pytest.raises(RowsRejected) as caught:
            writer.write([log_row(account.id), log_row(account.id, error="hush") | change])
        assert "hush" not in str(caught.value), change
        assert logged(administrator)["requests"] == 0, change
    check_that_all_sums_agree(administrator)


async def test_odd_text_is_kept_as_far_as_postgresql_can(
    administrator, writer, new_account, log_row
):
    account = await new_account()
    odd = "NUL \0 half \ud800 % :name '; \\ \U0001f600"
    written = log_row(account.id, model=odd, error="é" * 2000, requester="\U0001f600" * 2000)
    assert writer.write([written]) == 1
    row = administrator.execute(
        "SELECT model, error, requester FROM metrion.request_logs"
    ).fetchone()
    assert row["model"] == "NUL � half ? % :name '; \\ \U0001f600"
    assert (len(row["error"]), len(row["requester"])) == (500, 200)


async def test_a_writer_connects_again_after_a_loss(administrator, writer, new_account, log_row):
    account = await new_account()
    writer.write([log_row(account.id)])
    administrator.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE usename = 'metrion_proxy' AND datname = current_database()"
    )
    batch = [log_row(account.id)]
    with pytest.raises(DatabaseUnavailable):
        writer.write(batch)
    assert writer.write(batch) == 1


def test_no_server_is_unavailability_that_names_no_password(log_row):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        writer = LogWriter(SecretStr(f"postgresql://metrion_proxy:hush@127.0.0.1:{port}/metrion"))
        with pytest.raises(DatabaseUnavailable) as caught:
            writer.write([log_row(uuid7())])
    assert "hush" not in str(caught.value)


async def test_a_missing_right_gives_up_no_row(administrator, writer, new_account, log_row):
    account = await new_account()
    administrator.execute("REVOKE EXECUTE ON FUNCTION metrion.ingest FROM metrion_proxy")
    with pytest.raises(DatabaseUnavailable, match="permission denied"):
        writer.write([log_row(account.id)])
    administrator.execute("GRANT EXECUTE ON FUNCTION metrion.ingest TO metrion_proxy")
    assert writer.write([log_row(account.id)]) == 1


async def test_a_writer_does_not_wait_for_ever(database, writer, new_account, log_row):
    account = await new_account()
    impatient = LogWriter(database.url(roles.PROXY), statement_seconds=1)
    with psycopg.connect(database.administrator_url.get_secret_value()) as blocker:
        blocker.execute("SELECT metrion.lock_log()")
        with pytest.raises(DatabaseUnavailable, match="statement timeout"):
            impatient.write([log_row(account.id)])
    assert impatient.write([log_row(account.id)]) == 1
    impatient.close()


async def test_records_of_before_are_added_up_as_new_ones_are(
    database, administrator, writer, new_account, log_row
):
    """The newest revision is undone and made again: the same records come of the same log."""
    account = await new_account("pro")
    now = datetime.now(UTC)
    batch = [
        log_row(
            account.id,
            now - timedelta(hours=7 * number),
            model=("a", "b", None)[number % 3],
            requester=("x", None)[number % 2],
            status=(200, 429, None)[number % 3],
            cached=number % 5 == 0,
            latency_ms=2.0**number,
        )
        for number in range(20)
    ]
    writer.write(batch[:10])
    before = records(administrator)
    writer.close()
    downgrade(database.administrator_url, "r0006")
    counted = "SELECT sum(requests) AS requests FROM metrion.latency_days WHERE measure = 'latency'"
    assert administrator.execute(counted).fetchone()["requests"] == 8
    migrate(database.administrator_url, database.settings.data_dir / "roles")
    assert records(administrator) == before
    downgrade(database.administrator_url, "r0006")
    writer.write(batch[10:])  # by the way into the log that was before
    writer.close()
    migrate(database.administrator_url, database.settings.data_dir / "roles")
    again = records(administrator)
    for table in TABLES:
        administrator.execute(f"TRUNCATE metrion.{table}")
    administrator.execute("TRUNCATE metrion.request_logs")
    writer.write(batch)
    assert records(administrator) == again


TABLES = ("usage_days", "usage_hours", "usage_sums")


def records(administrator):
    return {
        table: {
            repr(sorted((name, str(value)) for name, value in row.items()))
            for row in administrator.execute(
                f"SELECT *, latency::text, ttfb::text, overhead::text FROM metrion.{table}".encode()
            )
        }
        for table in TABLES
    }
