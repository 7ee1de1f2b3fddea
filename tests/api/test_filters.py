from datetime import UTC, datetime, timedelta

import pytest

from api.errors import InvalidRequestError
from api.filters import window_of

NOW = datetime.now(UTC)


@pytest.mark.parametrize(("name", "count"), [("24h", 24), ("7d", 7), ("30d", 30), ("90d", 90)])
def test_a_range_ends_now(name, count):
    window = window_of(name, None, None)
    assert len(window.moments) == count
    assert window.moments[-1] <= datetime.now(UTC) < window.end + timedelta(hours=1)


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [("custom", None, None), ("custom", NOW, None), ("custom", None, NOW), ("7d", NOW, None)],
)
def test_custom_and_its_moments_belong_together(name, start, end):
    with pytest.raises(InvalidRequestError, match="custom"):
        window_of(name, start, end)


def test_custom_is_what_its_moments_say():
    window = window_of("custom", NOW - timedelta(days=3), NOW)
    assert window.step == "day"
    assert len(window.moments) in {3, 4}
