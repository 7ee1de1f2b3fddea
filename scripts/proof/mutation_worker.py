"""Runs a module's tests against its mutants: a fork for each, of a process that has imported much.

Started by `scripts.proof.mutation` in a copy of the tree; reads jobs from standard input, one JSON
object a line, and writes what became of each mutant. What belongs to the tree is imported in the
forks only, so that every module that uses the changed one sees the change. The change itself is
never written to disk: a loader compiles it.
"""

import ast
import contextlib
import gc
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
import threading
import time
import types
import warnings
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from scripts.proof.mutants import planted

OWN_PACKAGES = ("addons", "api", "storage", "scripts", "tests", "conftest")
_MEMORY_BYTES = 6 * 1024**3
# How much longer than without a fault it may take before it counts as an endless loop or a hang.
_CPU_FACTOR, _CPU_SECONDS = 3, 2
_WALL_FACTOR, _WALL_SECONDS = 10, 60
_TIMED_OUT = {signal.SIGXCPU, signal.SIGALRM, signal.SIGKILL}
_ARGUMENTS = (
    "-x",
    "-q",
    "-p",
    "no:cacheprovider",
    "--disable-plugin-autoload",  # only those that the tests need: less to import
    "-p",
    "pytest_asyncio.plugin",
    "-p",
    "_hypothesis_pytestplugin",
    # the parent has imported plugins before pytest could rewrite their asserts: nobody misses them
    "-W",
    "ignore::pytest.PytestAssertRewriteWarning",
)


class Loader(SourceFileLoader):
    """Loads one module from a tree that may have a fault in it."""

    def __init__(self, name: str, path: Path, tree: ast.Module) -> None:
        super().__init__(name, str(path))
        with warnings.catch_warnings(action="ignore"):  # `"text" is …` is one of the faults
            self.code = compile(tree, str(path), "exec", dont_inherit=True)
        self.was_used = False

    def get_code(self, fullname: str) -> types.CodeType:
        """Give the code with the fault."""
        self.was_used = True
        return self.code

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        """Answer for this module only."""
        if fullname != self.name:
            return None
        return spec_from_file_location(fullname, self.path, loader=self)


@dataclass(eq=False)  # pytest puts plugins into sets
class Run:
    """A pytest plugin: runs the tests that are likely to notice first, and keeps what they did.

    Attributes:
        order: tests in the order to run them; those that are not in it come last.
        code: what is watched, to know which tests come by where; None to watch nothing.
    """

    order: Mapping[str, int]
    code: types.CodeType | None = None
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    lines: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    failed: str = ""
    why: str = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort: stable, so that what is unknown stays as it is."""
        items.sort(key=lambda item: self.order.get(item.nodeid, len(self.order)))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Take the time of a test, and the lines it comes by."""
        begun = time.perf_counter()
        seen: set[int] = set()
        with _watched(self.code, seen) if self.code else contextlib.nullcontext():
            result = yield
        self.seconds[item.nodeid] = time.perf_counter() - begun
        self.lines[item.nodeid] = sorted(seen)
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember who noticed."""
        if report.failed and not self.failed:
            self.failed, self.why = report.nodeid, report.longreprtext

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """It could not even be imported."""
        if report.failed and not self.failed:
            self.failed, self.why = report.nodeid or "collection", report.longreprtext


@contextlib.contextmanager
def _watched(code: types.CodeType, seen: set[int]) -> Generator[None]:
    """Note each line of `code` that is run, once (a line says so and is then left alone)."""
    monitoring = sys.monitoring
    tool, event = monitoring.COVERAGE_ID, monitoring.events.LINE
    codes = list(_codes(code))
    own = {id(each) for each in codes}

    def on_line(each: types.CodeType, line: int) -> object:
        if id(each) in own:
            seen.add(line)
        return monitoring.DISABLE

    monitoring.use_tool_id(tool, "mutation")
    monitoring.register_callback(tool, event, on_line)
    for each in codes:
        monitoring.set_local_events(tool, each, event)
    monitoring.restart_events()
    try:
        yield
    finally:
        for each in codes:
            monitoring.set_local_events(tool, each, 0)
        monitoring.free_tool_id(tool)


def _codes(code: types.CodeType) -> Generator[types.CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


@dataclass(frozen=True)
class Ended:
    """How a fork ended; `said` is what it left in its file."""

    status: int
    said: dict[str, Any]
    cpu_seconds: float
    seconds: float

    @property
    def verdict(self) -> str:
        """Whether the fault was noticed."""
        if os.WIFSIGNALED(self.status):
            # A test that crashes the interpreter has noticed as well.
            return "timed out" if os.WTERMSIG(self.status) in _TIMED_OUT else "killed"
        code = os.waitstatus_to_exitcode(self.status)
        if code == pytest.ExitCode.OK:
            return "survived"
        if code == pytest.ExitCode.NO_TESTS_COLLECTED:
            raise RuntimeError("there are no tests")
        return "killed"


class Worker:
    """Mutants of one module after the other."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._child = 0

    def stop(self, *_: object) -> None:
        """End with what was started."""
        if self._child:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child, signal.SIGKILL)
        os._exit(1)

    def work(self, job: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        """Try every mutant of a module.

        Args:
            job: `module` (a path), `tests` (paths), `every` (1: all mutants; n: each n-th).

        Raises:
            RuntimeError: the tests fail without any fault, or do not import the module.
        """
        path = self._root / job["module"]
        name = ".".join(Path(job["module"]).with_suffix("").parts)
        tree = ast.parse(path.read_text())
        arguments, first = self._without_fault(Loader(name, path, tree), job["tests"])
        limits = _Limits(first.cpu_seconds, first.seconds)
        for number, mutant in enumerate(planted(tree)):
            if number % job["every"]:
                continue
            order = _order(first.said["seconds"], first.said["lines"], mutant.lines)
            ended = self._fork(Loader(name, path, tree), arguments, order, limits=limits)
            yield {
                "module": job["module"],
                "mutant": str(mutant),
                "line": mutant.lines.start,
                "verdict": ended.verdict,
                "by": ended.said.get("failed", ""),
                "cpu_seconds": round(ended.cpu_seconds, 2),
            }

    def _without_fault(self, loader: Loader, tests: list[str]) -> tuple[list[str], Ended]:
        """Run the tests as they are; also says how they can be run."""
        why = ""
        for folders, arguments in _ways(tests):
            _import_foreign(self._root, [*tests, *(f"{each}/conftest.py" for each in folders)])
            ended = self._fork(loader, arguments, {}, watch=True)
            if ended.verdict == "survived" and ended.said["was_used"]:
                return arguments, ended
            why = ended.said.get("why") or ended.verdict
        raise RuntimeError(f"{loader.path} without a fault: {why}")

    def _fork(
        self,
        loader: Loader,
        arguments: Sequence[str],
        order: Mapping[str, int],
        *,
        watch: bool = False,
        limits: "_Limits | None" = None,
    ) -> Ended:
        begun, cpu_begun = time.perf_counter(), _children_cpu()
        if threading.active_count() > 1 or _has_own_modules(loader.name):
            raise RuntimeError("this process must stay as it was when it began")
        with tempfile.NamedTemporaryFile(dir=self._root, suffix=".json") as file:
            gc.freeze()
            self._child = os.fork()
            if self._child == 0:
                _in_fork(loader, arguments, order, Path(file.name), limits, watch=watch)
            _, status = os.waitpid(self._child, 0)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._child, signal.SIGKILL)  # what its tests have left behind
            self._child = 0
            said = json.loads(Path(file.name).read_bytes() or b"{}")
        return Ended(status, said, _children_cpu() - cpu_begun, time.perf_counter() - begun)


