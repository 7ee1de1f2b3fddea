import ast

import pytest

from scripts.proof.mutants import planted


def mutants_of(source: str) -> dict[str, str]:
    """Each mutant's name → the whole text with it."""
    tree = ast.parse(source)
    untouched = ast.dump(tree)
    found = {str(mutant): ast.unparse(tree) for mutant in planted(tree)}
    assert ast.dump(tree) == untouched, "what was planted is pulled out again"
    return found


def changes(source: str) -> list[str]:
    return [name.removeprefix("module: ") for name in mutants_of(source)]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a < b", ["a < b → a <= b", "a < b → a >= b"]),
        ("a >= b", ["a >= b → a > b", "a >= b → a < b"]),
        ("a == b", ["a == b → a != b"]),
        ("a is not b", ["a is not b → a is b"]),
        ("a not in b", ["a not in b → a in b"]),
        ("a < b <= c", ["a < b <= c → a <= b <= c", "a < b <= c → a < b < c"]),
        ("a and b", ["a and b → b", "a and b → a"]),
        ("a or b or c", ["a or b or c → b or c", "a or b or c → a or c", "a or b or c → a or b"]),
        ("a + b", ["a + b → a - b"]),
        ("a // b", ["a // b → a * b"]),
        ("not a", ["not a → a"]),
        ("-a", ["-a → a"]),
        ("a[1:]", ["a[1:] → a[:]", "1 → 2"]),
        ("x = 5", ["5 → 6"]),
        ("x = True", ["True → False"]),
        ("x = 'name'", ["'name' → 'XXname'"]),
        ("x = b'two words'", ["b'two words' → b'XXtwo words'"]),
        ("max(a)", ["max(a) → pass", "max(a) → min(a)"]),
        ("x = a.strip()", ["a.strip() → a"]),
        ("x = a.find(b)", ["a.find(b) → a.rfind(b)"]),
        ("x = f(a, b=c)", ["f(a, b=c) → f(a)"]),
        ("del a", ["del a → pass"]),
        ("a += b", ["a += b → pass"]),
        ("a.b = c", ["a.b = c → pass"]),
        ("raise e", ["raise e → pass"]),
        ("b if a else c", ["a → not a"]),
        ("[x for x in y if x]", ["x → True"]),
    ],
)
def test_small_faults(source: str, expected: list[str]) -> None:
    assert changes(source) == expected


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("while a:\n    break", ["a → False", "break → continue"]),
        ("if a:\n    pass", ["a → not a"]),
        ("if a == b:\n    pass", ["a == b → a != b"]),
        (
            "try:\n    a()\nexcept E:\n    b()",
            ["a() → pass", "except E: b() → except E: raise", "b() → pass"],
        ),
    ],
)
def test_faults_in_what_is_done_when(source: str, expected: list[str]) -> None:
    assert changes(source) == expected


def test_where_they_are_is_said() -> None:
    source = "class A:\n    @property\n    def b(self, c=1):\n        return c\n"
    tree = ast.parse(source)
    found = [(str(mutant), mutant.lines) for mutant in planted(tree)]
    assert found == [("A.b: 1 → 2", range(3, 5)), ("A.b: return c → return None", range(4, 5))]


def test_each_has_a_name_of_its_own_and_changes_the_text() -> None:
    source = "x = 1 if a < 1 else b + 1\ny = 1 + 1"
    found = mutants_of(source)
    assert len(set(found.values())) == len(found) == 9
    assert "module: 1 → 2 (#4)" in found


@pytest.mark.parametrize(
    "source",
    [
        "import a",
        "from a import b",
        "'a docstring'",
        "def f():\n    'a docstring'",
        "def f(a: Literal['x']) -> Literal[5]:\n    pass",
        "x: Literal[1]",
        "type X = Literal[1]",
        "X = Literal['x']",
        "class P(Protocol):\n    def f(self):\n        return 1 + 1",
        "x = 'words for people'",
        "x = f'{a:>3} words'",
        "__all__ = ['x']",
        "@dataclass(frozen=True)\nclass A:\n    pass",
        "x = cast('int', y)",
    ],
)
def test_what_does_no_work_is_left_alone(source: str) -> None:
    assert changes(source) == []


def test_of_a_log_only_the_call_is_taken_away() -> None:
    assert changes("_log.error('it failed', 1, exc_info=True)") == [
        "_log.error('it failed', 1, exc_info=True) → pass"
    ]


def test_a_pattern_is_no_sentence() -> None:
    assert "'bearer x' → 'XXbearer x'" in changes("re.compile('bearer x')")
