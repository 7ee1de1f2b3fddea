import os

from scripts.proof.fuzzing.tally import Tally, as_table


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


def test_what_keeps_something_of_each_is_told():
    growing = Tally("growing", 1, 10, memory=[1000, 5000, 9000])
    growing.check_growth(8000)
    assert not growing.failures
    growing.check_growth(7000)
    assert growing.faults == {"wrong": 1}
