"""Faults in functions, put into a process whose tests are collected: no fork imports them anew.

Importing takes ten times as long as the tests that notice. What can be left out is told by what
was run before the first test: where that is, or what is not within a function (a table, a pattern,
a default), the module must be imported with its fault.
"""

import ast
import gc
import inspect
import json
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

from scripts.proof.mutants import Mutant
from scripts.proof.mutation_fork import Ended, Limits, Loader, Run, codes, fork

type Chosen = Callable[[], Iterator[tuple[Mutant, Mapping[str, int]]]]


class Nursery:
    """Forks, once tests are collected, one process after the other, each with a fault of its own.

    Args:
        loader: of the module without a fault.
        tree: what `chosen` plants its faults into.
        chosen: gives mutants and the order of tests for each.
        at_import: the lines that were run before the first test.
        limits: of each.
    """

    def __init__(
        self,
        loader: Loader,
        tree: ast.Module,
        chosen: Chosen,
        at_import: set[int],
        limits: Limits,
    ) -> None:
        self.loader = loader
        self.report = -1
        self._tree = tree
        self._chosen = chosen
        self._at_import = at_import
        self._limits = limits

    def __call__(self, run: Run) -> bool:
        """Try what can be tried here; in a fork, says that tests are to be run."""
        if threading.active_count() > 1:
            return True  # a fork would be without them
        functions = _functions_of(self.loader.code)
        folder = Path.cwd()
        for mutant, order in self._chosen():
            swap = self._swap(mutant, functions)
            if swap is None:
                continue
            ended = fork(folder)
            if isinstance(ended, Path):
                self._limits.apply()
                run.order, run.last_word = order, ended
                old, new = swap
                for function in functions[id(old)]:
                    function.__code__ = new
                return False
            os.write(self.report, json.dumps(result_of(mutant, ended)).encode() + b"\n")
        return True

    def _swap(
        self, mutant: Mutant, functions: Mapping[int, list[FunctionType]]
    ) -> tuple[CodeType, CodeType] | None:
        """A function's code before and after; None if more is changed than what it does."""
        if any(line in self._at_import for line in mutant.lines):
            return None
        planted = Loader(self.loader.name, Path(self.loader.path), self._tree).code
        found = _outermost(self.loader.code, planted, mutant.place)
        if found is None:
            return None
        old, new = found
        inner = [each for each in codes(old) if each is not old]
        if (
            old == new
            or old.co_freevars != new.co_freevars
            or id(old) not in functions
            or any(id(each) in functions for each in inner)  # made before, of what was before
        ):
            return None
        return old, new


def result_of(mutant: Mutant, ended: Ended) -> dict[str, Any]:
    """What became of a mutant."""
    return {
        "mutant": str(mutant),
        "line": mutant.lines.start,
        "verdict": ended.verdict,
        "by": ended.said.get("failed", ""),
        "cpu_seconds": round(ended.cpu_seconds, 2),
    }


def _functions_of(code: CodeType) -> dict[int, list[FunctionType]]:
    """The functions made of each code within this one, by its id."""
    own = {id(each) for each in codes(code)}
    found: dict[int, list[FunctionType]] = {}
    for each in gc.get_objects():
        if isinstance(each, FunctionType) and id(each.__code__) in own:
            found.setdefault(id(each.__code__), []).append(each)
    return found


def _outermost(old: CodeType, new: CodeType, place: str) -> tuple[CodeType, CodeType] | None:
    """The outermost function at a place, such as `Class.method`, in two codes of a module."""
    for name in place.split("."):
        before, after = (
            [each for each in code.co_consts if inspect.iscode(each) and each.co_name == name]
            for code in (old, new)
        )
        if len(before) != 1 or len(after) != 1:
            return None
        old, new = before[0], after[0]
        if old.co_flags & inspect.CO_OPTIMIZED:  # a function's; a class's is not
            return old, new
    return None
