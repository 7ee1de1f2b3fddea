"""The API on a real socket, with or without a database behind it."""

import contextlib
import threading
import time
import uuid
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_string
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from api.main import create_app
from scripts.fake_stripe import FakeStripe, Server
from scripts.serve_api import listen
from storage.accounts import create_account
from storage.database import Database
from storage.identifiers import uuid7
from storage.ingest import LogWriter
from storage.sealing import MasterKeys
from storage.settings import Settings


@dataclass(frozen=True)
class Account:
    """An account as a test needs it."""

    id: uuid.UUID
    token: str
    headers: dict[str, str]


@contextlib.contextmanager
def serving(app: FastAPI) -> Generator[httpx.Client]:
    """Serve an app on a free port, and give a client for it."""
    listener = listen("127.0.0.1", 0)
    config = uvicorn.Config(app, loop="asyncio", log_config=None, access_log=False, lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    host, port = listener.getsockname()
    try:
        # plain HTTP: no need to load certificates for each test
        with httpx.Client(base_url=f"http://{host}:{port}", timeout=20, verify=False) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@pytest.fixture
def serve() -> Callable[[FastAPI], contextlib.AbstractContextManager[httpx.Client]]:
    """A context manager that serves an app which a test has changed."""
    return serving


@pytest.fixture(scope="session")
def settings_alone(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings whose database nobody answers for."""
    folder: Path = tmp_path_factory.mktemp("api")
    settings = Settings(
        data_dir=folder, database_url="postgresql://metrion_api:none@127.0.0.1:1/none"
    )
    MasterKeys.create(settings.master_key_path)
    return settings


@pytest.fixture
def app_alone(settings_alone: Settings) -> FastAPI:
    """An app whose database is down, to add routes to."""
    return create_app(settings_alone)


@pytest.fixture(scope="session")
def document(settings_alone: Settings) -> dict[str, Any]:
    """The API's OpenAPI document."""
    return create_app(settings_alone).openapi()


@pytest.fixture(scope="session")
def api_alone(settings_alone: Settings) -> Iterator[httpx.Client]:
    """A client for an API whose database is down."""
    with serving(create_app(settings_alone)) as client:
        yield client


@pytest.fixture
def api(database) -> Iterator[httpx.Client]:
    """A client for an API on a fresh database."""
    with serving(create_app(database.settings)) as client:
        yield client


@pytest.fixture
def fake_stripe() -> Iterator[FakeStripe]:
    """A Stripe on loopback."""
    fake = FakeStripe()
    server = Server(fake)
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture
def paid_settings(database, fake_stripe) -> Settings:
    """The settings of a Metrion that takes payments."""
    return database.settings.model_copy(
        update={
            "stripe_secret_key": SecretStr("sk_test_of_metrion"),
            "stripe_webhook_secret": SecretStr("whsec_of_metrion"),
            "stripe_price_id": "price_pro",
            "stripe_api_base": fake_stripe.url,
        }
    )


@pytest.fixture
def paid_api(paid_settings) -> Iterator[httpx.Client]:
    """A client for an API that takes payments."""
    with serving(create_app(paid_settings)) as client:
        yield client


@pytest.fixture
async def new_account(database) -> Any:
    """A function that makes accounts."""

    async def make(email: str, plan: str = "free") -> Account:
        as_api = Database(database.url("metrion_api"))
        try:
            made = await create_account(as_api, database.keys, email, plan)
        finally:
            await as_api.close()
        return Account(made.id, made.token, {"authorization": f"Bearer {made.token}"})

    return make


def codes_sent(settings: Settings, email: str) -> list[str]:
    """The codes in the mails to an address, the newest last."""
    found: list[str] = []
    for path in sorted((settings.data_dir / "mail").glob("*.eml")):
        mail = message_from_string(path.read_text())
        if mail["To"] == email:
            found.append(mail["Subject"][:6])
    return found


@pytest.fixture
def read_code(database) -> Callable[..., str]:
    """A function that waits for a mail to an address (or the number-th) and returns its code."""

    def read(email: str, number: int = 1) -> str:
        deadline = time.monotonic() + 20
        while len(codes := codes_sent(database.settings, email)) < number:
            assert time.monotonic() < deadline, f"no mail to {email}"
            time.sleep(0.01)
        return codes[-1]

    return read


@pytest.fixture
def sign_in(api, database, read_code) -> Callable[..., None]:
    """A function that signs the client (or another one) in, as a person would."""

    def enter(email: str, client: httpx.Client = api) -> None:
        before = len(codes_sent(database.settings, email))
        sent = client.post("/api/v1/auth/codes", json={"email": email})
        assert sent.status_code == 202, sent.text
        credentials = {"email": email, "code": read_code(email, before + 1)}
        done = client.post("/api/v1/auth/sessions", json=credentials)
        assert done.status_code == 201, done.text

    return enter


@pytest.fixture
def account_of() -> Callable[[httpx.Client], Account]:
    """A function that returns the account that a client is signed in as."""

    def find(client: httpx.Client) -> Account:
        return Account(uuid.UUID(client.get("/api/v1/account").json()["id"]), "", {})

    return find


@pytest.fixture
def write_logs(database) -> Callable[..., list[dict[str, Any]]]:
    """A function that records requests of an account, the first the oldest; returns the rows."""

    def write(account: Account, count: int = 1, **values: Any) -> list[dict[str, Any]]:
        rows = [log_row(account, **values) for _ in range(count)]
        writer = LogWriter(database.url("metrion_proxy"))
        try:
            assert writer.write(rows) == count
        finally:
            writer.close()
        return rows

    return write


def log_row(account: Account, **values: Any) -> dict[str, Any]:
    """A row as the recorder writes it."""
    row = {
        "id": str(uuid7()),
        "account_id": str(account.id),
        "created_at": datetime.now(UTC).isoformat(),
        "provider": "openai",
        "endpoint": "chat/completions",
        "model": "gpt-4o-mini-2024-07-18",
        "requester": "checkout-bot",
        "mode": "stored",
        "status": 200,
        "outcome": "ok",
        "streamed": True,
        "cached": False,
        "input_tokens": 1200,
        "cache_read_tokens": 1024,
        "cache_write_tokens": 0,
        "output_tokens": 86,
        "reasoning_tokens": 0,
        "total_tokens": 1286,
        "cost_usd": "0.000155123456",
        "price_source": "genai-prices",
        "latency_ms": 912.5,
        "ttfb_ms": 301.25,
        "overhead_ms": 0.5,
        "error": None,
        "left_out": 0,
    }
    return row | values
