"""The run of all modules (`scripts/test -m mutation`), and tests of what judges there."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.proof.mutation import (
    MODULES,
    ON_A_DATABASE,
    ROOT,
    Mutation,
    Result,
    Verdicts,
    equivalent_mutants,
    own_tests,
)

# Small, and its tests are quick: the run without a marker shows that the run works.
SHORT = ("storage/tokens.py",)


@pytest.mark.parametrize(
    ("modules", "niceness"),
    [
        pytest.param(SHORT, 0, id="short"),
        pytest.param(tuple(MODULES), 15, id="long", marks=pytest.mark.mutation),
    ],
)
def test_every_fault_is_noticed(
    modules: tuple[str, ...], niceness: int, tmp_path: Path, table: Callable[[str], None]
) -> None:
    listed = equivalent_mutants()
    verdicts = Verdicts(
        {name: why for name, why in listed.items() if name.partition(" ")[0] in modules}
    )
    with Mutation(tmp_path, niceness=niceness) as mutation:
        for module in modules:
            verdicts.results.extend(mutation.mutants_of(module, MODULES[module]))
    table(verdicts.table())
    assert len(verdicts.results) > 10 * len(modules)
    assert not verdicts.unexplained, "\n".join(each.name for each in verdicts.unexplained)
    assert not verdicts.stale, "\n".join(verdicts.stale)


def test_the_list_is_about_modules_that_are_tried() -> None:
    assert {name.partition(" ")[0] for name in equivalent_mutants()} <= set(MODULES)


def test_all_that_is_tried_is_there() -> None:
    for module, further in MODULES.items():
        for path in (module, own_tests(module), *further):
            assert (ROOT / path).is_file(), path
    assert set(MODULES) >= ON_A_DATABASE


MODULE = '''
"""A module with faults to come."""
LIMIT = 3


def may_pass(count: int) -> bool:
    """Say whether one more may pass."""
    return count < LIMIT


def wait(count: int) -> int:
    """Count down."""
    while count > 0:
        count -= 1
    return count
'''
TESTS = """
from storage.made_up import may_pass, wait


def test_few_may_pass():
    assert may_pass(0)
    assert not may_pass(9)


def test_waiting_ends():
    assert wait(2) == 0
"""


@pytest.fixture
def made_up(tmp_path: Path) -> Iterator[Callable[[str], dict[str, Result]]]:
    """A tree with one module; gives what became of its mutants, by what was changed."""
    tree = tmp_path / "made_up"
    for folder in ("storage", "tests/storage"):
        (tree / folder).mkdir(parents=True)
    (tree / "scripts").symlink_to(ROOT / "scripts")
    (tree / "storage/made_up.py").write_text(MODULE)
    (tree / "pyproject.toml").write_text("[tool.pytest]\naddopts = ['--import-mode=importlib']\n")

    def run(tests: str) -> dict[str, Result]:
        (tree / "tests/storage/test_made_up.py").write_text(tests)
        with Mutation(tmp_path / "work", tree) as mutation:
            return {each.mutant: each for each in mutation.mutants_of("storage/made_up.py")}

    return run


def test_what_tests_overlook_survives(made_up: Callable[[str], dict[str, Result]]) -> None:
    results = made_up(TESTS)
    verdicts = {mutant: result.verdict for mutant, result in results.items()}
    assert verdicts == {
        "module: 3 → 4": "survived",  # no test looks at the limit itself
        "may_pass: return count < LIMIT → return None": "killed",
        "may_pass: count < LIMIT → count <= LIMIT": "survived",
        "may_pass: count < LIMIT → count >= LIMIT": "killed",
        "wait: count > 0 → False": "killed",
        "wait: count > 0 → count >= 0": "killed",
        "wait: count > 0 → count <= 0": "killed",
        "wait: 0 → 1": "killed",
        "wait: count -= 1 → pass": "timed out",  # it would go on for ever
        "wait: 1 → 2": "survived",
        "wait: return count → return None": "killed",
    }
    noticed = results["may_pass: count < LIMIT → count >= LIMIT"]
    assert noticed.by == "tests/storage/test_made_up.py::test_few_may_pass"
    assert noticed.line == 8
    found = Verdicts({noticed.name: "a mistake"}, list(results.values()))
    assert {each.mutant for each in found.unexplained} == {
        "module: 3 → 4",
        "may_pass: count < LIMIT → count <= LIMIT",
        "wait: 1 → 2",
    }
    assert found.stale == [noticed.name]


def test_what_was_made_at_import_is_made_anew_with_the_fault(
    made_up: Callable[[str], dict[str, Result]],
) -> None:
    # what only the import runs is noticed by tests that only look at what it left
    tests = "from storage.made_up import may_pass, wait\n\nMAY, LEFT = may_pass(3), wait(1)\n\n\n"
    tests += "def test_left():\n    assert (MAY, LEFT) == (False, 0)\n"
    verdicts = {mutant: result.verdict for mutant, result in made_up(tests).items()}
    assert verdicts["may_pass: count < LIMIT → count <= LIMIT"] == "killed"
    assert verdicts["wait: return count → return None"] == "killed"
    assert verdicts["wait: count > 0 → count >= 0"] == "killed"


@pytest.mark.parametrize(
    "tests",
    [
        "def test_fails():\n    from storage import made_up\n    assert not made_up.LIMIT",
        "def test_of_something_else():\n    assert True",
    ],
)
def test_tests_that_cannot_tell_are_an_error(
    tests: str, made_up: Callable[[str], dict[str, Result]]
) -> None:
    with pytest.raises(RuntimeError, match=r"made_up\.py could not be tried"):
        made_up(tests)


RESULT = Result("storage/tokens.py", "f: 1 → 2", 7, "survived", "", 1.2)


def test_a_survivor_is_explained_or_counts() -> None:
    killed = replace(RESULT, mutant="f: 2 → 3", verdict="killed")
    assert Verdicts({}, [RESULT, killed]).unexplained == [RESULT]
    explained = Verdicts({RESULT.name: "why"}, [RESULT, killed])
    assert (explained.unexplained, explained.stale) == ([], [])
    assert Verdicts({killed.name: "why"}, [killed]).stale == [killed.name]
    assert Verdicts({"storage/tokens.py f: gone": "why"}, [killed]).stale == [
        "storage/tokens.py f: gone"
    ]


def test_the_table() -> None:
    other = replace(RESULT, module="addons/meter.py")
    results = [
        RESULT,
        replace(RESULT, mutant="a", verdict="killed"),
        replace(RESULT, mutant="b", verdict="timed out", cpu_seconds=30),
        other,
    ]
    text = Verdicts({other.name: "why"}, results).table()
    assert [line.split() for line in text.splitlines()] == [
        ["module", "mutants", "killed", "timed", "out", "survived", "equivalent", "CPU", "s"],
        ["storage/tokens.py", "3", "1", "1", "1", "0", "32"],
        ["addons/meter.py", "1", "0", "0", "0", "1", "1"],
        ["all", "4", "1", "1", "1", "1", "34"],
    ]


def test_no_reason_is_no_explanation(tmp_path: Path) -> None:
    path = tmp_path / "list.toml"
    path.write_text('[[equivalent]]\nmodule = "m.py"\nmutants = ["a", "b"]\nwhy = "because"\n')
    assert equivalent_mutants(path) == {"m.py a": "because", "m.py b": "because"}
    path.write_text('[[equivalent]]\nmodule = "m.py"\nmutants = ["a", "b"]\nwhy = " "\n')
    with pytest.raises(ValueError, match="without a reason"):
        equivalent_mutants(path)
