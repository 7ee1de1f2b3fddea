import logging
from http import HTTPStatus

import httpx
import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException

from api import errors
from api.alert_models import RuleChange
from api.errors import KINDS, ApiError, InvalidRequestError, InvalidTokenError, documented
from storage.errors import AlreadyExists, DatabaseUnavailable, InvalidValue, NotFound, PlanRequired

SECRET = "sk-live-do-not-show"


def problem_of(answer: httpx.Response) -> dict[str, object]:
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["request_id"] == answer.headers["x-metrion-request-id"]
    return problem


def test_a_path_that_is_not_there(api_alone: httpx.Client):
    problem = problem_of(api_alone.get(f"/api/v1/{SECRET}?key={SECRET}"))
    assert problem["type"] == "/api/docs#problem-not-found"
    assert problem["code"] == "not_found"
    assert SECRET not in str(problem)


def test_a_method_that_is_not_there(api_alone: httpx.Client):
    answer = api_alone.delete("/api/v1/meta")
    assert problem_of(answer)["type"] == "/api/docs#problem-method-not-allowed"
    assert answer.headers["allow"] == "GET"


@pytest.mark.parametrize("path", ["/api/v1/meta/", "/healthz/", "/healthz/x"])
def test_nothing_is_redirected(api_alone: httpx.Client, path: str):
    assert problem_of(api_alone.get(path))["status"] == 404


@pytest.mark.parametrize(
    ("name", "shown"), [("treshold", "treshold"), ("AIza0123456789", "…"), ("123456", "…")]
)
def test_a_field_that_does_not_exist_is_named_if_it_is_no_secret(
    app_alone: FastAPI, serve, name: str, shown: str
):
    @app_alone.post("/strict")
    async def take(body: RuleChange) -> None:
        """Nothing."""

    with serve(app_alone) as client:
        problem = problem_of(client.post("/strict", json={name: name}))
    assert [each["place"] for each in problem["errors"]] == [f"body.{shown}"]


@pytest.mark.parametrize(
    ("error", "status", "detail"),
    [
        (InvalidTokenError("Look here."), 401, "Look here."),
        (NotFound("there is no such rule"), 404, "There is no such rule."),
        (AlreadyExists("there is one already"), 409, "There is one already."),
        (InvalidValue("a plan is one of: free, pro"), 422, "A plan is one of: free, pro."),
        (PlanRequired("pro does. Switch", "pro"), 403, "Pro does. Switch."),
        (DatabaseUnavailable(SECRET), 503, "The database does not answer; try again in a moment."),
        (HTTPException(418, SECRET), 418, "Compare the request with the API documentation."),
    ],
)
def test_every_error_becomes_a_problem(
    app_alone: FastAPI, serve, error: Exception, status: int, detail: str
):
    @app_alone.get("/raise")
    async def fail() -> None:
        raise error

    with serve(app_alone) as client:
        problem = problem_of(client.get("/raise"))
    assert (problem["status"], problem["detail"]) == (status, detail)


def test_a_bug_says_nothing_of_itself(app_alone: FastAPI, serve, caplog: pytest.LogCaptureFixture):
    @app_alone.get("/raise")
    async def fail() -> None:
        raise RuntimeError(SECRET)

    with serve(app_alone) as client, caplog.at_level(logging.INFO):
        answer = client.get("/raise")
        again = client.get("/healthz")
    problem = problem_of(answer)
    assert (problem["status"], problem["type"]) == (500, "/api/docs#problem-internal")
    assert SECRET not in answer.text
    assert answer.headers["content-security-policy"]
    assert again.status_code == 200
    (record,) = [each for each in caplog.records if each.message == "unhandled"]
    assert record.__dict__["exception"] == "RuntimeError"
    assert record.__dict__["request_id"] == problem["request_id"]
    assert "test_errors.py" in record.__dict__["where"][-1]
    assert SECRET not in caplog.text


def test_every_kind_is_listed_and_explained():
    leaves = {each for each in vars(errors).values() if isinstance(each, type)}
    kinds = {each for each in leaves if issubclass(each, ApiError)}
    assert kinds - {ApiError, errors.OtherError} == set(KINDS)
    assert len({each.kind for each in KINDS}) == len(KINDS)
    for each in KINDS:
        assert each.hint.endswith(".")
        assert each.status >= HTTPStatus.BAD_REQUEST


def test_problems_of_one_status_are_documented_together():
    responses = documented(errors.MissingTokenError, InvalidTokenError, InvalidRequestError)
    assert set(responses) == {401, 422}
    assert "`missing-token`" in responses[401]["description"]
    assert "`invalid-token`" in responses[401]["description"]
