import os

import pytest

from scripts.proof.fuzzing.tally import as_table


def test_a_failure_says_how_to_make_it_again(tally):
    tally.fail("crash", "it broke", 7, b"\x00a")
    assert tally.failures == ["crash: it broke [made up, seed 1, number 7: 0061]"]
    for _ in range(100):
        tally.fail("hang", "it waits")
    assert len(tally.failures) < 30
    assert tally.faults == {"crash": 1, "hang": 100}
    assert "100" in as_table([tally])


def test_memory_is_looked_at_three_times(tally):
    for done in range(1, 11):
        tally.inputs = done
        tally.looks(os.getpid())
    assert len(tally.memory) == 3
    assert all(tally.memory)


def test_memory_is_looked_at_by_the_share_of_a_time(tally):
    for done in (0.0, 0.3, 0.4, 0.6):
        tally.looks(os.getpid(), done)
    assert len(tally.memory) == 2


@pytest.mark.parametrize(
    ("mib", "is_growth"),
    [
        ((100, 130, 136), False),  # caches were filled
        ((100, 101, 102), False),
        ((130, 100, 104), False),
        ((100, 115, 130), True),  # a slope
        ((100, 100, 115), True),
        ((100, 150, 150), True),
        ((100, 140), False),  # too few inputs to say so
    ],
)
def test_what_keeps_something_of_each_is_told(tally, mib, is_growth):
    tally.memory = [1024 * each for each in mib]
    tally.check_growth()
    assert tally.faults == ({"wrong": 1} if is_growth else {})
