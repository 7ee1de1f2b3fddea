from typing import Any

import pytest
from fastapi import FastAPI

from api.errors import KINDS
from api.routes.logs import LogPage, LogRow
from api.routes.meta import Meta


@pytest.fixture
def document(app_alone: FastAPI) -> dict[str, Any]:
    return app_alone.openapi()


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for item in document["paths"].values() for operation in item.values()]


def references(value: Any) -> set[str]:
    """All `$ref` in a document."""
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set[str]()
        return own.union(*(references(each) for each in value.values()))
    if isinstance(value, list):
        return set[str]().union(*(references(each) for each in value))
    return set()


def test_these_are_the_paths(document: dict[str, Any]):
    assert set(document["paths"]) == {
        "/api/v1/logs",
        "/api/v1/meta",
        "/healthz",
        "/readyz",
        "/metrics",
    }


def test_every_operation_can_be_understood(document: dict[str, Any]):
    names = [operation["operationId"] for operation in operations(document)]
    assert len(names) == len(set(names))
    for operation in operations(document):
        assert operation["summary"]
        assert operation["description"]
        assert operation["tags"]
        for parameter in operation.get("parameters", []):
            assert parameter["description"]


def test_every_reference_leads_somewhere(document: dict[str, Any]):
    for reference in references(document):
        place = document
        for key in reference.removeprefix("#/").split("/"):
            place = place[key]
        assert place


def test_errors_are_problem_documents(document: dict[str, Any]):
    for operation in operations(document):
        for status, response in operation["responses"].items():
            if int(status) >= 400:
                assert list(response["content"]) == ["application/problem+json"]
    assert "HTTPValidationError" not in document["components"]["schemas"]
    kinds = {each["kind"]: each["status"] for each in document["x-problems"]}
    assert kinds == {each.kind: each.status for each in KINDS}


def test_only_the_log_needs_the_key(document: dict[str, Any]):
    secured = [each["operationId"] for each in operations(document) if "security" in each]
    assert secured == ["logs"]
    assert document["components"]["securitySchemes"]["Metrion Key"]["scheme"] == "bearer"


@pytest.mark.parametrize("model", [LogRow, Meta])
def test_examples_are_true(document: dict[str, Any], model: type[Any]):
    examples = model.model_json_schema()["examples"]
    assert examples
    for example in examples:
        row = model.model_validate(example)
        assert set(example) == set(row.model_dump())


def test_every_field_is_explained(document: dict[str, Any]):
    for model in (LogRow, LogPage, Meta):
        for name, field in model.model_json_schema()["properties"].items():
            assert field.get("description"), name


def test_the_document_is_made_once(app_alone: FastAPI):
    assert app_alone.openapi() is app_alone.openapi()
