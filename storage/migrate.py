"""Brings a database to this program's schema: roles, rights, then Alembic's revisions.

The administrator's URL may name a superuser, or a role with CREATEROLE that owns the database (what
managed services give). Everything in the schema belongs to `metrion_owner`, whoever runs this.
"""

import contextlib
import secrets
from collections.abc import Generator
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from psycopg import errors, sql
from pydantic import SecretStr
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from storage import private_files
from storage.database_url import AWAY
from storage.errors import DatabaseUnavailable, RightsMissing, SchemaError
from storage.migrations.scripts import SQL_FOLDER
from storage.roles import LOGIN_ROLES, OWNER, password_path, read_password
from storage.schema import refuse_newer

OLDEST_SERVER = 15
_CONNECT_SECONDS = 10
_ONE_AT_A_TIME = 6226916011  # advisory lock

# While a statement waits for a table's lock everyone after it waits too: rather give up.
_LOCK_TIMEOUT = "2s"


def migrate(administrator_url: SecretStr, roles_folder: Path) -> None:
    """Make roles, rights and schema, and upgrade to the newest revision this program knows.

    Changes nothing that is as it should be; several at once wait for each other. Each login role
    has its password in `roles_folder`/<role>.password (0600), made when it is missing.

    Raises:
        DatabaseUnavailable: the server does not answer or only reads, or something holds a table's
            lock.
        RightsMissing: the administrator may not do it; the message has PostgreSQL's reason.
        SchemaError: the server is too old or not UTF-8, or its schema is newer than this program.
    """
    with _reporting_errors(), _alone(administrator_url) as administrator:
        _check_server(administrator)
        with administrator.transaction():
            administrator.execute((SQL_FOLDER / "roles.sql").read_bytes())
            for role in LOGIN_ROLES:
                _set_password(administrator, role, _make_password(roles_folder, role))
            grant_database(administrator)
        with _owner(administrator_url) as connection:
            command.upgrade(_config(connection), "head")


def downgrade(administrator_url: SecretStr, revision: str) -> None:
    """Go back to an older revision ("base": none). What it cannot hold is lost.

    Raises:
        DatabaseUnavailable, RightsMissing, SchemaError: as in `migrate`.
    """
    with (
        _reporting_errors(),
        _alone(administrator_url),
        _owner(administrator_url) as connection,
    ):
        command.downgrade(_config(connection), revision)


def grant_database(administrator: psycopg.Connection[Any]) -> None:
    """Give and take the rights on the database itself (part of `migrate`).

    By itself for a database that was made from a template: it does not inherit them.
    """
    administrator.execute((SQL_FOLDER / "database.sql").read_bytes())


def _make_password(folder: Path, role: str) -> str:
    """Return the role's password, made first if it is missing."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        private_files.create(password_path(folder, role), secrets.token_urlsafe(32) + "\n")
    return read_password(folder, role)


def _set_password(administrator: psycopg.Connection[Any], role: str, password: str) -> None:
    """Set it as a SCRAM verifier, so that it stands in no statement the server may log."""
    verifier = administrator.pgconn.encrypt_password(
        password.encode(), role.encode(), b"scram-sha-256"
    )
    administrator.execute(
        sql.SQL("ALTER ROLE {} PASSWORD {}").format(
            sql.Identifier(role), sql.Literal(verifier.decode())
        )
    )


def _check_server(administrator: psycopg.Connection[Any]) -> None:
    major = administrator.info.server_version // 10_000
    if major < OLDEST_SERVER:
        raise SchemaError(f"PostgreSQL {major} is too old: {OLDEST_SERVER} or newer is needed")
    encoding = administrator.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise SchemaError(
            f"the database's encoding is {encoding}: create it with ENCODING 'UTF8' "
            "(TEMPLATE template0)"
        )


def _connect(url: SecretStr) -> psycopg.Connection[Any]:
    connection = psycopg.connect(
        url.get_secret_value(),
        autocommit=True,
        connect_timeout=_CONNECT_SECONDS,
        application_name="metrion migrate",
    )
    connection.execute("SET client_min_messages = warning")
    return connection


@contextlib.contextmanager
def _alone(administrator_url: SecretStr) -> Generator[psycopg.Connection[Any]]:
    """Connect, and wait until no other migration runs in this database."""
    with _connect(administrator_url) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", [_ONE_AT_A_TIME])
        connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'".encode())
        yield connection


@contextlib.contextmanager
def _owner(administrator_url: SecretStr) -> Generator[Connection]:
    """Open a connection as `metrion_owner` to a schema that this program knows."""

    def connect() -> psycopg.Connection[Any]:
        connection = _connect(administrator_url)
        connection.execute(f"SET lock_timeout = '{_LOCK_TIMEOUT}'".encode())
        connection.execute("SET timezone = 'UTC'")
        connection.execute(f"SET ROLE {OWNER}".encode())
        connection.autocommit = False
        return connection

    engine = create_engine("postgresql+psycopg://", creator=connect, poolclass=NullPool)
    with engine.connect() as connection:
        _check_revision(connection)
        yield connection


def alembic_config() -> Config:
    """Return Alembic's configuration: where the revisions are."""
    config = Config()
    config.set_main_option("script_location", "storage:migrations")
    return config


def _config(connection: Connection) -> Config:
    config = alembic_config()
    config.attributes["connection"] = connection
    return config


def _check_revision(connection: Connection) -> None:
    """Refuse a schema that a newer program made."""
    context = MigrationContext.configure(connection, opts={"version_table_schema": "metrion"})
    for revision in context.get_current_heads():
        refuse_newer(revision)
    connection.rollback()  # what was read here is no part of a revision's transaction


@contextlib.contextmanager
def _reporting_errors() -> Generator[None]:
    try:
        yield
    except (psycopg.Error, DBAPIError) as error:
        cause = error.orig if isinstance(error, DBAPIError) else error
        message = str(cause).partition("\n")[0]
        if isinstance(cause, errors.InsufficientPrivilege):
            raise RightsMissing(
                f"the database's administrator may not migrate: {message}"
            ) from error
        if isinstance(cause, errors.LockNotAvailable):
            raise DatabaseUnavailable(
                "the database cannot be migrated now: a table that must be changed has been in use "
                f"for {_LOCK_TIMEOUT}, and its other users would wait behind the migration: end "
                "what takes so long (pg_stat_activity shows it), or try again later"
            ) from error
        if isinstance(cause, AWAY):
            raise DatabaseUnavailable(f"the database cannot be migrated now: {message}") from error
        raise
