"""Which faults can be put into functions that are there already; the rest is imported with them."""

import ast
from types import CodeType
from typing import Any

import pytest

from scripts.proof.mutants import planted
from scripts.proof.mutation_nursery import _functions_of, _outermost

TEXT = """
LIMIT = 3

def plain(x=4):
    return x + 5

def made_twice():
    return 6

def made_twice():
    return 7

class Class:
    SIZE = 8

    def method(self):
        return [each for each in (1,) if each == 9]

    def outer(self):
        return lambda: 10
"""


def code_of(text: str | ast.Module) -> CodeType:
    return compile(text, "made_up.py", "exec")


@pytest.mark.parametrize(
    ("change", "function"),
    [
        ("plain: 5 → 6", "plain"),
        ("Class.method: 9 → 10", "Class.method"),
        ("Class.outer: 10 → 11", "Class.outer"),
        ("module: 3 → 4", None),
        ("Class: 8 → 9", None),
        ("made_twice: 6 → 7", None),  # which of the two is meant is not known
    ],
)
def test_the_outermost_function_is_changed(change: str, function: str | None) -> None:
    before = code_of(TEXT)
    tree = ast.parse(TEXT)
    found = [
        _outermost(before, code_of(tree), mutant.place)
        for mutant in planted(tree)
        if str(mutant) == change
    ]
    assert len(found) == 1
    assert (found[0] and found[0][0].co_qualname) == function
    if found[0]:
        old, new = found[0]
        assert old != new


def test_a_default_is_no_part_of_a_function() -> None:
    tree = ast.parse(TEXT)
    before = code_of(TEXT)
    for mutant in planted(tree):
        if str(mutant) == "plain: 4 → 5":
            found = _outermost(before, code_of(tree), mutant.place)
            assert found
            assert found[0] == found[1]
            return
    pytest.fail("there is no such mutant")


def test_functions_are_found_by_their_code() -> None:
    code = code_of(TEXT)
    names: dict[str, Any] = {}
    exec(code, names)
    functions = {
        each.__qualname__: each for found in _functions_of(code).values() for each in found
    }
    assert functions["plain"] is names["plain"]
    assert functions["Class.method"] is names["Class"].method
    assert "Class.outer.<locals>.<lambda>" not in functions
    kept = names["Class"]().outer()
    found = _functions_of(code)
    assert found[id(kept.__code__)] == [kept]
