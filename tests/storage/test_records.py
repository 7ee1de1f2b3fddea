from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import product
from random import Random

import pytest
from sqlalchemy import event

from storage.filters import DAY, Filter, Window
from storage.latency import histogram, merged, unpacked
from storage.records import (
    COST_SERIES,
    GROUPS,
    HISTOGRAMS,
    REQUEST_SERIES,
    REQUESTERS,
    Question,
    ask,
    source_of,
)

NOW = datetime.now(UTC)
WINDOWS = [Window.last(DAY, NOW), Window.last(7 * DAY, NOW)]
FILTERS = [
    Filter(),
    Filter(providers=["p1"]),
    Filter(models=["m2"]),
    Filter(requesters=["r0", "r1"]),
    Filter(statuses=["4xx", "none"]),
    Filter(cached=True),
    Filter(cached=False, statuses=["2xx"]),
    Filter(providers=["p0"], requesters=["r1"]),
    Filter(providers=["p0"], models=["m0"], requesters=["r1"], statuses=["2xx"], cached=False),
    Filter(search="R1"),
]
GROUPINGS = [
    (),
    ("begin",),
    ("provider", "model"),
    ("status",),
    ("requester",),
    ("begin", "provider", "model"),
    ("provider", "model", "requester", "status"),
]


@pytest.mark.parametrize(
    ("dimensions", "step", "table", "kind"),
    [
        ("", "day", "usage_sums", "days"),
        ("status", "hour", "usage_sums", "hours"),
        ("model", "day", "usage_sums", "days_models"),
        ("requester status", "hour", "usage_sums", "hours_requesters_statuses"),
        ("model from_cache", "hour", "usage_sums", "hours_models_statuses"),
        ("requester", "day", "usage_sums", "days_requesters"),
        ("requester provider", "day", "usage_sums", "days_providers"),
        ("requester model", "day", "usage_sums", "days_names"),
        ("requester provider", "hour", "usage_hours", None),
        ("requester model status", "day", "usage_days", None),
    ],
)
def test_the_smallest_that_knows_answers(dimensions, step, table, kind):
    window = WINDOWS[0 if step == "hour" else 1]
    source = source_of(window, frozenset(dimensions.split()))
    assert (source.table, source.kind) == (table, kind)


@pytest.fixture
async def rows(new_account, writer, log_row):
    """Rows of every kind, of an account's last nine days, and their account."""
    account = await new_account("pro")
    random = Random(5)
    made = [
        log_row(
            account.id,
            NOW - timedelta(hours=random.random() ** 3 * 200),
            provider=f"p{random.randrange(2)}",
            model=random.choice(["m0", "m1", "m2", None]),
            requester=random.choice(["r0", "r1", "r2", None]),
            status=random.choice([200, 200, 200, 404, 429, 500, None]),
            cached=random.random() < 0.2,
            latency_ms=random.choice([5.0, 60.0, 700.0]),
        )
        for _ in range(400)
    ]
    assert writer.write(made) == 400
    return account.id, made


def fits(row, window, wanted):
    status = row["status"]
    at = datetime.fromisoformat(row["created_at"])
    return (
        window.start <= at < window.end
        and (not wanted.providers or row["provider"] in wanted.providers)
        and (not wanted.models or row["model"] in wanted.models)
        and (not wanted.requesters or row["requester"] in wanted.requesters)
        and (wanted.cached is None or row["cached"] == wanted.cached)
        and (not wanted.search or wanted.search.lower() in (row["requester"] or ""))
        and (not wanted.statuses or (f"{status // 100}xx" if status else "none") in wanted.statuses)
    )


def value_of(row, name):
    at = datetime.fromisoformat(row["created_at"]).replace(minute=0, second=0, microsecond=0)
    if name == "day":
        return at.replace(hour=0)
    return at if name == "hour" else row[name] or (0 if name == "status" else "")


async def test_every_table_answers_as_the_log_would(api, rows):
    """Whatever is grouped and filtered by: counted here by hand, from the rows themselves."""
    account, made = rows
    for window, wanted in product(WINDOWS, FILTERS):
        questions = {
            str(number): Question(window, by, ("requests", REQUESTERS, *HISTOGRAMS))
            for number, by in enumerate(GROUPINGS)
        }
        async with api.account(account) as connection:
            found = await ask(connection, wanted, questions)
        mine = [row for row in made if fits(row, window, wanted)]
        for number, by in enumerate(GROUPINGS):
            names = [window.step if name == "begin" else name for name in by]
            expected = Counter(tuple(value_of(row, name) for name in names) for row in mine)
            answer = {
                tuple(row[name] for name in by): row["requests"]
                for row in found[str(number)]
                if row["requests"]
            }
            assert answer == expected, (wanted, by)
        timed = [row for row in mine if not row["cached"]]
        (whole,) = found["0"]
        assert whole[REQUESTERS] == len({row["requester"] for row in mine} - {None})
        assert sum(unpacked(whole["latency"]).values()) == len(timed)
        async with api.account(account) as connection:
            assert await histogram(connection, window, wanted) == unpacked(whole["latency"])


