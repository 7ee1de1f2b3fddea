from datetime import UTC, datetime, timedelta
from decimal import Decimal

from storage import usage
from storage.filters import DAY, Filter, Window
from storage.records import REQUESTERS, Question
from storage.usage import Group, Sums

NOW = datetime.now(UTC)


async def test_all_groupings_agree(api, new_account, writer, log_row):
    account = await new_account("pro")
    writer.write(
        [
            log_row(
                account.id,
                NOW - timedelta(hours=number * 5),
                provider=("openai", "grok")[number % 2],
                model=("a", "b", None)[number % 3],
                requester=("x", None)[number % 2],
                status=(200, 500, None)[number % 3],
                cached=number % 7 == 0,
            )
            for number in range(40)
        ]
    )
    groupings = [
        ("begin",),
        ("provider", "model"),
        ("begin", "provider", "model"),
        ("status",),
        ("requester",),
    ]
    for window in (Window.last(DAY, NOW), Window.last(30 * DAY, NOW)):
        async with api.account(account.id) as connection:
            groups = {
                each: await usage.group(connection, window, Filter(), each) for each in groupings
            }
            few = await usage.group(connection, window, Filter(), ("model",), ("requests",))
            total = await usage.total(connection, window, Filter())
        assert total.requests == (40 if window.step == "day" else len(range(0, 24, 5)))
        for grouping, found in groups.items():
            assert sum(each.sums.requests for each in found) == total.requests, grouping
            assert sum(each.sums.cost_usd for each in found) == total.cost_usd, grouping
            assert max(each.sums.last_at for each in found) == total.last_at, grouping
            for each in found:
                for name in ("begin", "provider", "model", "requester", "status"):
                    assert (getattr(each, name) is not None) == (name in grouping)
        assert Sums.together([each.sums for each in groups["begin",]]) == total
        assert Sums.together([each.sums for each in few]) == Sums(requests=total.requests)


async def test_of_nothing_there_is_no_group(api, new_account):
    account = await new_account()
    window = Window.last(DAY, NOW)
    async with api.account(account.id) as connection:
        assert await usage.group(connection, window, Filter(), ("model",)) == []
        assert await usage.total(connection, window, Filter()) == Sums()
        named = Question(window, (), (REQUESTERS,))
        found = await usage.groups(
            connection, Filter(), named=named, days=Question(window, ("begin",))
        )
        assert found == {"named": [Group(Sums())], "days": []}
        assert await usage.list_names(connection, window) == {
            "providers": [],
            "models": [],
            "requesters": [],
        }
        assert await usage.forwarded_this_month(connection) == 0


def test_what_is_not_known_is_none():
    assert Sums().average_ms is Sums().error_rate is None
    assert Sums().known_cost == Sums().known_tokens == 0
    assert Sums(requests=2, unreported=2).known_tokens is None
    assert Sums(requests=2, unpriced=1).known_cost is None
    some = Sums(requests=2, unpriced=1, unreported=1, total_tokens=5, cost_usd=Decimal(1))
    assert (some.known_tokens, some.known_cost) == (5, 1)
    assert Sums(requests=4, errors=1, timed=2, latency_ms_sum=5).error_rate == 0.25
    assert Sums(timed=2, latency_ms_sum=5).average_ms == 2.5
