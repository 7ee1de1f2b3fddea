"""Small faults, planted into a module one at a time: would its tests notice?

Why our own: mutmut 3 changes functions that have no decorator, and here an eighth of the statements
stands elsewhere, the weightiest among them: tables of headers, regular expressions, properties.
cosmic-ray changes everything, but starts a process per fault, and what these tests import takes six
seconds: three hours for what takes a quarter of one.

Left alone is what does no work: annotations, docstrings, sentences for people (a constant with a
space in it), what goes to a log (the call itself is a mutant).
"""

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

_COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
}
_OTHER_NAMES = {
    "min": "max",
    "max": "min",
    "any": "all",
    "all": "any",
    "ceil": "floor",
    "startswith": "endswith",
    "endswith": "startswith",
    "fullmatch": "match",
    "popleft": "pop",
    "find": "rfind",
    "rfind": "find",
    "partition": "rpartition",
    "rpartition": "partition",
}
_NORMALISING = {"strip", "lstrip", "rstrip", "lower", "upper"}
_NO_BEHAVIOUR = {"frozen", "slots"}  # of a dataclass: the type checker's business
_LOGS = {"_log", "logger", "log"}
_LONGEST_TEXT = 100


@dataclass(frozen=True, slots=True)
class Mutant:
    """One fault.

    Attributes:
        place: the function or class it is in; `module` outside of them.
        change: before and after, as source text.
        lines: where, for who looks which tests come by.
    """

    place: str
    change: str
    lines: range

    def __str__(self) -> str:
        return f"{self.place}: {self.change}"


def planted(tree: ast.Module) -> Iterator[Mutant]:
    """Change `tree` in one place after the other; it is changed while a mutant is at hand.

    Mutants that would be called the same are told apart by a number.
    """
    seen: dict[str, int] = {}
    for mutant in _inside(tree, "module", range(1, 2)):
        count = seen[str(mutant)] = seen.get(str(mutant), 0) + 1
        if count > 1:
            yield Mutant(mutant.place, f"{mutant.change} (#{count})", mutant.lines)
        else:
            yield mutant


def _inside(parent: ast.AST, place: str, lines: range) -> Iterator[Mutant]:
    for field, value in ast.iter_fields(parent):
        if _is_left_alone(parent, field):
            continue
        many = cast("list[object]", value) if isinstance(value, list) else [value]
        for index, child in enumerate(many):
            if not isinstance(child, ast.AST) or _is_idle(child):
                continue
            inner, where = _place(child, place), _lines(child, lines)
            for other in _changes(child, parent, field, inner):
                _put(parent, field, index if isinstance(value, list) else None, other)
                yield Mutant(inner, f"{_text(child)} → {_text(other)}", where)
                _put(parent, field, index if isinstance(value, list) else None, child)
            yield from _inside(child, inner, where)


def _put(parent: ast.AST, field: str, index: int | None, child: ast.AST) -> None:
    if index is None:
        setattr(parent, field, child)
    else:
        getattr(parent, field)[index] = child


def _place(child: ast.AST, place: str) -> str:
    if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return child.name if place == "module" else f"{place}.{child.name}"
    return place


def _lines(child: ast.AST, lines: range) -> range:
    if isinstance(child, ast.stmt | ast.ExceptHandler):
        return range(child.lineno, (child.end_lineno or child.lineno) + 1)
    return lines


def _text(node: ast.AST) -> str:
    text = "pass" if isinstance(node, ast.Pass) else " ".join(ast.unparse(node).split())
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"


# ---- what is left alone


def _is_left_alone(parent: ast.AST, field: str) -> bool:
    if field in {"annotation", "returns", "type_params", "format_spec", "bases"}:
        return True
    return isinstance(parent, ast.Call) and (
        _receiver(parent) in _LOGS
        or (isinstance(parent.func, ast.Name) and parent.func.id in {"cast", "TypeVar"})
        or (isinstance(parent.func, ast.Attribute) and parent.func.attr == "getLogger")
    )


def _receiver(call: ast.Call) -> str:
    """The name of what a method is called of: `_log` of `_log.error(…)`."""
    function = call.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        return function.value.id
    return ""