@dataclass(frozen=True)
class _Limits:
    """What the tests took without a fault."""

    cpu_seconds: float
    wall_seconds: float

    def apply(self) -> None:
        """Have the kernel end this process when it takes far longer."""
        cpu = round(self.cpu_seconds * _CPU_FACTOR + _CPU_SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
        signal.setitimer(signal.ITIMER_REAL, self.wall_seconds * _WALL_FACTOR + _WALL_SECONDS)


def _in_fork(
    loader: Loader,
    arguments: Sequence[str],
    order: Mapping[str, int],
    file: Path,
    limits: _Limits | None,
    *,
    watch: bool,
) -> None:
    """Run the tests; does not return."""
    code = 70
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        if limits:
            limits.apply()
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        sys.meta_path.insert(0, loader)
        run = Run(order, loader.code if watch else None)
        plugins: list[object] = [run]
        code = int(pytest.main([*_ARGUMENTS, *_hypothesis(), *arguments], plugins))
        said: dict[str, Any] = {"failed": run.failed, "was_used": loader.was_used}
        if watch:
            said |= {"seconds": run.seconds, "lines": run.lines, "why": run.why}
        file.write_text(json.dumps(said))
    finally:
        os._exit(code)


def _ways(tests: list[str]) -> Generator[tuple[Sequence[Path], list[str]]]:
    """How to run tests: with as few conftest.py as will do, for the outer import much.

    Yields:
        The folders whose conftest.py count, and the arguments.
    """
    yield (), [*tests, "--noconftest"]
    folders = Path(tests[0]).parents
    for count, outermost in enumerate(folders, 1):
        yield folders[:count], [*tests, f"--confcutdir={outermost}"]


def _hypothesis() -> Sequence[str]:
    """The same examples in each fork; an example that fails is not made smaller."""
    hypothesis.settings.register_profile(
        "mutation",
        deadline=None,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
    )
    return ("--hypothesis-profile=mutation",)


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


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Work until there are no more jobs."""
    os.nice(int(sys.argv[1]))
    sys.dont_write_bytecode = False  # in this copy sources stay as they are: compiled once
    worker = Worker(Path.cwd())
    signal.signal(signal.SIGTERM, worker.stop)
    for line in sys.stdin:
        for result in worker.work(json.loads(line)):
            print(json.dumps(result), flush=True)
        print("{}", flush=True)


if __name__ == "__main__":
    main()
