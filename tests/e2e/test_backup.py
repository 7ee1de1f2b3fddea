"""A backup, as the README says: pg_dump of the embedded database, restored elsewhere with the key.

The programs are the wheel's own.
"""

import asyncio
import os
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import pytest

from storage import accounts, callers, embedded_process, keys, roles
from storage.accounts import NewAccount
from storage.database import Database
from storage.database_url import service_url
from storage.embedded import EmbeddedPostgres
from storage.errors import SealingError
from storage.identifiers import uuid7
from storage.ingest import LogWriter
from storage.logs import list_logs
from storage.migrate import migrate
from storage.sealing import MasterKeys
from storage.settings import Settings
from storage.single_statements import SingleStatements

KEY = "sk-proj-0123456789abcdefWXYZ"
OPTIONS = {"fsync": "off", "full_page_writes": "off"}


class Installation:
    """A data directory with its embedded server, migrated."""

    def __init__(self, data_dir: Path) -> None:
        self.settings = Settings(data_dir=data_dir)
        self._server = EmbeddedPostgres(data_dir, options=OPTIONS)

    def __enter__(self) -> Self:
        self._server.start(stop_with_thread=True)
        self.migrate()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.release()

    def migrate(self) -> None:
        """Do what scripts/run does at each start."""
        migrate(self._server.url, roles.roles_folder(self.settings))

    def run(self, program: str, *arguments: str) -> str:
        """Run one of PostgreSQL's programs on the database, by the files in the data directory."""
        folder = self.settings.data_dir / "postgres"
        environment = {
            "PATH": os.defpath,
            "PGHOST": (folder / "address").read_text().strip(),
            "PGUSER": "postgres",
            "PGDATABASE": "postgres",
            "PGPASSWORD": (folder / "administrator.password").read_text().strip(),
        }
        done = subprocess.run(
            [embedded_process.programs() / program, *arguments],
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )
        return done.stdout


async def fill(installation: Installation) -> NewAccount:
    """Make an account with a key and three log rows."""
    settings = installation.settings
    master_keys = MasterKeys.create(settings.master_key_path)
    api = Database(service_url(settings, roles.API))
    account = await accounts.create_account(api, master_keys, "ada@example.org", "pro")
    async with api.account(account.id) as connection:
        await keys.set_key(connection, master_keys, account.id, "openai", KEY)
    await api.close()
    writer = LogWriter(service_url(settings, roles.PROXY))
    assert writer.write([log_row(account) for _ in range(3)]) == 3
    writer.close()
    return account


def log_row(account: NewAccount) -> dict[str, Any]:
    return {
        "account_id": str(account.id),
        "id": str(uuid7()),
        "created_at": datetime.now(UTC).isoformat(),
        "provider": "openai",
        "endpoint": "chat/completions",
        "mode": "stored",
        "status": 200,
        "outcome": "ok",
        "streamed": False,
        "cached": False,
        "total_tokens": 150,
        "cost_usd": "0.001250",
        "overhead_ms": 0.75,
    }


async def check(installation: Installation, account: NewAccount) -> None:
    """The token leads to the account, its key opens, its rows are there; new ones come in."""
    settings = installation.settings
    master_keys = MasterKeys.load(settings)
    proxy = SingleStatements(service_url(settings, roles.PROXY))
    caller = await callers.find_caller(proxy, master_keys.token_digests(account.token))
    await proxy.close()
    assert caller is not None
    assert (caller.account_id, caller.plan) == (account.id, "pro")
    binding = callers.key_binding(account.id, "openai")
    assert master_keys.open(caller.sealed_keys["openai"], binding).decode() == KEY
    with pytest.raises(SealingError):
        MasterKeys({1: os.urandom(32)}, 1).open(caller.sealed_keys["openai"], binding)

    writer = LogWriter(service_url(settings, roles.PROXY))
    assert writer.write([log_row(account)]) == 1
    writer.close()
    api = Database(service_url(settings, roles.API))
    async with api.account(account.id) as connection:
        assert await accounts.reveal_token(connection, master_keys, account.id) == account.token
        assert len((await list_logs(connection, limit=10)).rows) == 4
    async with api.account(uuid7()) as connection:  # the policies came along
        assert (await list_logs(connection, limit=10)).rows == []
    await api.close()


# Who owns what and may do what, and what later tables and functions start with.
RIGHTS = """
    SELECT c.relname, c.relowner::regrole::text, c.relacl::text, c.relforcerowsecurity
    FROM pg_class AS c WHERE c.relnamespace = 'metrion'::regnamespace
    UNION ALL SELECT oid::regprocedure::text, proowner::regrole::text, proacl::text, prosecdef
    FROM pg_proc WHERE pronamespace = 'metrion'::regnamespace
    UNION ALL SELECT tablename || policyname, coalesce(qual, with_check), roles::text, NULL
    FROM pg_policies
    UNION ALL SELECT 'default', defaclrole::regrole::text, defaclacl::text, NULL
    FROM pg_default_acl
    UNION ALL SELECT 'database', NULL, a::text, NULL
    FROM pg_database, unnest(datacl) AS a WHERE datname = current_database()
    ORDER BY 1, 2, 3
"""


def test_a_dump_restored_elsewhere_with_the_key_file_is_the_same_metrion(tmp_path: Path) -> None:
    dump = tmp_path / "metrion.dump"
    with Installation(tmp_path / "old") as old:
        account = asyncio.run(fill(old))
        old.run("pg_dump", "--format=custom", f"--file={dump}")
        rights = old.run("psql", "-qtA", "-c", RIGHTS)
    assert "metrion_definer" in rights
    for hidden in (account.token, KEY):
        assert hidden.encode() not in dump.read_bytes()

    with Installation(tmp_path / "new") as new:  # with roles and passwords of its own
        new.run("psql", "-q", "-c", "DROP SCHEMA metrion CASCADE")
        new.run("pg_restore", "--single-transaction", "--dbname=postgres", str(dump))
        shutil.copy2(old.settings.master_key_path, new.settings.master_key_path)
        new.migrate()
        asyncio.run(check(new, account))
        assert new.run("psql", "-qtA", "-c", RIGHTS) == rights
