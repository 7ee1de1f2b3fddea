"""Would the tests notice? Faults in what seals keys, admits, meters, prices and decides who may.

Each module of `MODULES` gets every small fault that `scripts.proof.mutants` knows, one at a time,
and its own tests are run against it. What no test notices is either mended by a test, or stands in
`equivalent_mutants.toml` with the reason why nobody could notice.
"""

import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from scripts.proof.mutation_worker import OWN_PACKAGES
from storage.embedded import EmbeddedPostgres

ROOT = Path(__file__).parents[2]
EQUIVALENT_MUTANTS = Path(__file__).with_name("equivalent_mutants.toml")
_COPIED = (*(name for name in OWN_PACKAGES if name != "conftest"), "pyproject.toml")
_STOP_SECONDS = 10

_ADMISSION = "tests/addons/test_admission.py"
MODULES: Mapping[str, tuple[str, ...]] = {
    "storage/sealing.py": (),
    "storage/tokens.py": (),
    "addons/admission.py": (),
    "addons/rate_window.py": (_ADMISSION,),
    "addons/monthly_allowance.py": (_ADMISSION,),
    "addons/usage/reader.py": (),
    "addons/usage/sse.py": (),
    "addons/meter.py": (),
    "addons/usage/anthropic_family.py": (),
    "addons/usage/openai_family.py": (),
    "addons/usage/gemini_family.py": (),
    "addons/usage/documents.py": (),
    "addons/usage/inflate.py": (),
    "storage/rates.py": (),
    "storage/pricing.py": (),
    "storage/price_catalogue.py": ("tests/storage/test_pricing.py",),
    "addons/providers/base.py": (),
    "storage/roles.py": (),
    "addons/routing.py": (),
    "addons/credentials.py": (),
    "addons/forwarding.py": (),
    "addons/headers.py": (),
    "addons/keyring.py": (),
    "storage/database.py": (),
}
"""Module → tests beside its own (the file at the mirrored place) that are about it as well."""
ON_A_DATABASE = frozenset({"storage/database.py"})
"""Their tests need a PostgreSQL. All mutants share one: starting it takes longer than the tests."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a mutant.

    Attributes:
        module: the file.
        mutant: what was changed.
        line: where.
        verdict: `killed`, `timed out` (noticed as well: a test would hang) or `survived`.
        by: the test that noticed.
        cpu_seconds: what it took.
    """

    module: str
    mutant: str
    line: int
    verdict: str
    by: str
    cpu_seconds: float

    @property
    def name(self) -> str:
        """What it is called in the list of equivalent mutants: lines come and go."""
        return f"{self.module} {self.mutant}"


class Mutation:
    """A copy of a tree, and a process that tries mutants in it.

    Args:
        folder: where the copy is made; the tree itself is only read.
        root: the tree.
        niceness: of the process, so that a long run stands in nobody's way.
    """

    def __init__(self, folder: Path, root: Path = ROOT, *, niceness: int = 0) -> None:
        self._niceness = niceness
        self._postgres = EmbeddedPostgres(folder, options={"fsync": "off"})
        self._copy = folder / "tree"
        for name in _COPIED:
            source = root / name
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "node_modules")
                shutil.copytree(source, self._copy / name, ignore=ignored)
            elif source.is_file():
                shutil.copy(source, self._copy / name)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603 - a command of ours
            [sys.executable, "-m", "scripts.proof.mutation_worker", str(self._niceness)],
            cwd=self._copy,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=_STOP_SECONDS)
        self._postgres.release()

    def mutants_of(
        self, module: str, further_tests: Iterable[str] = (), *, every: int = 1
    ) -> Iterator[Result]:
        """Try the mutants of a module, all or each n-th.

        Raises:
            RuntimeError: its tests fail without any fault, or have nothing to do with it.
        """
        tests = [own_tests(module), *further_tests]
        url = self._database_url() if module in ON_A_DATABASE else ""
        job = {"module": module, "tests": tests, "every": every, "database_url": url}
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("there are no pipes")
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if not (said := json.loads(line)):
                return
            yield Result(**said)
        raise RuntimeError(f"{module} could not be tried; what happened is on standard error")

    def _database_url(self) -> str:
        """The administrator's, of a server that is started when it is first wanted."""
        return self._postgres.start(stop_with_thread=True).get_secret_value()


def own_tests(module: str) -> str:
    """The test file at the mirrored place."""
    path = Path("tests") / module
    return path.with_stem(f"test_{path.stem}").as_posix()


@dataclass
class Verdicts:
    """All results, against the list of mutants that nobody could notice."""

    equivalent: Mapping[str, str]
    results: list[Result] = field(default_factory=list[Result])

    @property
    def unexplained(self) -> list[Result]:
        """Survivors that are not on the list."""
        return [
            each
            for each in self.results
            if each.verdict == "survived" and each.name not in self.equivalent
        ]

    @property
    def stale(self) -> list[str]:
        """What is on the list and was noticed after all, or does not exist any more."""
        survived = {each.name for each in self.results if each.verdict == "survived"}
        return [name for name in self.equivalent if name not in survived]

    def table(self) -> str:
        """One line per module, and one for all."""
        lines = [
            _columns("module", "mutants", "killed", "timed out", "survived", "equivalent", "CPU s")
        ]
        for module in dict.fromkeys(each.module for each in self.results):
            own = [each for each in self.results if each.module == module]
            lines.append(_columns(module, *self._figures(own)))
        return "\n".join([*lines, _columns("all", *self._figures(self.results))])

    def _figures(self, results: Sequence[Result]) -> Iterator[object]:
        """`survived` counts those that are not explained."""
        verdicts = [each.verdict for each in results]
        survived = verdicts.count("survived")
        unexplained = sum(each in results for each in self.unexplained)
        yield from (len(verdicts), verdicts.count("killed"), verdicts.count("timed out"))
        yield from (unexplained, survived - unexplained)
        yield round(sum(each.cpu_seconds for each in results))


def _columns(first: str, *others: object) -> str:
    return f"{first:34}" + "".join(f"{each!s:>12}" for each in others)


def equivalent_mutants(path: Path = EQUIVALENT_MUTANTS) -> dict[str, str]:
    """Read the list: module and mutant → the reason why nobody could notice.

    Raises:
        ValueError: one of them has no reason.
    """
    listed: dict[str, Any] = tomllib.loads(path.read_text())
    found: dict[str, str] = {}
    for group in listed.get("equivalent", []):
        if not group["why"].strip():
            raise ValueError(f"{group['module']}: a mutant is listed without a reason")
        found |= {f"{group['module']} {mutant}": group["why"] for mutant in group["mutants"]}
    return found
