"""What was measured, held against what was promised."""

import dataclasses

from scripts.benchmarks.goals import Goal, goal_table, goals
from scripts.benchmarks.requests import SCENARIOS, Figures

MIB = 2**20
METRION = Figures(500, 100, 900, 1.5, 10)
OTHERS = {
    "direct": Figures(100, 0, 3000, 0.5, 10),
    "mitmdump": Figures(2000, 0, 300, 3.2, 10),
    "litellm": Figures(10_000, 0, 80, 12, 10),
}


def found(metrion: Figures = METRION) -> dict[str, object]:
    contestants = {
        name: dataclasses.asdict(figures)
        for name, figures in {**OTHERS, "metrion": metrion}.items()
    }
    return {
        "start_seconds": 1.2,
        "requests": {scenario.name: contestants for scenario in SCENARIOS},
        "memory": {"a": 130 * MIB, "b": 131 * MIB, "c": 132 * MIB},
        "connecting": {"metrion": {"connections_per_100": 0.8}},
        "workers": [{"per_cpu_second": 1000.0}, {"per_cpu_second": 950.0}],
    }


def missed(found: dict[str, object]) -> set[str]:
    return {
        goal.name for goal in goals(found) if goal.verdict == "not reached" and not goal.is_bold
    }


def test_every_goal_has_its_figure():
    all_of_them = goals(found())
    assert all(goal.measured is not None for goal in all_of_them)
    assert missed(found()) == set()
    assert [goal.verdict for goal in all_of_them if goal.is_bold] == ["not reached"] * 3


def test_each_can_be_missed():
    slow = found(Figures(8000, 160, 90, 9, 10))
    slow |= {
        "start_seconds": 2.1,
        "memory": {"a": 140 * MIB, "b": 1, "c": 160 * MIB},
        "connecting": {"metrion": {"connections_per_100": 100.0}},
        "workers": [{"per_cpu_second": 1000.0}, {"per_cpu_second": 890.0}],
    }
    assert missed(slow) == {goal.name for goal in goals(slow)}


def test_what_was_not_measured_is_not_reached():
    assert {goal.verdict for goal in goals({})} == {"not measured"}
    without_peer = found()
    for contestants in without_peer["requests"].values():
        contestants.pop("litellm", None)
    unmeasured = [goal.name for goal in goals(without_peer) if goal.measured is None]
    assert len(unmeasured) == 3
    assert all("LiteLLM" in name for name in unmeasured)


def test_a_line_for_each():
    table = goal_table([Goal("start, s", 2.0, 1.25), Goal("x", 1.0, None, is_bold=True)])
    assert [line.split() for line in table.splitlines()] == [
        ["start,", "s", "1.250", "at", "most", "2.000:", "reached"],
        ["x", "—", "hoped", "1.000:", "not", "measured"],
    ]
