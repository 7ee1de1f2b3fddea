from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import InvalidValue
from storage.filters import DAY, HOUR, LONGEST, Filter, Window, status_spans

NOON = datetime(2026, 3, 1, 12, 34, 56, tzinfo=UTC)
MOMENTS = st.datetimes(
    min_value=datetime(2000, 1, 1),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(2100, 1, 1),  # noqa: DTZ001
    timezones=st.just(UTC),
)


def test_the_last_day_is_24_hours_with_the_present_one():
    window = Window.last(DAY, NOON)
    assert window.step == "hour"
    assert window.end == NOON.replace(hour=13, minute=0, second=0)
    assert len(window.moments) == 24


def test_the_last_days_are_whole_with_the_present_one():
    window = Window.last(7 * DAY, NOON)
    assert window.step == "day"
    assert (window.start, window.end) == (
        datetime(2026, 2, 23, tzinfo=UTC),
        datetime(2026, 3, 2, tzinfo=UTC),
    )
    assert window.previous.end == window.start
    assert window.previous.moments[0] == datetime(2026, 2, 16, tzinfo=UTC)
    assert window.place(date(2026, 2, 23)) == 0
    assert window.place(datetime(2026, 3, 1, tzinfo=UTC)) == 6


@given(MOMENTS, st.timedeltas(min_value=timedelta(seconds=1), max_value=LONGEST))
def test_a_span_holds_both_moments_and_is_whole(start, length):
    window = Window.between(start, start + length)
    unit = HOUR if window.step == "hour" else DAY
    assert window.start <= start < start + length <= window.end
    assert window.start > start - unit
    assert window.end < start + length + unit
    assert window.moments[0] == window.start
    assert window.moments[-1] + unit == window.end
    assert (window.step == "hour") == (length <= DAY)
    assert [window.place(moment) for moment in window.moments] == list(range(len(window.moments)))


def test_moments_of_other_zones_are_the_same_moments():
    there = timezone(timedelta(hours=5, minutes=30))
    assert Window.between(NOON.astimezone(there), NOON + HOUR) == Window.between(NOON, NOON + HOUR)


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (NOON, NOON),
        (NOON, NOON - HOUR),
        (NOON, NOON + LONGEST + 2 * DAY),
        (NOON.replace(tzinfo=None), NOON),
        (NOON, NOON.replace(tzinfo=None)),
        (datetime.min.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC) + HOUR),
        (datetime.max.replace(tzinfo=UTC) - HOUR, datetime.max.replace(tzinfo=UTC)),
        (datetime.max.replace(tzinfo=timezone(-HOUR)), NOON),
    ],
)
def test_what_is_no_span_is_refused(start, end):
    with pytest.raises(InvalidValue):
        Window.between(start, end)


def test_a_filter_says_only_what_it_was_told():
    assert Filter().of_logs() == []
    everything = Filter(["a"], ["b"], ["c"], ["2xx", "none"], cached=False, search="x")
    assert len(everything.of_logs()) == 6


@pytest.mark.parametrize(
    ("wanted", "dimensions"),
    [
        (Filter(), set()),
        (Filter(["a"], ["b"]), {"provider", "model"}),
        (Filter(requesters=["c"], statuses=["2xx"]), {"requester", "status"}),
        (Filter(cached=False), {"from_cache"}),
        (Filter(search="x"), {"model", "requester"}),
    ],
)
def test_what_a_record_must_tell_apart(wanted, dimensions):
    assert wanted.dimensions == dimensions


def test_an_unknown_class_of_status_is_no_row():
    (condition,) = Filter(statuses=["9xx"]).of_logs()
    assert str(condition) == "false"
    assert status_spans(["9xx", "4xx", "none"]) == [(400, 499), (0, 0)]
