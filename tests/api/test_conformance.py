"""Made-up requests to every operation of the OpenAPI document: no 5xx, nothing it does not say.

Few to each in the suite; `scripts/test -m fuzz` sends tens of thousands.
"""

import asyncio
import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.core.failures import Failure
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from scripts.proof.fuzzing.tally import Tally, as_table
from storage.accounts import create_account
from storage.codes import issue_code
from storage.database import Database
from storage.sessions import create_session

CALLERS = ("anonymous", "session", "token")
CHECKS = (status_code_conformance, content_type_conformance)
# They end the session or the account that the others need: each example gets one of its own.
ENDING = {("DELETE", "/api/v1/auth/sessions/current"), ("DELETE", "/api/v1/account")}
SETTLED = {"authorization", "cookie", "origin"}

type Newcomer = tuple[dict[str, str], str]


@pytest.fixture
def caller(request, api, sign_in, write_logs, account_of) -> tuple[str, dict[str, str]]:
    """A kind of caller, and what one sends; the account has a log."""
    kind: str = request.param
    if kind == "anonymous":
        return kind, {}
    sign_in("conformance@example.com")
    write_logs(account_of(api), 3)
    if kind == "session":
        return kind, session_headers(api, api.cookies["metrion_session"])
    token = api.post("/api/v1/token/reveal").json()["token"]
    return kind, {"authorization": f"Bearer {token}"}


def session_headers(api: httpx.Client, secret: str) -> dict[str, str]:
    return {"origin": str(api.base_url).rstrip("/"), "cookie": f"metrion_session={secret}"}


@pytest.fixture
def newcomer(api, database) -> Iterator[Callable[[], Newcomer]]:
    """Makes somebody with a session: what they send, and the code that deletes their account."""
    as_api = Database(database.url("metrion_api"))
    numbers = itertools.count(1)

    async def make() -> Newcomer:
        email = f"newcomer{next(numbers)}@example.com"
        account = await create_account(as_api, database.keys, email)
        async with as_api.account(account.id) as connection:
            session = await create_session(connection, database.keys, account.id, None)
        async with as_api.system() as connection:
            code = (await issue_code(connection, database.keys, "deletion", email)).code
        return session_headers(api, session.secret), code

    with asyncio.Runner() as runner:
        yield lambda: runner.run(make())
        runner.run(as_api.close())


def operations(api: httpx.Client) -> Iterator[Any]:
    schema = schemathesis.openapi.from_dict(api.get("/api/openapi.json").json())
    return (found.ok() for found in schema.get_all_operations())


# the server is a thread of this process, and may draw a random number meanwhile
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@pytest.mark.parametrize("caller", CALLERS, indirect=True)
@pytest.mark.parametrize(
    "examples", [pytest.param(2, id="short"), pytest.param(130, id="long", marks=pytest.mark.fuzz)]
)
def test_every_answer_is_one_that_the_document_names(api, caller, newcomer, examples, table):
    kind, headers = caller
    tally = Tally(f"REST, {kind}", 0, 1)
    endings: dict[str, set[int]] = {}
    seen = 0
    for operation in operations(api):
        is_ending = (operation.method.upper(), operation.path) in ENDING
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            seen += 1
            fresh = newcomer if is_ending and kind == "session" else None
            statuses = try_operation(api, operation, (mode, examples), (headers, fresh), tally)
            if is_ending:
                endings.setdefault(operation.path, set()).update(statuses)
    tally.planned = tally.inputs
    tally.looks(os.getpid())
    table(as_table([tally]))
    assert seen > 60
    assert not tally.failures, "\n".join(tally.failures)
    if kind == "session":
        assert all(statuses & {202, 204} for statuses in endings.values()), endings


def try_operation(
    api: httpx.Client,
    operation: Any,
    how: tuple[GenerationMode, int],
    who: tuple[dict[str, str], Callable[[], Newcomer] | None],
    tally: Tally,
) -> set[int]:
    """Send as many requests as there are; returns the statuses of the answers."""
    (mode, examples), (usual, newcomer) = how, who
    statuses: set[int] = set()

    @hypothesis.settings(
        max_examples=examples,
        database=None,
        derandomize=True,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        headers, code = newcomer() if newcomer else (usual, "")
        api.cookies.clear()
        kept = {k: v for k, v in (case.headers or {}).items() if k.lower() not in SETTLED}
        case.headers, case.cookies = {**kept, **headers}, {}
        if code and mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
            case.body = {**case.body, "code": code}
        tally.inputs += 1
        answer = case.call(base_url=str(api.base_url), timeout=30)
        statuses.add(answer.status_code)
        if answer.status_code >= 500:
            tally.fail(
                "crash", f"{answer.status_code}: {answer.text[:200]}, {case.as_curl_command()}"
            )
            return
        try:
            case.validate_response(answer, checks=CHECKS)
        except (Failure, BaseExceptionGroup) as failure:
            tally.fail(
                "wrong", f"{answer.status_code}, {case.as_curl_command()}: {failure!r}"[:600]
            )

    # nothing can be wrong with a request that has no parts
    with contextlib.suppress(hypothesis.errors.Unsatisfiable):
        run()
    return statuses
