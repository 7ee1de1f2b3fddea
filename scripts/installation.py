"""What a data directory needs before anything runs on it: a lock, master keys, an account."""

import contextlib
import fcntl
import os
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from addons.providers import load_providers
from storage import accounts, keys, roles
from storage.database import Database
from storage.database_url import service_url
from storage.errors import MasterKeyError, SealingError, SettingsError
from storage.private_files import make_folder
from storage.sealing import MasterKeys
from storage.settings import Settings

DEMO_EMAIL = "demo@metrion.local"
DEMO_PLAN = "pro"
# Made up: the fake provider takes anything.
_DEMO_KEY = "sk-demo-not-a-real-key-{provider}"


@dataclass(frozen=True, slots=True)
class DemoAccount:
    """An account to try things with."""

    email: str
    token: str = field(repr=False)


@contextlib.contextmanager
def locked_data_dir(data_dir: Path) -> Generator[None]:
    """Make the data directory if it is missing, and hold it: one supervisor at a time.

    Raises:
        SettingsError: another supervisor runs on it; says which.
        OSError: it cannot be made or written to.
    """
    make_folder(data_dir)
    with (data_dir / "supervisor.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise SettingsError(
                f"{data_dir} is in use by another scripts/run (process {file.read().strip()}): "
                "stop that one, or choose another --data-dir"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


async def first_account(administrator: SecretStr) -> accounts.Account | None:
    """Return the oldest account; None: there is none."""
    database = Database(administrator, act_as=roles.OWNER, pool_size=1)
    try:
        async with database.system() as connection:
            known = await accounts.list_accounts(connection, limit=1)
    finally:
        await database.close()
    return known[0] if known else None


async def prepare_master_keys(settings: Settings, account: accounts.Account | None) -> MasterKeys:
    """Return the master keys; make them if there are none and nothing was ever sealed.

    A new key beside a database with accounts would make every token and provider key useless
    without a word; so would another database's key, which is why the token of `account` is tried.

    Raises:
        MasterKeyError: they are missing or unusable, or not those of this database.
    """
    path = settings.master_key_path
    if account is None and settings.master_keys_are_in_a_file and not path.exists():
        return MasterKeys.create(path)
    master_keys = MasterKeys.load(settings)
    if account is not None:
        await _try_master_keys(settings, master_keys, account)
    return master_keys


async def _try_master_keys(
    settings: Settings, master_keys: MasterKeys, account: accounts.Account
) -> None:
    database = Database(service_url(settings, roles.API), pool_size=1)
    try:
        async with database.account(account.id) as connection:
            await accounts.reveal_token(connection, master_keys, account.id)
    except SealingError as error:
        raise MasterKeyError(
            "the master keys are not those that this database was sealed with: put the right "
            f"ones back ({error})"
        ) from None
    finally:
        await database.close()


async def prepare_demo(settings: Settings, master_keys: MasterKeys) -> DemoAccount:
    """Return the demo account, made first if it is missing, with a key for every provider."""
    database = Database(service_url(settings, roles.API), pool_size=1)
    try:
        async with database.system() as connection:
            account_id = await accounts.find_account(connection, DEMO_EMAIL)
        if account_id is None:
            new = await accounts.create_account(database, master_keys, DEMO_EMAIL, DEMO_PLAN)
            account_id = new.id
        async with database.account(account_id) as connection:
            token = await accounts.reveal_token(connection, master_keys, account_id)
            present = {key.provider for key in await keys.list_keys(connection)}
            for provider in load_providers():
                if provider.name not in present:
                    await keys.set_key(
                        connection,
                        master_keys,
                        account_id,
                        provider.name,
                        _DEMO_KEY.format(provider=provider.name),
                    )
    finally:
        await database.close()
    return DemoAccount(DEMO_EMAIL, token)
