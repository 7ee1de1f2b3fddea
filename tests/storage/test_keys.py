import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from storage import callers, keys
from storage.errors import InvalidValue, NotFound, SealingError

KEY = "sk-proj-0123456789abcdefWXYZ"
OTHER = "sk-proj-fedcba9876543210wxyz"


async def sealed_keys(proxy, database, account):
    digests = database.keys.token_digests(account.token)
    return (await callers.find_caller(proxy, digests)).sealed_keys


async def test_a_key_is_sealed_for_the_proxy_and_shown_by_its_end(
    api, proxy, database, new_account
):
    account = await new_account()
    async with api.account(account.id) as connection:
        stored = await keys.set_key(connection, database.keys, account.id, "openai", KEY)
        assert (stored.provider, stored.last_four) == ("openai", "WXYZ")
        assert await keys.list_keys(connection) == [stored]
    sealed = await sealed_keys(proxy, database, account)
    assert KEY.encode() not in sealed["openai"]
    opened = database.keys.open(sealed["openai"], callers.key_binding(account.id, "openai"))
    assert opened.decode() == KEY


async def test_a_key_replaces_the_one_before(api, proxy, database, new_account):
    account = await new_account()
    async with api.account(account.id) as connection:
        first = await keys.set_key(connection, database.keys, account.id, "openai", KEY)
    async with api.account(account.id) as connection:
        second = await keys.set_key(connection, database.keys, account.id, "openai", OTHER)
        assert await keys.list_keys(connection) == [second]
    assert second.created_at > first.created_at
    sealed = await sealed_keys(proxy, database, account)
    opened = database.keys.open(sealed["openai"], callers.key_binding(account.id, "openai"))
    assert opened.decode() == OTHER


async def test_a_sealed_key_opens_nowhere_else(api, proxy, database, new_account):
    account, other = await new_account(), await new_account()
    async with api.account(account.id) as connection:
        await keys.set_key(connection, database.keys, account.id, "openai", KEY)
    sealed = (await sealed_keys(proxy, database, account))["openai"]
    for place in (
        callers.key_binding(account.id, "mistral"),
        callers.key_binding(other.id, "openai"),
    ):
        with pytest.raises(SealingError):
            database.keys.open(sealed, place)


async def test_a_deleted_key_is_gone(api, proxy, database, new_account):
    account = await new_account()
    async with api.account(account.id) as connection:
        await keys.set_key(connection, database.keys, account.id, "openai", KEY)
        await keys.set_key(connection, database.keys, account.id, "grok", KEY)
        await keys.delete_key(connection, "openai")
        assert [key.provider for key in await keys.list_keys(connection)] == ["grok"]
        with pytest.raises(NotFound, match="openai"):
            await keys.delete_key(connection, "openai")
    assert set(await sealed_keys(proxy, database, account)) == {"grok"}


async def test_accounts_have_keys_of_their_own(api, database, new_account):
    account, other = await new_account(), await new_account()
    for owner in (account, other):
        async with api.account(owner.id) as connection:
            await keys.set_key(connection, database.keys, owner.id, "openai", KEY)
    async with api.account(account.id) as connection:
        await keys.delete_key(connection, "openai")
    async with api.account(other.id) as connection:
        assert len(await keys.list_keys(connection)) == 1


async def test_what_is_no_key_is_refused_without_repeating_it(api, database, new_account):
    account = await new_account()
    async with api.account(account.id) as connection:
        for key in ("", "short", "with space in it", "new\nline-0123", "ключ-0123456"):
            with pytest.raises(InvalidValue) as caught:
                await keys.set_key(connection, database.keys, account.id, "openai", key)
            assert not key or key not in str(caught.value)


@pytest.mark.parametrize("change", [str, str.upper, "'{}'".format])
async def test_a_metrion_key_is_no_providers_key(api, database, new_account, change):
    account = await new_account()
    async with api.account(account.id) as connection:
        with pytest.raises(InvalidValue, match="this is a Metrion Key") as caught:
            await keys.set_key(
                connection, database.keys, account.id, "openai", change(account.token)
            )
        assert account.token[-8:] not in str(caught.value)
        assert await keys.list_keys(connection) == []


async def test_a_providers_name_has_a_form(api, database, new_account):
    account = await new_account()
    async with api.account(account.id) as connection:
        with pytest.raises(InvalidValue):
            await keys.set_key(connection, database.keys, account.id, "Open AI", KEY)


async def test_of_a_short_key_nothing_is_shown(api, database, new_account):
    account = await new_account()
    async with api.account(account.id) as connection:
        stored = await keys.set_key(connection, database.keys, account.id, "openai", "12345678")
    assert stored.last_four == ""


async def test_the_api_cannot_read_the_sealed_column(api, database, new_account):
    account = await new_account()
    async with api.account(account.id) as connection:
        await keys.set_key(connection, database.keys, account.id, "openai", KEY)
        with pytest.raises(ProgrammingError, match="permission denied"):
            await connection.execute(text("SELECT sealed FROM metrion.provider_keys"))
