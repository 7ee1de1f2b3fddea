import math
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.filters import DAY, Filter, Window
from storage.latency import (
    average,
    histogram,
    latencies,
    merged,
    percentile,
    percentiles,
    unpacked,
)

HISTOGRAMS = st.dictionaries(st.integers(-40, 84), st.integers(1, 10**6), min_size=1)


def bucket(ms: float) -> int:
    return math.floor(4 * math.log2(ms))


@given(HISTOGRAMS, st.lists(st.floats(0.01, 1), min_size=2, max_size=2).map(sorted))
def test_percentiles_grow_and_stay_inside(histogram, shares):
    low, high = (percentile(histogram, share) for share in shares)
    assert percentiles(histogram, shares) == [low, high]
    assert 2 ** (min(histogram) / 4) <= low <= high
    assert high <= 2 ** ((max(histogram) + 1) / 4) * (1 + 1e-9)
    assert 2 ** (min(histogram) / 4) <= average(histogram) <= 2 ** ((max(histogram) + 1) / 4)


def test_of_nothing_there_is_none():
    assert percentile({}, 0.5) is None
    assert percentiles({0: 0}, (0.5, 0.9)) == [None, None]
    assert average({}) is None
    assert merged([]) == {}


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_percentiles_are_right_to_two_percent(share):
    random = Random(7)
    times = sorted(random.lognormvariate(6.5, 0.6) for _ in range(200_000))
    histogram = merged({bucket(ms): 1} for ms in times)
    exact = times[int(share * len(times))]
    assert percentile(histogram, share) == pytest.approx(exact, rel=0.02)


@given(HISTOGRAMS)
def test_a_histogram_is_one_number(histogram):
    number = sum(count * 10 ** (12 * (bucket + 40)) for bucket, count in histogram.items())
    assert unpacked(str(number)) == histogram
    assert unpacked(f"{number}.0") == histogram


def test_no_number_is_no_histogram():
    assert unpacked(None) == unpacked("0") == {}


async def test_the_records_have_what_was_measured(api, new_account, writer, log_row):
    account = await new_account("pro")
    now = datetime.now(UTC)
    times = [0.0, 0.0005, 0.001, 0.0011, 1.0, 15.9, 16.0, 250.0, 1e7]
    buckets = [-40, -40, -40, -40, 0, 15, 16, 31, 84]
    rows = [
        log_row(account.id, now - n * DAY, latency_ms=ms, ttfb_ms=None)
        for n, ms in enumerate(times)
    ]
    rows += [log_row(account.id, now, latency_ms=5.0, provider="grok", model=None)]
    rows += [log_row(account.id, now, latency_ms=9.0, outcome="refused", status=429)]
    rows += [log_row(account.id, now, latency_ms=9.0, cached=True)]
    rows += [log_row(account.id, now - 30 * DAY, latency_ms=64.0)]
    writer.write(rows)
    window = Window.last(30 * DAY, now)
    async with api.account(account.id) as connection:
        found = await latencies(connection, window, Filter())
        for wanted in (Filter(), Filter(statuses=["2xx"], cached=False), Filter(search="")):
            assert await histogram(connection, window, wanted) == found.overall("latency")
        grok = await latencies(connection, window, Filter(providers=["grok"]))
        named = await latencies(connection, window, Filter(requesters=["nobody"]))
    assert found.overall("latency") == merged([{9: 1}, *({bucket: 1} for bucket in buckets)])
    assert found.previous == {24: 1}
    assert found.by_moment["latency", 29] == {-40: 1, 9: 1}
    assert found.by_model["latency", "grok", ""] == {9: 1}
    assert found.overall("ttfb") == grok.overall("ttfb") == {25: 1}
    assert set(grok.by_model) == {("latency", "grok", ""), ("ttfb", "grok", "")}
    assert named.by_model == named.by_moment == {}


async def test_a_day_is_told_by_the_hour(api, new_account, writer, log_row):
    account = await new_account()
    now = datetime.now(UTC).replace(minute=30)
    writer.write([log_row(account.id, now - timedelta(hours=hours)) for hours in (0, 1, 1, 30)])
    async with api.account(account.id) as connection:
        found = await latencies(connection, Window.last(DAY, now), Filter())
    counts = {key: sum(each.values()) for key, each in found.by_moment.items()}
    assert counts == {
        (measure, place): count
        for measure in ("latency", "ttfb", "overhead")
        for place, count in ((22, 2), (23, 1))
    }
