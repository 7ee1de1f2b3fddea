import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from addons.providers import load_providers
from scripts.installation import (
    DEMO_EMAIL,
    first_account,
    locked_data_dir,
    prepare_demo,
    prepare_master_keys,
)
from storage import accounts, callers, keys, roles
from storage.database import Database
from storage.errors import MasterKeyError, SettingsError
from storage.sealing import MasterKeys
from storage.single_statements import SingleStatements
from storage.tokens import is_token


def test_a_data_directory_has_one_supervisor(tmp_path: Path):
    data_dir = tmp_path / "new" / "data"
    holder = (
        "import sys; from pathlib import Path; from scripts.installation import locked_data_dir\n"
        f"with locked_data_dir(Path({str(data_dir)!r})): print('held', flush=True); input()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", holder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "held\n"
    with (
        pytest.raises(SettingsError, match=rf"another scripts/run \(process {other.pid}\)"),
        locked_data_dir(data_dir),
    ):
        pass
    other.kill()
    other.communicate()
    with locked_data_dir(data_dir):
        assert (data_dir / "supervisor.lock").read_text() == f"{os.getpid()}\n"
    assert data_dir.stat().st_mode & 0o066 == 0


async def test_the_master_key_is_made_once(database):
    path = database.settings.master_key_path
    path.unlink()
    assert await first_account(database.administrator_url) is None
    made = await prepare_master_keys(database.settings, None)
    before = path.read_text()
    again = await prepare_master_keys(database.settings, None)
    assert path.read_text() == before
    assert made.token_digests("x") == again.token_digests("x")


async def test_a_lost_or_foreign_master_key_is_never_replaced(database):
    settings, path = database.settings, database.settings.master_key_path
    api = Database(database.url(roles.API), pool_size=1)
    new = await accounts.create_account(api, database.keys, "ada@example.org")
    await api.close()
    account = await first_account(database.administrator_url)
    assert account.id == new.id
    await prepare_master_keys(settings, account)  # the right ones are right
    path.unlink()
    with pytest.raises(MasterKeyError, match="there is no master key at"):
        await prepare_master_keys(settings, account)
    assert not path.exists()
    MasterKeys.create(path)
    with pytest.raises(MasterKeyError, match="are not those that this database was sealed with"):
        await prepare_master_keys(settings, account)


async def test_the_demo_account_is_made_once_with_a_key_for_every_provider(database):
    settings = database.settings
    demo = await prepare_demo(settings, database.keys)
    assert demo.email == DEMO_EMAIL
    assert is_token(demo.token)
    assert demo.token not in repr(demo)
    proxy = SingleStatements(database.url(roles.PROXY))
    api = Database(database.url(roles.API), pool_size=1)
    caller = await callers.find_caller(proxy, database.keys.token_digests(demo.token))
    assert caller.plan == "pro"
    assert set(caller.sealed_keys) == {provider.name for provider in load_providers()}
    # what its owner has changed stays
    async with api.account(caller.account_id) as connection:
        await keys.set_key(
            connection, database.keys, caller.account_id, "openai", "sk-of-the-owner-1"
        )
        await keys.delete_key(connection, "grok")
    assert await prepare_demo(settings, database.keys) == demo
    async with api.account(caller.account_id) as connection:
        known = {key.provider: key.last_four for key in await keys.list_keys(connection)}
    assert known["openai"] == "er-1"
    assert "grok" in known
    await asyncio.gather(proxy.close(), api.close())
