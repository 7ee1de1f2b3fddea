"""Made-up requests to every operation of the OpenAPI document: no 5xx, nothing it does not say.

Few to each in the suite; `scripts/test -m fuzz` goes round all of them until the time is over, and
the API is a process of its own then. `FUZZ_SEED` says which requests are made up. Those that count
as forwarded in the table are those that were answered with what was asked for.
"""

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import hypothesis
import pytest
import requests
import schemathesis
from fastapi import Request
from fastapi.responses import JSONResponse
from schemathesis import GenerationMode
from schemathesis.core.failures import Failure
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from api.main import create_app
from scripts.child_environment import base_environment
from scripts.ports import HOST, claim_port
from scripts.proof.fuzzing.error_log import errors_in
from scripts.proof.fuzzing.tally import Tally, as_table
from storage import roles
from storage.accounts import create_account
from storage.codes import issue_code
from storage.database import Database
from storage.sessions import create_session

CALLERS = ("anonymous", "session", "token")
CHECKS = (status_code_conformance, content_type_conformance)
# They end the session or the account that the others need: each example gets one of its own.
ENDING = {("DELETE", "/api/v1/auth/sessions/current"), ("DELETE", "/api/v1/account")}
# They take a second each, until no proxy knows the token any more: a few each time will do.
SLOW = {("POST", "/api/v1/token/regenerate"), ("DELETE", "/api/v1/account")}
SLOW_EXAMPLES = 2
SETTLED = {"authorization", "cookie", "origin"}
SEED = int(os.environ.get("FUZZ_SEED", "12"))
LONG_SECONDS = 150.0
START_SECONDS = 60

type Newcomer = tuple[dict[str, str], str]


class Served(NamedTuple):
    """An API that is up, and the process that it is in."""

    client: httpx.Client
    pid: int


@pytest.fixture
def served(request, database, serve, tmp_path) -> Iterator[Served]:
    """An API on a fresh database: in this process, or for long in one of its own."""
    if request.node.get_closest_marker("fuzz") is None:
        with serve(create_app(database.settings)) as client:
            yield Served(client, os.getpid())
        return
    environment = {
        **base_environment(),
        "METRION_DATA_DIR": str(database.settings.data_dir),
        "METRION_DATABASE_URL": database.url(roles.API).get_secret_value(),
    }
    port = claim_port(0, "")
    command = [sys.executable, "-P", "-m", "scripts.serve_api", "--port", str(port)]
    errors: Path = tmp_path / "errors.txt"
    with (
        errors.open("wb") as file,
        subprocess.Popen(command, env=environment, stderr=file) as process,
        httpx.Client(base_url=f"http://{HOST}:{port}", timeout=20, verify=False) as client,
    ):
        try:
            wait_for(client)
            yield Served(client, process.pid)
            process.send_signal(signal.SIGTERM)
            assert process.wait(START_SECONDS) == 0
        finally:
            process.kill()
    assert errors_in(errors.read_text()) == []


