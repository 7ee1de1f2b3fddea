from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel

from api.errors import KINDS
from api.main import RESOURCES


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
    paths = {path.removeprefix("/api/v1/") for path in document["paths"]}
    assert paths == {
        *("/healthz", "/readyz", "/metrics", "meta"),
        *("auth/codes", "auth/sessions", "auth/sessions/current", "auth/sessions/{session_id}"),
        *("account", "account/deletion-codes", "account/export", "account/export/schema"),
        *("token", "token/reveal", "token/regenerate"),
        *("provider-keys", "provider-keys/{provider}"),
        *("logs", "logs.csv", "logs/{row_id}"),
        *("usage/overview", "usage/costs", "usage/latency", "usage/errors", "usage/requesters"),
        *("usage/filters", "usage/version"),
        *("alerts", "alerts/{rule_id}", "alerts/{rule_id}/test", "mailbox"),
        *("billing", "billing/checkout", "billing/portal", "billing/webhook"),
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


OPEN = {"health", "ready", "metrics", "meta", "request_code", "sign_in", "webhook", "export_schema"}
"""Who has not signed in yet, and machines, may call these."""


def test_the_key_only_reads_usage_and_logs(document: dict[str, Any]):
    for path, item in document["paths"].items():
        for method, operation in item.items():
            schemes = {name for each in operation.get("security", []) for name in each}
            if operation["operationId"] in OPEN:
                assert schemes == set()
            elif path.startswith(("/api/v1/usage/", "/api/v1/logs")):
                assert method == "get"
                assert schemes == {"Metrion Key", "Session"}
            else:
                assert schemes == {"Session"}, path
    assert document["components"]["securitySchemes"]["Metrion Key"]["scheme"] == "bearer"
    assert document["components"]["securitySchemes"]["Session"]["name"] == "metrion_session"


def test_what_changes_something_may_be_refused_as_cross_origin(document: dict[str, Any]):
    for item in document["paths"].values():
        for method, operation in item.items():
            assert ("403" in operation["responses"]) == (method != "get")
            assert "500" in operation["responses"]


def bodies() -> set[type[BaseModel]]:
    """The models of all requests and answers."""
    found = set[Any]()
    for resource in RESOURCES:
        for route in resource.router.routes:
            if isinstance(route, APIRoute) and route.include_in_schema:
                body = route.body_field
                found |= {route.response_model, body and body.field_info.annotation}
    return {model for model in found if model is not None}


def test_every_body_has_an_example_that_is_true():
    assert len(bodies()) > 6
    for model in bodies():
        schema = model.model_json_schema()
        examples = schema.get("examples", [])
        says_all = all("const" in each for each in schema.get("properties", {}).values())
        assert examples or says_all or is_made_of_explained(schema), model
        for example in examples:
            row = model.model_validate(example)
            assert set(example) == set(row.model_dump(exclude_unset=True)), model


def is_made_of_explained(schema: dict[str, Any]) -> bool:
    """Its fields are of models that have examples."""
    explained = {name for name, each in schema.get("$defs", {}).items() if "examples" in each}
    inner = {reference.rpartition("/")[2] for reference in references(schema["properties"])}
    return bool(inner & explained)


def test_every_field_is_explained(document: dict[str, Any]):
    for name, schema in document["components"]["schemas"].items():
        for place, field in schema.get("properties", {}).items():
            # a reference is explained where it leads
            assert field.get("description") or {"$ref", "const"} & set(field), f"{name}.{place}"


def test_the_document_is_made_once(app_alone: FastAPI):
    assert app_alone.openapi() is app_alone.openapi()
