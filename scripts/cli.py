"""The `metrion` command: accounts, keys and logs of the database that a data directory names.

It works as the database's administrator, but takes the API's role in every transaction: row-level
security binds it like everybody else. Errors are one line on standard error and exit status 1.
"""

import asyncio
import getpass
import json
import sys
import uuid
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer

from addons.providers import load_providers
from scripts.doctor.command import doctor
from scripts.erasure_commands import delete_account, purge
from scripts.key_rotation import rotate_master_key
from storage import accounts, keys, roles
from storage.billing import Billing, get_billing, plan_of
from storage.database import Database
from storage.database_url import administrator_url
from storage.errors import InvalidValue, NotFound, SettingsError, StorageError
from storage.invalidation import until_known
from storage.logs import LARGEST_PAGE, RequestLog, list_logs
from storage.migrate import migrate as migrate_database
from storage.plans import PLANS
from storage.sealing import MasterKeys
from storage.settings import Settings

_LONGEST_INPUT = 64 * 1024
_PLANS_HELP = f"{' or '.join(PLANS)}."

app = typer.Typer(
    name="metrion",
    help="Accounts, keys and logs of a Metrion that runs (see scripts/run).",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
account_app = typer.Typer(no_args_is_help=True, help="Create, list and delete accounts.")
key_app = typer.Typer(no_args_is_help=True, help="Set, list and delete their provider keys.")
token_app = typer.Typer(no_args_is_help=True, help="Replace their Metrion Keys.")
plan_app = typer.Typer(no_args_is_help=True, help="Set their plans.")
app.add_typer(account_app, name="account")
app.add_typer(key_app, name="key")
app.add_typer(token_app, name="token")
app.add_typer(plan_app, name="plan")
app.command("doctor", short_help="Look for faults, and for secrets where none may be.")(doctor)
app.command("purge", short_help="Delete now what is older than its time.")(purge)
account_app.command("delete", short_help="Delete one and all that belongs to it.")(delete_account)

# no `type` statements: typer does not look into those
Email = Annotated[str, typer.Argument(metavar="EMAIL", help="The account's e-mail address.")]
Provider = Annotated[
    str, typer.Argument(metavar="PROVIDER", help="Such as openai; a wrong one lists all.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def main() -> None:
    """Run the command."""
    try:
        app()
    except StorageError as error:
        print(f"metrion: {error}", file=sys.stderr)
        sys.exit(1)


@app.callback()
def choose_data_dir(
    context: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Instead of METRION_DATA_DIR or .metrion.")
    ] = None,
) -> None:
    """Read the settings once, for all commands."""
    try:
        context.obj = Settings.load(**({"data_dir": data_dir} if data_dir else {}))
    except SettingsError:
        if context.invoked_subcommand != "doctor":  # whose business it is
            raise


@account_app.command("create")
def create_account(
    context: typer.Context,
    email: Email,
    *,
    plan: Annotated[str, typer.Option(metavar="PLAN", help=_PLANS_HELP)] = "free",
    as_json: AsJson = False,
) -> None:
    """Make an account and print its Metrion Key."""
    settings = _settings(context)
    master_keys = MasterKeys.load(settings)

    async def create(database: Database) -> accounts.NewAccount:
        return await accounts.create_account(database, master_keys, email, plan)

    new = _with_database(settings, create)
    if as_json:
        _print_json({"account_id": new.id, "token": new.token})
    else:
        print(f"account {new.id}\nMetrion Key {new.token}")


@account_app.command("list")
def list_accounts(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List all accounts, the oldest first."""

    async def find(database: Database) -> list[accounts.Account]:
        async with database.system() as connection:
            return await accounts.list_accounts(connection)

    known = _with_database(_settings(context), find, act_as=roles.OWNER)
    if as_json:
        _print_json([{"account_id": account.id} | _without_id(account) for account in known])
    else:
        _print_table(
            ("EMAIL", "PLAN", "CREATED", "ACCOUNT"),
            [
                (account.email, account.plan, _minute(account.created_at), str(account.id))
                for account in known
            ],
        )


@key_app.command("set", short_help="Store one, read from standard input.")
def set_key(context: typer.Context, email: Email, provider: Provider) -> None:
    """Store a provider key, read from standard input, in place of the one that may be there."""
    settings = _settings(context)
    _check_provider(provider)
    master_keys = MasterKeys.load(settings)
    key = _read_key()

    async def store(database: Database) -> keys.ProviderKey:
        account_id = await _find_account(database, email)
        async with database.account(account_id) as connection:
            return await keys.set_key(connection, master_keys, account_id, provider, key)

    stored = _with_database(settings, store)
    print(f"stored the {stored.provider} key …{stored.last_four} of {email}")


@key_app.command("list", short_help="List them by their last four characters.")
def list_keys(context: typer.Context, email: Email, *, as_json: AsJson = False) -> None:
    """List an account's provider keys, by their last four characters."""

    async def find(database: Database) -> list[keys.ProviderKey]:
        async with database.account(await _find_account(database, email)) as connection:
            return await keys.list_keys(connection)

    known = _with_database(_settings(context), find)
    if as_json:
        _print_json([asdict(key) for key in known])
    else:
        _print_table(
            ("PROVIDER", "KEY", "STORED"),
            [(key.provider, f"…{key.last_four}", _minute(key.created_at)) for key in known],
        )


@key_app.command("delete", short_help="Delete one.")
def delete_key(context: typer.Context, email: Email, provider: Provider) -> None:
    """Delete a stored key; it stays valid at the provider until it is revoked there."""

    async def delete(database: Database) -> None:
        async with database.account(await _find_account(database, email)) as connection:
            await keys.delete_key(connection, provider)

    _with_database(_settings(context), delete)
    print(f"deleted the {provider} key of {email}; revoke it at {_key_page(provider)}")


@token_app.command("regenerate", short_help="Print a new one; the old one is dead at once.")
def regenerate_token(context: typer.Context, email: Email, *, as_json: AsJson = False) -> None:
    """Replace an account's Metrion Key and print the new one; the old one is dead at once."""
    settings = _settings(context)
    master_keys = MasterKeys.load(settings)

    async def regenerate(database: Database) -> tuple[uuid.UUID, str]:
        account_id = await _find_account(database, email)
        async with database.account(account_id) as connection:
            token = await accounts.regenerate_token(connection, master_keys, account_id)
        await until_known()
        return account_id, token

    account_id, token = _with_database(settings, regenerate)
    if as_json:
        _print_json({"account_id": account_id, "token": token})
    else:
        print(f"Metrion Key {token}")


@plan_app.command("set", short_help="Put an account on another plan, at once.")
def set_plan(
    context: typer.Context,
    email: Email,
    plan: Annotated[str, typer.Argument(metavar="PLAN", help=_PLANS_HELP)],
) -> None:
    """Put an account on another plan, at once, until a subscription begins or ends."""

    async def change(database: Database) -> Billing | None:
        async with database.account(await _find_account(database, email)) as connection:
            await accounts.set_plan(connection, plan)
            return await get_billing(connection)

    billing = _with_database(_settings(context), change)
    print(f"{email} has the plan {plan}")
    if billing is not None and plan_of(billing.status) != "free":
        print("its subscription at Stripe goes on, and goes on being charged")


@app.command("logs")
def show_logs(
    context: typer.Context,
    email: Email,
    *,
    limit: Annotated[int, typer.Option(min=1, metavar="ROWS", help="At most so many rows.")] = 50,
    as_json: AsJson = False,
) -> None:
    """Show an account's requests, the newest first."""

    async def find(database: Database) -> list[RequestLog]:
        account_id = await _find_account(database, email)
        rows: list[RequestLog] = []
        cursor = None
        while len(rows) < limit:
            async with database.account(account_id) as connection:
                size = min(limit - len(rows), LARGEST_PAGE)
                page = await list_logs(connection, limit=size, cursor=cursor)
            rows += page.rows
            if (cursor := page.next_cursor) is None:
                break
        return rows

    rows = _with_database(_settings(context), find)
    if as_json:
        _print_json([asdict(row) for row in rows])
    else:
        _print_table(
            ("TIME", "STATUS", "OUTCOME", "PROVIDER", "MODEL", "INPUT", "OUTPUT", "USD", "MS"),
            [_shown(row) for row in rows],
        )


@app.command("migrate", short_help="Bring the database to this version's schema.")
def migrate(context: typer.Context) -> None:
    """Bring the database to this version's schema; changes nothing that is right already."""
    settings = _settings(context)
    migrate_database(administrator_url(settings), roles.roles_folder(settings))
    print("the schema is up to date")


@app.command("rotate-master-key", short_help="Seal everything under a new master key.")
def rotate(
    context: typer.Context,
    *,
    retire: Annotated[
        bool, typer.Option("--retire", help="Instead drop the old keys, once nothing needs them.")
    ] = False,
) -> None:
    """Seal everything under a new master key while all runs; run again after an interruption."""
    if not rotate_master_key(_settings(context), retire_old_keys=retire):
        sys.exit(1)


# ---- the database


def _settings(context: typer.Context) -> Settings:
    return context.find_object(Settings) or Settings.load()


def _with_database[Result](
    settings: Settings,
    work: Callable[[Database], Coroutine[Any, Any, Result]],
    *,
    act_as: str = roles.API,
) -> Result:
    """Do something with the database, as `act_as`."""

    async def run() -> Result:
        database = Database(administrator_url(settings), act_as=act_as, pool_size=1)
        try:
            return await work(database)
        finally:
            await database.close()

    return asyncio.run(run())


async def _find_account(database: Database, email: str) -> uuid.UUID:
    async with database.system() as connection:
        account_id = await accounts.find_account(connection, email)
    if account_id is None:
        raise NotFound(f"there is no account for {email}")
    return account_id


# ---- what is typed


def _read_key() -> str:
    """Read a key from standard input, without showing it."""
    if sys.stdin.isatty():
        return getpass.getpass("Provider key: ").strip()
    given = sys.stdin.buffer.read(_LONGEST_INPUT)
    try:
        return given.decode("ascii").rstrip("\r\n")
    except UnicodeDecodeError:
        raise InvalidValue("a provider key has printable ASCII characters only") from None


def _check_provider(name: str) -> None:
    known = [provider.name for provider in load_providers()]
    if name not in known:
        raise InvalidValue(f"a provider is one of: {', '.join(known)}")


def _key_page(name: str) -> str:
    pages = {provider.name: provider.key_page for provider in load_providers()}
    return pages.get(name, "the provider")


# ---- what is printed


def _print_json(value: Any) -> None:
    print(json.dumps(value, default=_plain, ensure_ascii=False))


def _plain(value: Any) -> str | float:
    """Write what JSON has no form for, as the REST API does."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, Decimal):
        return float(value)  # exact: below 1,000 USD all twelve decimals survive in it
    return str(value)


def _without_id(account: accounts.Account) -> dict[str, Any]:
    return {name: value for name, value in asdict(account).items() if name != "id"}


def _shown(row: RequestLog) -> tuple[str, ...]:
    cost = None if row.cost_usd is None else f"{row.cost_usd.normalize():f}"
    latency = None if row.latency_ms is None else f"{row.latency_ms:.0f}"
    cells = (
        f"{row.created_at:%Y-%m-%d %H:%M:%S}",
        row.status,
        "cached" if row.cached else row.outcome,
        row.provider,
        row.model,
        row.input_tokens,
        row.output_tokens,
        cost,
        latency,
    )
    return tuple("-" if cell is None else str(cell) for cell in cells)


def _minute(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M}"


def _print_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns as wide as they need to be; control characters are made visible."""
    table = [header, *([_printable(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _printable(text: str) -> str:
    """Make control characters visible: a model's name comes from outside, this is a terminal."""
    return "".join(
        character if character.isprintable() else f"\\x{ord(character):02x}" for character in text
    )


if __name__ == "__main__":
    main()
