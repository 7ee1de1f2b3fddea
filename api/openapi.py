"""The OpenAPI document: FastAPI's, with the problems as what they are."""

from typing import Any, cast

from fastapi import FastAPI

from api.errors import (
    KINDS,
    PROBLEM_TYPE,
    ApiError,
    CrossOriginError,
    InternalError,
    RequestTooLargeError,
)

_FIRST_ERROR = 400
_SAFE_METHODS = {"get", "head", "options"}


def describe_problems(app: FastAPI) -> None:
    """Let the app's document say the errors' media type, and explain every kind of problem.

    FastAPI describes all answers of a route with the media type of the good one. The kinds are in
    the extension `x-problems`, from which the documentation page makes its list.
    """
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = generate()
            for operations in document["paths"].values():
                for method, operation in operations.items():
                    _add_common_problems(method, operation)
                    _fix_errors(operation["responses"])
            document["x-problems"] = [
                {"kind": each.kind, "status": each.status, "title": each.title, "hint": each.hint}
                for each in KINDS
            ]
            app.openapi_schema = document
        return app.openapi_schema

    # FastAPI's documented way to change the document is to replace this method.
    cast("Any", app).openapi = openapi


def _add_common_problems(method: str, operation: dict[str, Any]) -> None:
    """Document what every route may answer, whatever it does."""
    common: list[type[ApiError]] = [InternalError]
    if method not in _SAFE_METHODS:
        common += [CrossOriginError, RequestTooLargeError]
    for error in common:
        status = str(int(error.status))
        known = operation["responses"].get(status, {"description": ""})["description"]
        operation["responses"][status] = {
            "description": f"{known} `{error.kind}`: {error.title}.".strip(),
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }


def _fix_errors(responses: dict[str, dict[str, Any]]) -> None:
    for status, response in responses.items():
        if int(status) >= _FIRST_ERROR:
            response["content"] = {PROBLEM_TYPE: response["content"]["application/json"]}
