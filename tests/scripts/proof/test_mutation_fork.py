"""What belongs to one fork; the whole is in test_mutation.py."""

import ast
import importlib
import os
import signal
import sys
from pathlib import Path

import pytest

from scripts.proof.mutation_fork import Ended, Loader, Run, watched

TEXT = "LIMIT = 3\n\n\ndef pass_on(x):\n    if x:\n        return LIMIT\n    return 0\n"


def loader(path: Path, text: str = TEXT) -> Loader:
    path.write_text(TEXT)
    return Loader(path.stem, path, ast.parse(text))


def test_a_fault_is_imported_and_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = loader(tmp_path / "made_up_module.py", TEXT.replace("3", "4"))
    monkeypatch.setattr(sys, "meta_path", [made, *sys.meta_path])
    monkeypatch.syspath_prepend(tmp_path)
    assert not made.was_used
    module = importlib.import_module("made_up_module")
    monkeypatch.delitem(sys.modules, "made_up_module")
    assert (made.was_used, module.LIMIT, module.pass_on(1)) == (True, 4, 4)
    assert [entry.name for entry in tmp_path.iterdir()] == ["made_up_module.py"]
    assert (tmp_path / "made_up_module.py").read_text() == TEXT
    assert made.find_spec("another") is None


def test_lines_are_seen_of_the_module_alone(tmp_path: Path) -> None:
    code = loader(tmp_path / "made_up_module.py").code
    names: dict[str, object] = {}
    exec(code, names)
    pass_on = names["pass_on"]
    seen: set[int] = set()
    with watched(code, seen):
        assert callable(pass_on)
        assert [pass_on(0) for _ in range(3)] == [0, 0, 0]
        ast.parse("1")
    assert seen == {5, 7}
    with watched(code, seen):
        pass_on(1)
    assert seen == {5, 6, 7}
    pass_on(0)  # nobody watches


def test_tests_that_are_not_known_come_last() -> None:
    class Item:
        def __init__(self, nodeid: str) -> None:
            self.nodeid = nodeid

    items = [Item("new"), Item("b"), Item("newer"), Item("a")]
    Run({"a": 0, "b": 1}).pytest_collection_modifyitems(items)
    assert [item.nodeid for item in items] == ["a", "b", "new", "newer"]


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (0, "survived"),
        (pytest.ExitCode.TESTS_FAILED << 8, "killed"),
        (pytest.ExitCode.INTERRUPTED << 8, "killed"),  # it could not be imported
        (pytest.ExitCode.USAGE_ERROR << 8, "killed"),  # nor could a conftest.py
        (signal.SIGXCPU, "timed out"),
        (signal.SIGALRM, "timed out"),
        (signal.SIGSEGV, "killed"),
    ],
)
def test_how_a_fork_ends_is_the_verdict(status: int, verdict: str) -> None:
    assert Ended(status, {}, 0.0, 0.0).verdict == verdict


def test_no_tests_are_no_verdict() -> None:
    assert os.waitstatus_to_exitcode(pytest.ExitCode.NO_TESTS_COLLECTED << 8) == 5
    with pytest.raises(RuntimeError, match="no tests"):
        _ = Ended(pytest.ExitCode.NO_TESTS_COLLECTED << 8, {}, 0.0, 0.0).verdict
