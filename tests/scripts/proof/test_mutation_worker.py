"""What is done for all mutants of a module; the whole is in test_mutation.py."""

from pathlib import Path

import pytest

from scripts.proof.mutation_worker import _import_foreign, _order, _ways


def test_who_comes_by_goes_first_and_quick_ones_before_slow_ones() -> None:
    seconds = {"slow": 3.0, "quick": 0.1, "elsewhere": 0.01, "never": 1.0}
    lines = {"slow": [1, 7], "quick": [7, 9], "elsewhere": [1, 9], "never": []}
    order = _order(seconds, lines, range(6, 9))
    assert sorted(order, key=lambda test: order[test]) == ["quick", "slow", "elsewhere", "never"]


def test_what_is_foreign_is_found_through_what_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "storage/inner").mkdir(parents=True)
    (tmp_path / "tests/test_x.py").write_text("from storage.inner import second\n")
    (tmp_path / "storage/inner/__init__.py").write_text("import xml.dom.minidom\n")
    (tmp_path / "storage/inner/second.py").write_text(
        "import no_such_module\nfrom wsgiref import headers\n\ndef f():\n    import storage\n"
    )
    imported: list[str] = []
    monkeypatch.setattr("importlib.import_module", imported.append)
    _import_foreign(tmp_path, ["tests/test_x.py"])
    assert set(imported) == {
        *("xml.dom.minidom", "no_such_module"),
        *("wsgiref", "wsgiref.headers"),
    }


def test_as_few_conftests_as_will_do_outermost_last() -> None:
    tests = ["tests/addons/usage/test_x.py", "tests/addons/test_y.py"]
    ways = [([*map(str, folders)], arguments[-1]) for folders, arguments in _ways(tests)]
    assert ways == [
        ([], "--noconftest"),
        (["tests/addons/usage"], "--confcutdir=tests/addons/usage"),
        (["tests/addons/usage", "tests/addons"], "--confcutdir=tests/addons"),
        (["tests/addons/usage", "tests/addons", "tests"], "--confcutdir=tests"),
        (["tests/addons/usage", "tests/addons", "tests", "."], "--confcutdir=."),
    ]


def test_a_database_is_given_to_the_conftest_that_takes_it() -> None:
    ways = list(_ways(["tests/storage/test_x.py"], "postgresql://somewhere"))
    folders, arguments = ways[0]
    assert [*map(str, folders)] == ["tests/storage", "tests"]
    assert arguments == [
        "tests/storage/test_x.py",
        "--database-url=postgresql://somewhere",
        "--confcutdir=tests",
    ]
    assert len(ways) == 1
