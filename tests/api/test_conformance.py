"""Made-up requests to every operation of the OpenAPI document: no 5xx, nothing it does not say.

Few to each in the suite; `CONFORMANCE_EXAMPLES=200` makes it a long run.
"""

import os
from collections.abc import Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.core.failures import Failure
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

EXAMPLES = int(os.environ.get("CONFORMANCE_EXAMPLES", "2"))
CALLERS = ("anonymous", "session", "token")
CHECKS = (status_code_conformance, content_type_conformance)
# They end the session or the account that the others need; each has tests of its own.
ENDING = {("DELETE", "/api/v1/auth/sessions/current"), ("DELETE", "/api/v1/account")}


@pytest.fixture
def headers(request, api, sign_in, write_logs, account_of) -> dict[str, str]:
    """What a caller of each kind sends; the account has a log."""
    if request.param == "anonymous":
        return {}
    sign_in("conformance@example.com")
    write_logs(account_of(api), 3)
    origin = {"origin": str(api.base_url).rstrip("/")}
    if request.param == "session":
        return origin | {"cookie": f"metrion_session={api.cookies['metrion_session']}"}
    token = api.post("/api/v1/token/reveal").json()["token"]
    return {"authorization": f"Bearer {token}"}


def operations(api: httpx.Client) -> Iterator[Any]:
    schema = schemathesis.openapi.from_dict(api.get("/api/openapi.json").json())
    for found in schema.get_all_operations():
        operation = found.ok()
        if (operation.method.upper(), operation.path) not in ENDING:
            yield operation


# the server is a thread of this process, and may draw a random number meanwhile
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@pytest.mark.parametrize("headers", CALLERS, indirect=True)
def test_every_answer_is_one_that_the_document_names(api, headers):
    wrong: dict[str, str] = {}
    seen = 0
    for operation in operations(api):
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            seen += 1
            try_operation(api, operation, mode, headers, wrong)
    assert seen > 60
    assert wrong == {}


def try_operation(
    api: httpx.Client, operation: Any, mode: Any, headers: dict[str, str], wrong: dict[str, str]
) -> None:
    name = f"{operation.method.upper()} {operation.path}"

    @hypothesis.settings(
        max_examples=EXAMPLES,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        api.cookies.clear()
        kept = {k: v for k, v in (case.headers or {}).items() if k.lower() not in SETTLED}
        case.headers, case.cookies = {**kept, **headers}, {}
        answer = case.call(base_url=str(api.base_url), timeout=30)
        if answer.status_code >= 500:
            wrong[name] = f"{answer.status_code}: {answer.text[:200]} for {case.as_curl_command()}"
            return
        try:
            case.validate_response(answer, checks=CHECKS)
        except (Failure, BaseExceptionGroup) as failure:
            wrong[name] = f"{answer.status_code} for {case.as_curl_command()}: {failure!r}"[:600]

    try:
        run()
    except hypothesis.errors.Unsatisfiable:
        return  # nothing can be wrong with a request that has no parts


SETTLED = {"authorization", "cookie", "origin"}
