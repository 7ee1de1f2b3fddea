"""API and proxy behind pgbouncer in transaction mode, where it is installed; else without it."""

import asyncio
import json
import os
import pwd
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from pydantic import SecretStr

from scripts.fake_provider import FakeProvider
from scripts.ports import claim_port
from storage import accounts, embedded_process, keys, roles
from storage.accounts import NewAccount
from storage.database import Database
from storage.embedded_process import Identity

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.defpath}:/usr/sbin:/usr/local/sbin")
PATH = "/api/proxy/openai/v1/chat/completions"
BODY = {"model": "gpt-5", "messages": [{"role": "user", "content": "Hello"}]}
REQUESTS = 20
# Fewer connections than the services open between them: transactions really take turns.
POOL_SIZE = 2

CONFIGURATION = """
[databases]
* = host={host} port={port}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
pool_mode = transaction
default_pool_size = {pool_size}
auth_type = scram-sha-256
auth_file = {folder}/users.txt
logfile = {folder}/pgbouncer.log
"""


def start_pgbouncer(program: Path, folder: Path, database: Any) -> tuple[int, int]:
    """Start it in front of the database's server; gives its process and its port."""
    server = conninfo_to_dict(database.administrator_url.get_secret_value())
    port = claim_port(0, "")
    (folder / "users.txt").write_text(
        "".join(f'"{role}" "{password_of(role, database)}"\n' for role in roles.LOGIN_ROLES)
    )
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(
        CONFIGURATION.format(
            host=server["host"],
            port=server.get("port", 5432),
            listen_port=port,
            pool_size=POOL_SIZE,
            folder=folder,
        )
    )
    identity = Identity()
    if os.geteuid() == 0:  # it refuses to run as root, as PostgreSQL does: the same way out
        identity = Identity(namespace=pwd.getpwnam("nobody").pw_uid)
    with pytest.MonkeyPatch.context() as patch, (folder / "said.txt").open("wb") as said:
        patch.setattr(embedded_process, "programs", lambda: program.parent)
        process = embedded_process.spawn(
            program.name,
            str(configuration),
            identity=identity,
            folder=folder,
            log=said,
            death_signal=signal.SIGKILL,
        )
    return process, port


def password_of(role: str, database: Any) -> str:
    return roles.read_password(roles.roles_folder(database.settings), role)


@pytest.fixture(scope="module")
def pooled(
    postgres: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, Callable[[str], SecretStr]]]:
    """A database, and the address of a role behind the pooler."""
    folder = tmp_path_factory.mktemp("pooler")
    with postgres.fresh_database(tmp_path_factory.mktemp("pooled")) as database:
        if PGBOUNCER is None:
            yield database, database.url
            return
        process, port = start_pgbouncer(Path(PGBOUNCER), folder, database)
        name = conninfo_to_dict(database.administrator_url.get_secret_value())["dbname"]

        def url(role: str) -> SecretStr:
            password = quote(password_of(role, database), safe="")
            return SecretStr(f"postgresql://{role}:{password}@127.0.0.1:{port}/{name}")

        try:
            wait_for(url(roles.API), folder)
            yield database, url
        finally:
            os.kill(process, signal.SIGTERM)
            os.waitpid(process, 0)


def wait_for(url: SecretStr, folder: Path) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            psycopg.connect(url.get_secret_value()).close()
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, (folder / "said.txt").read_text()
            time.sleep(0.05)
        else:
            return


async def make_account(database: Any, url: SecretStr) -> NewAccount:
    api = Database(url)
    account = await accounts.create_account(api, database.keys, "ada@example.org", "pro")
    async with api.account(account.id) as connection:
        await keys.set_key(
            connection, database.keys, account.id, "openai", "sk-real-0123456789abcdef"
        )
    await api.close()
    return account


async def regenerate(database: Any, url: SecretStr, account: NewAccount) -> str:
    api = Database(url)
    async with api.account(account.id) as connection:
        token = await accounts.regenerate_token(connection, database.keys, account.id)
    await api.close()
    return token


def test_requests_rows_and_revocation_through_a_pooler(
    pooled: tuple[Any, Callable[[str], SecretStr]],
    start_service: Callable[..., str],
    fake_provider: FakeProvider,
    eventually: Callable[..., Any],
) -> None:
    database, url = pooled
    account = asyncio.run(make_account(database, url(roles.API)))
    settings = {"METRION_MASTER_KEY_FILE": str(database.settings.master_key_path)}
    proxy = start_service(
        "proxy",
        METRION_DATABASE_URL=url(roles.PROXY).get_secret_value(),
        METRION_ORIGINS=json.dumps({"openai": fake_provider.origin}),
        **settings,
    )
    api = start_service(
        "serve_api", METRION_DATABASE_URL=url(roles.API).get_secret_value(), **settings
    )
    with httpx.Client(headers={"authorization": f"Bearer {account.token}"}, timeout=30) as client:

        def answers(address: str) -> bool:
            try:
                return client.get(address).status_code == 200
            except httpx.TransportError:
                return False

        eventually(lambda: answers(f"{proxy}/readyz") and answers(f"{api}/readyz"), 60)
        for _ in range(REQUESTS):
            assert client.post(proxy + PATH, json=BODY).status_code == 200

        def all_rows() -> bool:
            shown = client.get(f"{api}/api/v1/logs")
            assert shown.status_code == 200
            return len(shown.json()["items"]) == REQUESTS

        eventually(all_rows)

        if PGBOUNCER is not None:
            # without LISTEN nothing is trusted: a change counts for the next request
            assert client.get(f"{proxy}/readyz").json()["database"] != "listening"
            token = asyncio.run(regenerate(database, url(roles.API), account))
            assert client.post(proxy + PATH, json=BODY).status_code == 401
            new = {"authorization": f"Bearer {token}"}
            assert client.post(proxy + PATH, json=BODY, headers=new).status_code == 200
