from datetime import UTC, datetime
from decimal import Decimal

from api import usage_shapes as shapes
from storage.filters import DAY, Window
from storage.latency import Latencies
from storage.usage import Group, Sums, busiest

START = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = Window(START, START + 3 * DAY, "day")


def group(cost: float, *, day: int = 0, model: str = "m", requests: int = 1) -> Group:
    begin = str(1767225600 + 86400 * day)
    sums = Sums(
        requests=requests,
        cost_usd=Decimal(str(cost)),
        cost_series={begin: cost},
        request_series={begin: requests},
    )
    return Group(sums, begin=(START + day * DAY).date(), provider="openai", model=model)


def test_a_series_has_no_gaps():
    groups = [group(1, day=2), group(2, day=0)]
    assert [sums.cost_usd for sums in shapes.moments_of(WINDOW, groups)] == [2, 0, 1]
    assert shapes.requests_over_time(WINDOW, group(1, day=1, requests=5)) == [0, 5, 0]
    assert shapes.timestamps_of(WINDOW) == [1767225600 + 86400 * day for day in range(3)]
    assert shapes.range_of(WINDOW).model_dump(by_alias=True)["from"] == START


def test_the_rest_is_other_unless_it_is_one():
    groups = [group(9 - number, model=f"m{number}", day=number % 3) for number in range(9)]
    shown = shapes.costs_by_model(WINDOW, groups[:8])
    assert [each.model for each in shown] == [f"m{number}" for number in range(8)]
    shown = shapes.costs_by_model(WINDOW, groups)
    assert [each.model for each in shown[-2:]] == ["m6", "other"]
    assert shown[-1].values == [0, 2, 1]
    assert sum(each.total for each in shown) == sum(range(1, 10))


def test_order_is_by_cost_then_requests_then_name():
    groups = [group(1, model="b"), group(1, model="a"), group(0, requests=9), group(1, requests=2)]
    assert [each.model for each in shapes.dearest(groups)] == ["m", "a", "b", "m"]
    assert [each.sums.requests for each in busiest(groups)] == [9, 2, 1, 1]


def test_without_cost_there_are_no_shares():
    (provider,) = shapes.costs_by_provider([group(0)], Sums(requests=1))
    assert provider.share is None
    series = shapes.cost_series([], Sums(requests=1, unpriced=1), Sums())
    assert (series.total, series.previous, series.unpriced) == (None, None, 1)


def test_latencies_are_series_and_rows():
    found = Latencies(
        {("latency", 1): {0: 4}, ("ttfb", 2): {4: 1}},
        {
            ("latency", "openai", ""): {0: 4},
            ("latency", "grok", "g"): {8: 9},
            ("ttfb", "grok", "g"): {0: 1},
        },
        previous={},
    )
    p50, p95, p99 = shapes.percentile_series(WINDOW, found)
    assert p50[0] is p50[2] is p99[0] is None
    assert 1 < (p50[1] or 0) < (p95[1] or 0) < (p99[1] or 0) < 1.2
    assert shapes.average_series(WINDOW, found, "ttfb")[:2] == [None, None]
    first, second = shapes.latency_by_model(found)
    assert (first.model, first.requests) == ("g", 9)
    assert (second.model, second.ttfb_p50) == (None, None)


def test_numbers_as_json_has_them():
    assert shapes.number(None) is shapes.rounded(None) is None
    assert shapes.number(Decimal("0.1")) == 0.1
    assert shapes.rounded(1.23456) == 1.235
