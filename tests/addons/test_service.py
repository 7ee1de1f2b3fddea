"""The parts of the proxy process on a real database: put together, started, stopped."""

import asyncio
import time

import psycopg
import pytest

from addons.outcome import Refused
from addons.service import Service
from storage import roles, single_statements
from storage.accounts import create_account
from storage.database import Database
from storage.database_url import service_url
from storage.errors import MasterKeyError, SettingsError, StorageError
from storage.keys import set_key
from storage.sealing import MasterKeys
from storage.settings import Settings


@pytest.fixture
async def account(database):
    """An account with one key; returns its id and token."""
    api = Database(database.url(roles.API))
    new = await create_account(api, database.keys, "anna@example.com", "free")
    async with api.account(new.id) as connection:
        await set_key(connection, database.keys, new.id, "openai", "sk-" + "x" * 40)
    yield new
    await api.close()


async def eventually(condition, seconds: float = 10.0):
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_token_is_found_in_the_database_and_a_change_is_heard_at_once(database, account):
    service = Service(database.settings)
    await service.start()
    try:
        keyring = service.gateway._keyring

        async def is_listening():
            return service._is_listening()

        await eventually(is_listening)
        caller = await keyring.identify(account.token)
        assert caller.account_id == account.id
        assert list(caller.sealed_keys) == ["openai"]
        with pytest.raises(Refused):
            await keyring.identify("sk-metrion-" + "0" * 32)
        api = Database(service_url(database.settings, roles.API))
        async with api.account(account.id) as connection:
            await set_key(
                connection, database.keys, account.id, "mistral", "mistral-key-0123456789"
            )
        await api.close()

        async def is_known():
            return "mistral" in (await keyring.identify(account.token)).sealed_keys

        await eventually(is_known)
    finally:
        await service.close()


async def test_the_first_request_needs_no_new_connection(database):
    service = Service(database.settings)
    await service.start()
    try:
        assert len(service._callers._idle) == 1
    finally:
        await service.close()


async def test_a_database_that_does_not_answer_is_away(database, account, monkeypatch):
    monkeypatch.setattr(single_statements, "LOOK_UP_SECONDS", 0.2)
    service = Service(database.settings)
    url = database.administrator_url.get_secret_value()
    try:
        with psycopg.connect(url) as administrator:  # until its transaction ends
            administrator.execute("LOCK TABLE metrion.tokens IN ACCESS EXCLUSIVE MODE")
            with pytest.raises(Refused) as refused:
                await service.gateway._keyring.identify(account.token)
        assert refused.value.status == 503
    finally:
        await service.close()


def test_an_origin_for_a_provider_that_does_not_exist_is_said(database):
    settings = database.settings.model_copy(update={"origins": {"nobody": "https://x.example"}})
    with pytest.raises(SettingsError, match="nobody"):
        Service(settings)


def test_without_a_master_key_nothing_starts(database, tmp_path):
    settings = database.settings.model_copy(update={"master_key_file": tmp_path / "none"})
    with pytest.raises(MasterKeyError):
        Service(settings)


def test_without_a_database_there_is_a_sentence(tmp_path):
    settings = Settings(data_dir=tmp_path)
    MasterKeys.create(settings.master_key_path)
    with pytest.raises(StorageError, match="scripts/run"):
        Service(settings)
