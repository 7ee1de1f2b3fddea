"""Runs a module's tests against its mutants: a fork for each, of a process that has imported much.

Started by `scripts.proof.mutation` in a copy of the tree; reads jobs from standard input, one JSON
object a line, and writes what became of each mutant. What belongs to the tree is imported in the
forks only, so that every module that uses the changed one sees the change.
"""

import ast
import contextlib
import importlib
import json
import os
import sys
import threading
import warnings
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from scripts.proof.mutants import Mutant, planted
from scripts.proof.mutation_fork import Ended, Limits, Loader, Run, end_with_parent, fork, run_tests
from scripts.proof.mutation_nursery import Nursery, result_of

OWN_PACKAGES = ("addons", "api", "storage", "scripts", "tests", "conftest")


class Worker:
    """Mutants of one module after the other."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def work(self, job: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        """Try every mutant of a module.

        Args:
            job: `module` (a path), `tests` (paths), `every` (1: all mutants; n: each n-th),
                `database_url` (a PostgreSQL for the tests; empty: they need none).

        Raises:
            RuntimeError: the tests fail without any fault, or do not import the module.
        """
        path = self._root / job["module"]
        name = ".".join(Path(job["module"]).with_suffix("").parts)
        tree = ast.parse(path.read_text())
        arguments, first = self._without_fault(
            Loader(name, path, tree), job["tests"], job["database_url"]
        )
        limits = Limits(first.cpu_seconds, first.seconds)

        def chosen() -> Generator[tuple[Mutant, Mapping[str, int]]]:
            for number, mutant in enumerate(planted(tree)):
                if number % job["every"] == 0:
                    yield mutant, _order(first.said["seconds"], first.said["lines"], mutant.lines)

        tried: set[str] = set()
        loader = Loader(name, path, tree)
        nursery = Nursery(loader, tree, chosen, set(first.said["at_import"]), limits)
        for result in self._in_nursery(nursery, arguments):
            tried.add(result["mutant"])
            yield {"module": job["module"], **result}
        for mutant, order in chosen():
            if str(mutant) not in tried:
                ended = self._fork(Loader(name, path, tree), arguments, Run(order), limits)
                yield {"module": job["module"], **result_of(mutant, ended)}

    def _in_nursery(self, nursery: Nursery, arguments: Sequence[str]) -> Generator[dict[str, Any]]:
        """Have all mutants tried that need no new import of the tests."""
        reading, writing = os.pipe()
        nursery.report = writing
        child = os.fork()
        if child == 0:
            end_with_parent()
            run_tests(nursery.loader, arguments, Run({}, nursery=nursery), Path(os.devnull))
        os.close(writing)
        with os.fdopen(reading) as lines:
            yield from map(json.loads, lines)
        os.waitpid(child, 0)

    def _without_fault(
        self, loader: Loader, tests: list[str], database_url: str
    ) -> tuple[list[str], Ended]:
        """Run the tests as they are; also says how they can be run."""
        why = ""
        for folders, arguments in _ways(tests, database_url):
            _import_foreign(self._root, [*tests, *(f"{each}/conftest.py" for each in folders)])
            ended = self._fork(loader, arguments, Run({}, loader.code))
            if ended.verdict == "survived" and ended.said["was_used"]:
                return arguments, ended
            why = ended.said.get("why") or ended.verdict
        raise RuntimeError(f"{loader.path} without a fault: {why}")

    def _fork(
        self, loader: Loader, arguments: Sequence[str], run: Run, limits: Limits | None = None
    ) -> Ended:
        if threading.active_count() > 1 or _has_own_modules(loader.name):
            raise RuntimeError("this process must stay as it was when it began")
        ended = fork(self._root)
        if isinstance(ended, Path):
            if limits:
                limits.apply()
            run_tests(loader, arguments, run, ended)
            raise RuntimeError("a fork has ended before")  # noqa: TRY004 - never
        return ended


def _ways(tests: list[str], database_url: str = "") -> Generator[tuple[Sequence[Path], list[str]]]:
    """How to run tests: with as few conftest.py as will do, for the outer import much.

    Yields:
        The folders whose conftest.py count, and the arguments.
    """
    folders = Path(tests[0]).parents
    if database_url:  # tests/conftest.py takes it
        *inner, _root = folders
        yield inner, [*tests, f"--database-url={database_url}", f"--confcutdir={inner[-1]}"]
        return
    yield (), [*tests, "--noconftest"]
    for count, outermost in enumerate(folders, 1):
        yield folders[:count], [*tests, f"--confcutdir={outermost}"]


def _order(
    seconds: Mapping[str, float], lines: Mapping[str, list[int]], wanted: range
) -> dict[str, int]:
    """Tests that come by these lines first, quick ones first; then all others."""
    by_way = {test: any(line in wanted for line in seen) for test, seen in lines.items()}
    tests = sorted(seconds, key=lambda test: (not by_way[test], seconds[test]))
    return {test: place for place, test in enumerate(tests)}


def _import_foreign(root: Path, files: Sequence[str]) -> None:
    """Import what these tests will import that is not of this tree: spares each fork seconds.

    What cannot be imported by itself is left to them.
    """
    waiting = [root / file for file in files]
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in seen or not path.is_file():
            continue
        seen.add(path)
        for name in _names_imported(ast.parse(path.read_text())):
            if name.partition(".")[0] in OWN_PACKAGES:
                place = root / name.replace(".", "/")
                waiting += [place.with_suffix(".py"), place / "__init__.py"]
            else:
                with warnings.catch_warnings(action="ignore"), contextlib.suppress(Exception):
                    importlib.import_module(name)


def _names_imported(tree: ast.Module) -> Generator[str]:
    """Modules that a module imports at once, and what could be one."""
    for statement in tree.body:
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
        elif isinstance(statement, ast.ImportFrom) and statement.module:
            yield statement.module
            yield from (f"{statement.module}.{alias.name}" for alias in statement.names)


def _has_own_modules(name: str) -> bool:
    """Something of the tree was imported besides this package: it may have the module itself."""
    return name in sys.modules or any(
        module.partition(".")[0] in OWN_PACKAGES
        and not module.startswith(("scripts.proof", "tests"))
        for module in sys.modules
        if module != "scripts"
    )


def main() -> None:
    """Work until there are no more jobs."""
    os.nice(int(sys.argv[1]))
    sys.dont_write_bytecode = False  # in this copy sources stay as they are: compiled once
    worker = Worker(Path.cwd())
    for line in sys.stdin:
        for result in worker.work(json.loads(line)):
            print(json.dumps(result), flush=True)
        print("{}", flush=True)


if __name__ == "__main__":
    main()
