"""The house keeps its order: what has a place, a size, a test and a docstring."""

import ast
import fnmatch
import re
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("addons", "api", "scripts", "storage")
MODULE_MAX_LINES = 400
FUNCTION_MAX_LINES = 60
TOP_LEVEL = {
    *PACKAGES,
    *("tests", ".ci", ".gitignore", "README.md", "LICENSE", "CHANGELOG.md"),
    *("pyproject.toml", "requirements.lock", "requirements-dev.lock"),
}
# Tested as a whole, by what they do to a database: tests/storage/test_migrate.py.
TESTED_TOGETHER = "storage/migrations/*"
# What is started with the tools of requirements-dev.lock; all else with requirements.lock alone.
WITH_TOOLS = ("scripts/benchmarks/*", "scripts/proof/*")
# Tests of what is no Python module: the schema, who sees what in it, and the API's document.
TESTS_OF_THE_SCHEMA = {
    *("tests/storage/test_catalogue.py", "tests/storage/test_isolation.py"),
    "tests/api/test_conformance.py",
}


def modules() -> Iterator[Path]:
    """Every module of the product."""
    for package in PACKAGES:
        yield from sorted((ROOT / package).rglob("*.py"))


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def imports(path: Path) -> Iterator[str]:
    """The packages that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def does_something(path: Path) -> bool:
    """It has a function with more in it than a docstring (exceptions, protocols, imports do not)."""
    return any(
        not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
        for function in functions(path)
        for statement in function.body
    )


def not_python(folder: Path) -> set[str]:
    """What else a test may be about: scripts in sh; manifests, a file or a folder of them."""
    if not folder.is_dir():
        return set()
    return {
        entry.name.partition(".")[0].lower() for entry in folder.iterdir() if entry.suffix != ".py"
    }


def is_ignored(entry: str) -> bool:
    """Git does not see it: .gitignore has only names of folders and files."""
    patterns = [
        line.strip().rstrip("/")
        for line in (ROOT / ".gitignore").read_text().splitlines()
        if line.strip() and not line.startswith("#")
    ]
    return entry == ".git" or any(fnmatch.fnmatch(entry, pattern) for pattern in patterns)


def test_top_level_is_the_list() -> None:
    found = {entry.name for entry in ROOT.iterdir() if not is_ignored(entry.name)}
    assert found - TOP_LEVEL == set(), "without a reason"
    assert TOP_LEVEL - found == set(), "missing"


def test_every_module_has_its_test() -> None:
    missing = [
        f"{name(module)} → {name(test)}"
        for module in modules()
        if does_something(module) and not fnmatch.fnmatch(name(module), TESTED_TOGETHER)
        if not (
            test := ROOT / "tests" / module.relative_to(ROOT).with_stem(f"test_{module.stem}")
        ).is_file()
    ]
    assert not missing, "\n".join(missing)


def test_every_test_has_its_module() -> None:
    strays: list[str] = []
    for package in PACKAGES:
        for test in sorted((ROOT / "tests" / package).rglob("test_*.py")):
            module = ROOT / test.relative_to(ROOT / "tests").with_stem(test.stem[len("test_") :])
            if not module.is_file() and module.stem not in not_python(module.parent):
                strays.append(name(test))
    assert set(strays) == TESTS_OF_THE_SCHEMA


def test_test_files_are_found_by_pytest() -> None:
    strays = [
        name(path)
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if not path.name.startswith("test_") and path.name != "conftest.py"
        if "def test_" in path.read_text()
    ]
    assert not strays, "\n".join(strays)


def test_addons_hide_no_library() -> None:
    # mitmproxy puts the folder of a script first on sys.path: a limits.py would hide the library
    own = {path.stem for path in (ROOT / "addons").iterdir() if not path.name.startswith("__")}
    installed = {
        package
        for package, distributions in packages_distributions().items()
        if set(distributions) != {"metrion"}
    }
    assert own & installed == set()
    assert own & set(sys.stdlib_module_names) == set()


def test_what_users_run_needs_no_tool_of_tests() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    locked = {match[0] for line in lines if (match := re.match(r"[a-z0-9-]+", line))}
    assert "mitmproxy" in locked
    assert "pytest" not in locked
    providers = {
        package: {re.sub(r"[-_.]+", "-", each).lower() for each in distributions}
        for package, distributions in packages_distributions().items()
    }
    strays = {
        f"{name(module)}: {package}"
        for module in modules()
        if not any(fnmatch.fnmatch(name(module), pattern) for pattern in WITH_TOOLS)
        for package in imports(module)
        if package not in (*PACKAGES, *sys.stdlib_module_names)
        if not providers.get(package, set()) & locked
    }
    assert not strays, "\n".join(sorted(strays))


def test_modules_are_short() -> None:
    long = [
        f"{name(path)}: {length}"
        for path in modules()
        if (length := len(path.read_text().splitlines())) > MODULE_MAX_LINES
    ]
    assert not long, "\n".join(long)


def test_functions_are_short() -> None:
    long = [
        f"{name(path)}:{function.lineno} {function.name}: {length}"
        for path in modules()
        for function in functions(path)
        if (length := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_MAX_LINES
    ]
    assert not long, "\n".join(long)


def test_every_module_says_what_it_is() -> None:
    silent = [
        name(path) for path in modules() if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert not silent, "\n".join(silent)
