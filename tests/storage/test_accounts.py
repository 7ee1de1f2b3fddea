import pytest

from storage import accounts, callers, roles
from storage.database import Database
from storage.errors import AlreadyExists, InvalidValue, NotFound, SealingError
from storage.identifiers import uuid7
from storage.sealing import MasterKeys
from storage.tokens import is_token, new_token


async def caller_of(proxy, keys, token):
    return await callers.find_caller(proxy, keys.token_digests(token))


async def test_a_new_account_has_a_token_that_names_it(api, proxy, database):
    account = await accounts.create_account(api, database.keys, " Ann@Example.com ", "pro")
    assert is_token(account.token)
    assert account.token not in repr(account)
    caller = await caller_of(proxy, database.keys, account.token)
    assert (caller.account_id, caller.plan) == (account.id, "pro")
    async with api.account(account.id) as connection:
        kept = await accounts.get_account(connection)
    assert (kept.id, kept.email, kept.plan, kept.currency) == (
        account.id,
        "Ann@Example.com",
        "pro",
        "USD",
    )


async def test_one_account_to_an_address_whatever_its_case(api, database, new_account):
    await new_account(email="ann@example.com")
    with pytest.raises(AlreadyExists, match="ANN@example"):
        await accounts.create_account(api, database.keys, "ANN@example.com")
    async with api.system() as connection:
        assert await accounts.find_account(connection, "Ann@Example.Com ") is not None
        assert await accounts.find_account(connection, "bob@example.com") is None


async def test_letters_that_only_look_alike_make_another_address(api, database, new_account):
    """Mail to them goes to somebody else."""
    ken = await new_account(email="ken@github.com")
    for other in ("ken@g\u0130thub.com", "\u212aen@github.com", "ken@g\u0131thub.com"):
        async with api.system() as connection:
            assert await accounts.find_account(connection, other) is None
        assert (await accounts.create_account(api, database.keys, other)).id != ken.id
        async with api.system() as connection:
            assert await accounts.find_account(connection, other) != ken.id


async def test_what_is_no_address_is_refused(api, database):
    wrong = ["", "ann", "@", "a@", "@b", "a b@c", "a@b@c", "a\n@b", "a\0@b", "x" * 250 + "@b.org"]
    for email in wrong:
        with pytest.raises(InvalidValue):
            await accounts.create_account(api, database.keys, email)


async def test_plans_are_free_and_pro(api, database, new_account):
    with pytest.raises(InvalidValue, match="free, pro"):
        await accounts.create_account(api, database.keys, "a@example.com", "gold")
    account = await new_account()
    async with api.account(account.id) as connection:
        with pytest.raises(InvalidValue):
            await accounts.set_plan(connection, "gold")
        await accounts.set_plan(connection, "pro")
        assert (await accounts.get_account(connection)).plan == "pro"


async def test_regenerating_kills_the_old_token(api, proxy, database, new_account):
    account = await new_account()
    async with api.account(account.id) as connection:
        token = await accounts.regenerate_token(connection, database.keys, account.id)
    assert token != account.token
    assert await caller_of(proxy, database.keys, account.token) is None
    assert (await caller_of(proxy, database.keys, token)).account_id == account.id


async def test_a_token_can_be_shown_again_with_the_master_key_only(api, database, new_account):
    account = await new_account()
    async with api.account(account.id) as connection:
        shown = await accounts.reveal_token(connection, database.keys, account.id)
        assert shown == account.token
        other = MasterKeys({1: bytes(range(32))}, active=1)
        with pytest.raises(SealingError):
            await accounts.reveal_token(connection, other, account.id)


async def test_nothing_in_the_database_is_the_token(administrator, new_account):
    account = await new_account()
    row = administrator.execute("SELECT * FROM metrion.tokens").fetchone()
    hidden = account.token.removeprefix("sk-metrion-")
    assert hidden not in str(row)
    assert hidden.encode() not in row["digest"] + row["sealed"]


async def test_an_account_that_is_not_there(api, database):
    nobody = uuid7()
    async with api.account(nobody) as connection:
        for attempt in (
            accounts.get_account(connection),
            accounts.set_plan(connection, "pro"),
            accounts.regenerate_token(connection, database.keys, nobody),
            accounts.reveal_token(connection, database.keys, nobody),
        ):
            with pytest.raises(NotFound):
                await attempt


async def test_the_administrator_lists_all_accounts(database, new_account):
    made = [(await new_account()).id for _ in range(3)]
    owner = Database(database.administrator_url, act_as=roles.OWNER)
    async with owner.system() as connection:
        listed = [account.id for account in await accounts.list_accounts(connection)]
        [first] = await accounts.list_accounts(connection, limit=1)
    assert listed == made
    assert first.id == made[0]
    await owner.close()


async def test_an_administrator_changes_one_account_only(database, administrator, new_account):
    one, other = await new_account(), await new_account()
    superuser = Database(database.administrator_url)
    async with superuser.account(one.id) as connection:
        await accounts.set_plan(connection, "pro")
        await accounts.regenerate_token(connection, database.keys, one.id)
        assert (await accounts.get_account(connection)).id == one.id
    await superuser.close()
    rows = administrator.execute("SELECT id, plan FROM metrion.accounts").fetchall()
    assert {row["id"]: row["plan"] for row in rows} == {one.id: "pro", other.id: "free"}


@pytest.mark.parametrize("plan", ["free", "pro"])
async def test_the_api_finds_the_account_but_no_keys(lookups, database, new_account, plan):
    account = await new_account(plan)
    found = await accounts.account_by_token(lookups, database.keys.token_digests(account.token))
    assert found == accounts.AccountCaller(account.id, plan)
    nobody = database.keys.token_digests(new_token())
    assert await accounts.account_by_token(lookups, nobody) is None