@pytest.mark.parametrize("by", [("requester",), ("provider", "model")])
async def test_the_first_groups_are_those_that_would_be_first_among_all(api, rows, by):
    account, _ = rows
    only = ("requests", "cost_usd", "last_at", GROUPS)
    for window, wanted in product(WINDOWS, FILTERS):
        questions = {
            "all": Question(window, by, only),
            "first": Question(window, by, only, 2, ("requests", "cost_usd")),
            "by name": Question(window, by, only, 2),
        }
        async with api.account(account) as connection:
            found = await ask(connection, wanted, questions)
        everything = [dict(row) for row in found["all"]]
        assert all(row[GROUPS] == len(everything) for row in everything)

        def names(row):
            return [row[name] for name in by]

        everything.sort(key=names)
        assert sorted(map(dict, found["by name"]), key=names) == everything[:2]
        everything.sort(key=lambda row: (-row["requests"], -row["cost_usd"], *names(row)))
        first = sorted(everything[:2], key=names)
        assert sorted(map(dict, found["first"]), key=names) == first


@pytest.mark.parametrize(("by", "last"), [(("requester",), 4), (("provider", "model"), 8)])
async def test_with_the_rest_it_is_all_of_it(api, rows, by, last):
    account, _ = rows
    only = ("requests", "cost_usd", "latency", "last_at", REQUEST_SERIES)
    first = ("cost_usd", "requests")
    questions = {
        "all": Question(WINDOWS[1], by, only),
        "few": Question(WINDOWS[1], by, only, 2, first, rest=True),
        "fits": Question(WINDOWS[1], by, only, last, first, rest=True),
    }
    async with api.account(account) as connection:
        found = await ask(connection, Filter(), questions)

    def names(row):
        return [row[name] for name in by]

    everything, few = found["all"], found["few"]
    assert len(everything) == last
    assert sorted(found["fits"], key=names) == sorted(everything, key=names)
    dearest = sorted(everything, key=lambda row: (-row["cost_usd"], -row["requests"], *names(row)))
    busiest = sorted(everything, key=lambda row: (-row["requests"], *names(row)))
    told = [row for row in everything if row in dearest[:2] + busiest[:2]]
    rest = [row for row in few if row[by[-1]] is None]
    assert sorted((row for row in few if row not in rest), key=names) == sorted(told, key=names)
    assert len({tuple(names(row)) for row in rest}) == len(rest) > 0
    for group in rest:
        mine = [
            row for row in everything if row not in told and names(row)[:-1] == names(group)[:-1]
        ]
        assert group["requests"] == sum(row["requests"] for row in mine)
        assert group["cost_usd"] == sum(row["cost_usd"] for row in mine)
        assert group["last_at"] == max(row["last_at"] for row in mine)
        assert unpacked(group["latency"]) == merged(unpacked(row["latency"]) for row in mine)
        series = Counter()
        for row in mine:
            series.update(row[REQUEST_SERIES])
        assert group[REQUEST_SERIES] == series


async def test_a_part_of_a_name_is_enough(api, rows):
    account, _ = rows
    for window in WINDOWS:
        questions = {
            "one": Question(window, ("requester",), (), part="R1"),
            "three": Question(window, ("requester",), (), part="r"),
            "of another": Question(window, ("model",), (), part="r1"),
            "first": Question(window, ("model",), (), 1, part="m"),
        }
        async with api.account(account) as connection:
            found = await ask(connection, Filter(), questions)
        assert {
            name: sorted(row[questions[name].by[0]] for row in found[name]) for name in found
        } == {
            "one": ["r1"],
            "three": ["r0", "r1", "r2"],
            "of another": [],
            "first": ["m0"],
        }


async def test_what_goes_over_time_adds_up(api, rows):
    account, made = rows
    only = ("requests", "cost_usd", COST_SERIES, REQUEST_SERIES)
    for window in WINDOWS:
        question = Question(window, ("provider", "model"), only)
        async with api.account(account) as connection:
            found = (await ask(connection, Filter(statuses=["2xx"]), {"cost": question}))["cost"]
        mine = [row for row in made if fits(row, window, Filter(statuses=["2xx"]))]
        assert sum(row["requests"] for row in found) == len(mine)
        for row in found:
            assert sum(row[COST_SERIES].values()) == pytest.approx(float(row["cost_usd"]))
            assert sum(row[REQUEST_SERIES].values()) == row["requests"]
            assert row[REQUEST_SERIES].keys() == row[COST_SERIES].keys()
            assert {int(begin) for begin in row[COST_SERIES]} <= {
                int(moment.timestamp()) for moment in window.moments
            }


async def test_many_questions_are_one_statement(api, rows):
    account, _ = rows
    statements = []
    async with api.account(account) as connection:
        event.listen(
            connection.sync_connection,
            "before_cursor_execute",
            lambda *arguments: statements.append(arguments[2]),
        )
        await ask(connection, Filter(), {str(by): Question(WINDOWS[0], by) for by in GROUPINGS})
    assert len(statements) == 1