def _is_idle(node: ast.AST) -> bool:
    """It does nothing when the program runs: imports, types, docstrings, what a protocol says."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.TypeAlias():
            return True
        case ast.Expr(value=ast.Constant()) | ast.Subscript(value=ast.Name(id="Literal")):
            return True
        case ast.Assign(targets=[ast.Name(id="__all__" | "__slots__")]):
            return True
        case ast.ClassDef(bases=bases):
            return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in bases)
        case ast.keyword(arg=name):
            return name in _NO_BEHAVIOUR
        case _:
            return False


# ---- what is changed


def _changes(node: ast.AST, parent: ast.AST, field: str, place: str) -> Iterator[ast.AST]:
    if isinstance(node, ast.expr):
        for other in _other_expressions(node, parent, field):
            yield ast.fix_missing_locations(ast.copy_location(other, node))
    elif isinstance(node, ast.stmt):
        for other in _other_statements(node, place):
            yield ast.fix_missing_locations(ast.copy_location(other, node))
    elif isinstance(node, ast.ExceptHandler) and not _raises_again(node):
        other = ast.ExceptHandler(node.type, node.name, [ast.Raise()])
        yield ast.fix_missing_locations(ast.copy_location(other, node))


def _raises_again(node: ast.ExceptHandler) -> bool:
    first = node.body[0]
    return isinstance(first, ast.Raise) and first.exc is None


def _other_statements(node: ast.stmt, place: str) -> Iterator[ast.stmt]:
    match node:
        case ast.Return(value=value) if not _is_plain(value):
            yield ast.Return(ast.Constant(None))
        case ast.Raise() | ast.Assert() | ast.AugAssign() | ast.Delete():
            yield ast.Pass()
        case ast.Expr(value=ast.Call() | ast.Await()):
            yield ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript() | ast.Tuple()]) if (
            not place.endswith("__init__")
        ):
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()
        case ast.Continue():
            yield ast.Break()
        case _:
            pass


def _is_plain(node: ast.expr | None) -> bool:
    """Nothing, or what becomes something else as a constant: a bool."""
    return node is None or (
        isinstance(node, ast.Constant) and (node.value is None or isinstance(node.value, bool))
    )


def _other_expressions(node: ast.expr, parent: ast.AST, field: str) -> Iterator[ast.expr]:
    if field == "test" or (field == "ifs" and isinstance(parent, ast.comprehension)):
        yield from _other_conditions(node, parent)
    match node:
        case ast.Compare():
            yield from _other_comparisons(node)
        case ast.BoolOp(op=operator, values=values):
            for left_out in range(len(values)):
                kept = values[:left_out] + values[left_out + 1 :]
                yield ast.BoolOp(operator, kept) if len(kept) > 1 else kept[0]
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in _ARITHMETIC:
            yield ast.BinOp(left, _ARITHMETIC[type(operator)](), right)
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant():
            yield from _other_constants(node, parent)
        case ast.Call():
            yield from _other_calls(node)
        case ast.Subscript():
            yield from _other_slices(node)
        case _:
            pass


def _other_comparisons(node: ast.Compare) -> Iterator[ast.expr]:
    """Where it holds one more or less, and where it does not hold; of `a < b < c` the first."""
    for index, operator in enumerate(node.ops):
        for other in _COMPARISONS[type(operator)][: 1 if len(node.ops) > 1 else 2]:
            operators = list(node.ops)
            operators[index] = other()
            yield ast.Compare(node.left, operators, node.comparators)


def _other_slices(node: ast.Subscript) -> Iterator[ast.expr]:
    """Without its beginning, or without its end."""
    for bound in ("lower", "upper"):
        if getattr(node.slice, bound, None) is not None:
            wider = copy.copy(node.slice)
            setattr(wider, bound, None)
            yield ast.Subscript(node.value, wider, node.ctx)


def _other_conditions(node: ast.expr, parent: ast.AST) -> Iterator[ast.expr]:
    """A condition turned round; a loop that is not begun; a choice that is not made."""
    if isinstance(parent, ast.While):
        yield ast.Constant(value=False)
    elif isinstance(parent, ast.comprehension):
        yield ast.Constant(value=True)
    elif not (
        isinstance(node, ast.Compare) or (isinstance(node, ast.UnaryOp) and _negates(node.op))
    ):
        yield ast.UnaryOp(ast.Not(), node)


def _negates(operator: ast.unaryop) -> bool:
    return isinstance(operator, ast.Not)


def _other_constants(node: ast.Constant, parent: ast.AST) -> Iterator[ast.expr]:
    if isinstance(parent, ast.JoinedStr):
        return
    match node.value:
        case bool(value):
            yield ast.Constant(not value)
        case int(value) | float(value):
            yield ast.Constant(value + 1)
        case str(value) if not _is_for_people(value) or _is_pattern(parent):
            yield ast.Constant(f"XX{value}")
        case bytes(value):
            yield ast.Constant(b"XX" + value)
        case _:
            pass


def _is_for_people(text: str) -> bool:
    """A sentence, or what may be a plural's `s` in one."""
    return " " in text or text in {"", "s"}


def _is_pattern(parent: ast.AST) -> bool:
    """It is given to `re.compile`."""
    return (
        isinstance(parent, ast.Call)
        and isinstance(parent.func, ast.Attribute)
        and parent.func.attr == "compile"
    )


def _other_calls(node: ast.Call) -> Iterator[ast.expr]:
    if _receiver(node) in _LOGS:
        return
    for index, keyword in enumerate(node.keywords):
        if keyword.arg is not None and keyword.arg not in _NO_BEHAVIOUR:
            others = node.keywords[:index] + node.keywords[index + 1 :]
            yield ast.Call(node.func, node.args, others)
    match node.func:
        case ast.Name(id=name) if name in _OTHER_NAMES:
            yield ast.Call(ast.Name(_OTHER_NAMES[name], ast.Load()), node.args, node.keywords)
        case ast.Attribute(value=value, attr=name) if name in _OTHER_NAMES:
            other = ast.Attribute(value, _OTHER_NAMES[name], ast.Load())
            yield ast.Call(other, node.args, node.keywords)
        case ast.Attribute(value=value, attr=name) if name in _NORMALISING and not node.args:
            yield value
        case _:
            pass