def wait_for(client: httpx.Client) -> None:
    """Wait until it answers."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        with contextlib.suppress(httpx.TransportError):
            client.get("/healthz")
            return
        time.sleep(0.1)
    pytest.fail("the API did not come up")


@pytest.fixture
def api(served) -> httpx.Client:
    """A client for the API, as all its tests have one."""
    return served.client


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


class Try(NamedTuple):
    """Requests of one kind to an operation: such as it asks for, or such as it must refuse."""

    operation: Any
    mode: GenerationMode
    strategy: Any
    examples: int  # each time

    @property
    def name(self) -> tuple[str, str]:
        return self.operation.method.upper(), self.operation.path

    @property
    def most(self) -> int:
        return min(self.examples, SLOW_EXAMPLES) if self.name in SLOW else self.examples


def all_tries(api: httpx.Client, examples: int) -> list[Try]:
    schema = schemathesis.openapi.from_dict(api.get("/api/openapi.json").json())
    operations = [found.ok() for found in schema.get_all_operations()]
    return [
        Try(operation, mode, operation.as_strategy(generation_mode=mode), examples)
        for operation in operations
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    ]


def rounds(tries: list[Try], seconds: float) -> Iterator[tuple[int, float, Try]]:
    """Each of them once, then again and again; the seed, and the share of the time that is over."""
    began = time.monotonic()
    for seed in itertools.count(SEED):
        for each in tries:
            gone = time.monotonic() - began
            if seed > SEED and gone >= seconds:
                return
            yield seed, gone / seconds if seconds else 0.0, each


# the server is a thread of this process, and may draw a random number meanwhile
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
@pytest.mark.parametrize("caller", CALLERS, indirect=True)
@pytest.mark.parametrize(
    ("examples", "seconds"),
    [
        pytest.param(2, 0.0, id="short"),
        pytest.param(10, LONG_SECONDS, id="long", marks=pytest.mark.fuzz),
    ],
)
def test_every_answer_is_one_that_the_document_names(
    served, caller, newcomer, examples, seconds, table
):
    kind, headers = caller
    tally = Tally(f"REST, {kind}", SEED, 1)
    endings: dict[str, set[int]] = {}
    tries = all_tries(served.client, examples)
    for seed, done, each in rounds(tries, seconds):
        fresh = newcomer if each.name in ENDING and kind == "session" else None
        statuses = send(served.client, each, seed, (headers, fresh), tally)
        if each.name in ENDING:
            endings.setdefault(each.operation.path, set()).update(statuses)
        tally.looks(served.pid, done)
    tally.planned = tally.inputs
    tally.looks(served.pid)
    tally.check_growth()
    table(as_table([tally]))
    assert len(tries) > 60
    assert not tally.failures, "\n".join(tally.failures)
    if kind == "session":
        assert tally.forwarded > tally.inputs // 10
        assert all(statuses & {202, 204} for statuses in endings.values()), endings


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
def test_an_answer_that_the_document_does_not_name_is_seen(app_alone, serve):
    answers = {"/api/v1/teapot": 418, "/api/v1/broken": 500, "/api/v1/well": 200}

    async def answering(request: Request) -> JSONResponse:
        return JSONResponse({}, answers[request.url.path])

    for path in answers:
        app_alone.get(path, name=path)(answering)
    found: dict[str, set[str]] = {}
    with serve(app_alone) as client:
        for each in all_tries(client, 1):
            if each.operation.path in answers:
                tally = Tally("REST", SEED, 1)
                send(client, each, SEED, ({}, None), tally)
                found.setdefault(each.operation.path, set()).update(tally.faults)
    assert list(found.values()) == [{"wrong"}, {"crash"}, set()]


def send(
    api: httpx.Client,
    tried: Try,
    seed: int,
    who: tuple[dict[str, str], Callable[[], Newcomer] | None],
    tally: Tally,
) -> set[int]:
    """Send some requests; returns the statuses of the answers."""
    usual, newcomer = who
    statuses: set[int] = set()

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=tried.most,
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=tried.strategy)
    def run(case: Any) -> None:
        headers, code = newcomer() if newcomer else (usual, "")
        api.cookies.clear()
        kept = {k: v for k, v in (case.headers or {}).items() if k.lower() not in SETTLED}
        case.headers, case.cookies = {**kept, **headers}, {}
        if code and tried.mode is GenerationMode.POSITIVE and isinstance(case.body, dict):
            case.body = {**case.body, "code": code}
        tally.inputs += 1
        try:
            answer = case.call(base_url=str(api.base_url), timeout=30)
        except requests.RequestException as error:
            fault = "hang" if isinstance(error, requests.Timeout) else "crash"
            tally.fail(fault, f"{error!r}: {case.as_curl_command()}")
            return
        statuses.add(answer.status_code)
        tally.forwarded += 200 <= answer.status_code < 300
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
