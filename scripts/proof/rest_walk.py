"""Requests to every operation of the REST API, with a secret in each place that it has.

Made from the API's own OpenAPI document, so that a new operation is asked by itself.
"""

import itertools
import json
from collections.abc import Collection, Generator, Sequence
from typing import Any, Final, cast
from urllib.parse import quote, urlencode

from scripts.proof.canary_requests import Ask

_JSON: Final = {"content-type": "application/json"}
_KNOWN: Final = {"provider": "openai"}
_NOBODY: Final = "01994f3b-7c2e-7d10-9f60-2b1c33a0f7aa"


def rest_walk(
    document: dict[str, Any], secrets: Sequence[str], left_out: Collection[tuple[str, str]] = ()
) -> Generator[Ask]:
    """Ask each operation several times: in its path, its query, its fields, as no JSON at all.

    Args:
        document: the OpenAPI document.
        secrets: one after the other.
        left_out: method and path of operations that would end what the others need.
    """
    turns = itertools.cycle(secrets)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if (method.upper(), path) not in left_out:
                yield from _asks(document, method.upper(), path, operation, next(turns))


def _asks(
    document: dict[str, Any], method: str, path: str, operation: dict[str, Any], secret: str
) -> Generator[Ask]:
    parameters: list[dict[str, Any]] = operation.get("parameters", [])
    in_path = {each["name"] for each in parameters if each["in"] == "path"}
    in_query = [each["name"] for each in parameters if each["in"] == "query"]
    right = path.format(**{name: _KNOWN.get(name, _NOBODY) for name in in_path})
    query = urlencode(dict.fromkeys([*in_query, "a", "token"], secret))
    yield Ask(f"{method} {path}: in the query", method, f"{right}?{query}", {}, b"")
    if in_path:
        wrong = path.format(**dict.fromkeys(in_path, quote(secret, safe="")))
        yield Ask(f"{method} {path}: in the path", method, wrong, {}, b"")
    for name in in_query:  # one at a time: else only the first is complained of
        one = urlencode({name: secret})
        yield Ask(f"{method} {path}: as {name}", method, f"{right}?{one}", {}, b"")
    if "requestBody" in operation:
        fields = _fields(document, operation)
        for what, body in {
            "in the fields": json.dumps(dict.fromkeys(fields, secret)),
            "in a list": json.dumps({name: [secret] for name in fields}),
            "as a field": json.dumps({secret: secret}),
            "not JSON": f'{{"a": {secret}',
        }.items():
            yield Ask(f"{method} {path}: {what}", method, right, _JSON, body.encode())


def _fields(document: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    """Return the names of all fields that a body may have, whichever of several it is."""
    found: list[str] = []
    waiting: list[object] = [operation["requestBody"]]
    while waiting:
        schema = waiting.pop()
        if isinstance(schema, list):
            waiting += cast("list[object]", schema)
        elif isinstance(schema, dict):
            parts = cast("dict[str, Any]", schema)
            if reference := parts.get("$ref"):
                waiting.append(document["components"]["schemas"][reference.rpartition("/")[2]])
            found += parts.get("properties", {})
            waiting += parts.values()
    return list(dict.fromkeys(found))
