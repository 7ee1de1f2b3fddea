"""One fork of a process that has imported much: runs tests against a module with a fault in it.

The fault is never written to disk: a loader compiles it. Or it is put into the functions of a
process whose tests are collected already (`scripts.proof.mutation_nursery`).
"""

import contextlib
import ctypes
import gc
import json
import os
import resource
import signal
import sys
import tempfile
import time
import types
import warnings
from ast import Module
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from typing import Any

import hypothesis
import pytest

_PR_SET_PDEATHSIG = 1
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

    def __init__(self, name: str, path: Path, tree: Module) -> None:
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
        nursery: is called when all is imported; says whether no test is to be run here.
        at_import: the lines that were run before the first test.
        last_word: the file for what is to be known of this run.
    """

    order: Mapping[str, int]
    code: types.CodeType | None = None
    nursery: "Callable[[Run], bool] | None" = None
    seconds: dict[str, float] = field(default_factory=dict[str, float])
    lines: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    at_import: set[int] = field(default_factory=set[int])
    last_word: Path = Path(os.devnull)
    failed: str = ""
    why: str = ""

    def __post_init__(self) -> None:
        self._importing = contextlib.ExitStack()

    def begin(self) -> None:
        """Tests and what they need are about to be imported."""
        if self.code:
            self._importing.enter_context(watched(self.code, self.at_import))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Sort: stable, so that what is unknown stays as it is."""
        items.sort(key=lambda item: self.order.get(item.nodeid, len(self.order)))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Have the nursery do its work; what it forks goes on with the tests, in its own order."""
        self._importing.close()
        if self.nursery and self.nursery(self):
            return True
        self.pytest_collection_modifyitems(session.items)
        return None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Take the time of a test, and the lines it comes by."""
        begun = time.perf_counter()
        seen: set[int] = set()
        with watched(self.code, seen) if self.code else contextlib.nullcontext():
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
def watched(code: types.CodeType, seen: set[int]) -> Generator[None]:
    """Note each line of `code` that is run, once (a line says so and is then left alone)."""
    monitoring = sys.monitoring
    tool, event = monitoring.COVERAGE_ID, monitoring.events.LINE
    watched_codes = list(codes(code))
    own = {id(each) for each in watched_codes}

    def on_line(each: types.CodeType, line: int) -> object:
        if id(each) in own:
            seen.add(line)
        return monitoring.DISABLE

    monitoring.use_tool_id(tool, "mutation")
    monitoring.register_callback(tool, event, on_line)
    for each in watched_codes:
        monitoring.set_local_events(tool, each, event)
    monitoring.restart_events()
    try:
        yield
    finally:
        for each in watched_codes:
            monitoring.set_local_events(tool, each, 0)
        monitoring.free_tool_id(tool)


def codes(code: types.CodeType) -> Generator[types.CodeType]:
    """Give a code, and all that are within it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes(constant)


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


@dataclass(frozen=True)
class Limits:
    """What the tests took without a fault."""

    cpu_seconds: float
    wall_seconds: float

    def apply(self) -> None:
        """Have the kernel end this process when it takes far longer."""
        cpu = round(self.cpu_seconds * _CPU_FACTOR + _CPU_SECONDS)
        resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu + 1))
        signal.setitimer(signal.ITIMER_REAL, self.wall_seconds * _WALL_FACTOR + _WALL_SECONDS)


def fork(folder: Path) -> Ended | Path:
    """Fork. In the child, gives the file for its last word; in the parent, how the child ended."""
    begun, cpu_begun = time.perf_counter(), children_cpu()
    handle, name = tempfile.mkstemp(dir=folder, suffix=".json")
    os.close(handle)
    last_word = Path(name)
    gc.freeze()
    child = os.fork()
    if child == 0:
        end_with_parent()
        os.setpgid(0, 0)
        return last_word
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what its tests have left behind
    said = json.loads(last_word.read_bytes() or b"{}")
    last_word.unlink()
    return Ended(status, said, children_cpu() - cpu_begun, time.perf_counter() - begun)


def end_with_parent() -> None:
    """Have the kernel end this process when the one that forked it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def run_tests(loader: Loader, arguments: Sequence[str], run: Run, last_word: Path) -> None:
    """Run tests in a fork that was made for it; does not return."""
    code = 70
    try:
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        sys.meta_path.insert(0, loader)
        run.last_word = last_word
        run.begin()
        plugins: list[object] = [run]
        # raised by warnings after the last test, of what a failed one left open: who failed is said
        with contextlib.suppress(Exception):
            code = int(pytest.main([*_ARGUMENTS, *_hypothesis(), *arguments], plugins))
        said: dict[str, Any] = {"failed": run.failed, "was_used": loader.was_used}
        if run.code:
            said |= {"seconds": run.seconds, "lines": run.lines, "why": run.why}
            said["at_import"] = sorted(run.at_import)
        run.last_word.write_text(json.dumps(said))
    finally:
        os._exit(code)


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


def children_cpu() -> float:
    """Seconds of processor time that this process's children took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
