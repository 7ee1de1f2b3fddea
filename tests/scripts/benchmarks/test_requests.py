"""Rounds and their middle."""

from scripts.benchmarks.requests import SCENARIOS, Figures, _middle


def test_the_middle_of_the_rounds_counts():
    rounds = [Figures(1, 30, 2, 9, 5), Figures(9, 20, 4, 7, 6), Figures(3, 10, 3, 8, 7)]
    assert _middle(rounds) == Figures(3, 20, 3, 8, 6)


def test_a_steady_load_is_shared_out_among_the_clients():
    (steady,) = (scenario for scenario in SCENARIOS if scenario.per_second)
    assert steady.connections / steady.interval == steady.per_second
    assert SCENARIOS[0].interval == 0
