import asyncio
import contextlib

import pytest
from pydantic import SecretStr
from sqlalchemy import select, text

from storage import accounts, callers, keys, master_key_file, roles, rotation
from storage.database import Database
from storage.errors import MasterKeyError, SealingError
from storage.models import metadata
from storage.sealing import MasterKeys
from storage.settings import Settings

ACCOUNTS, PROVIDERS = 7, ("openai", "anthropic")

# Digests of what lives for minutes or days and is looked up under every key of the ring: with an
# old key they end, and people sign in again.
SHORT_LIVED = {"sessions.digest", "codes.digest", "codes.address", "erasures.address"}


@pytest.fixture
async def administrator_database(database):
    """The database as the one who rotates sees it."""
    opened = Database(database.administrator_url, act_as=roles.DEFINER, pool_size=1)
    yield opened
    await opened.close()


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Small batches and no waits."""
    monkeypatch.setattr(rotation, "_BATCH_ROWS", 3)
    monkeypatch.setattr(rotation, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(rotation, "RETIRE_SECONDS", 0)
    monkeypatch.setattr(rotation, "_ROUND_SECONDS", 0)


@pytest.fixture
async def tokens(api, database, new_account):
    """Accounts with keys: account id → token."""
    made = {}
    for _ in range(ACCOUNTS):
        account = await new_account()
        made[account.id] = account.token
        for provider in PROVIDERS:
            async with api.account(account.id) as connection:
                await keys.set_key(
                    connection, database.keys, account.id, provider, secret(account.id, provider)
                )
    return made


def secret(account_id, provider):
    return f"sk-{provider}-{account_id}"


async def check(proxy, api, ring, tokens):
    """Every token is found, shown, and leads to keys that open."""
    for account_id, token in tokens.items():
        caller = await callers.find_caller(proxy, ring.token_digests(token))
        assert caller.account_id == account_id
        for provider, sealed in caller.sealed_keys.items():
            opened = ring.open(sealed, callers.key_binding(account_id, provider))
            assert opened.decode() == secret(account_id, provider)
        async with api.account(account_id) as connection:
            assert await accounts.reveal_token(connection, ring, account_id) == token


def silent(_):
    """Tell nobody."""


def test_every_sealed_column_is_rotated(administrator):
    """A column of bytes is sealed (`sealed…`: rotated), derived from a sealed one, or short-lived."""
    rows = administrator.execute("""
        SELECT c.relname || '.' || a.attname AS name
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'metrion'::regnamespace AND c.relkind IN ('r', 'p')
          AND NOT c.relispartition AND a.attnum > 0 AND NOT a.attisdropped
          AND (a.atttypid IN ('bytea'::regtype, 'bytea[]'::regtype) OR a.attname LIKE 'sealed%')
    """).fetchall()
    found = {row["name"] for row in rows}
    ring = MasterKeys({1: bytes(range(32))}, 1)
    derived = {
        f"{place.table.name}.{name}"
        for place in rotation.SEALED_COLUMNS
        for name in place.digest(ring, b"x")
    }
    sealed = {name for name in found if name.partition(".")[2].startswith("sealed")}
    assert {str(place) for place in rotation.SEALED_COLUMNS} == sealed
    assert found - sealed - derived == SHORT_LIVED & found
    assert {str(column) for place in rotation.SEALED_COLUMNS for column in place.key} <= {
        str(column) for table in metadata.tables.values() for column in table.columns
    }


async def test_all_is_sealed_again_and_the_old_key_can_go(
    administrator_database, database, api, proxy, tokens
):
    settings = database.settings
    told = []
    report = await rotation.rotate(administrator_database, settings, told.append)
    assert (report.active, report.added, report.is_complete) == (2, True, True)
    assert report.resealed == {
        "tokens.sealed": 7,
        "provider_keys.sealed": 14,
        "response_cache.sealed": 0,
    }
    assert rotation.Progress("provider_keys.sealed", 14, 14) in told
    assert database.keys.active == 2  # loaded before the rotation, it follows the file
    await check(proxy, api, database.keys, tokens)

    with_new_key_only = MasterKeys({2: master_key_file.read(settings.master_key_path).keys[2]}, 2)
    await check(proxy, api, with_new_key_only, tokens)

    report = await rotation.retire(administrator_database, settings, silent)
    assert (report.retired, report.is_complete) == ([1], True)
    assert set(master_key_file.read(settings.master_key_path).keys) == {2}
    await check(proxy, api, database.keys, tokens)


async def test_what_was_interrupted_goes_on_with_the_same_key(
    administrator_database, database, api, proxy, tokens
):
    def interrupt(progress):
        if (progress.column, progress.done) == ("provider_keys.sealed", 6):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await rotation.rotate(administrator_database, database.settings, interrupt)
    assert await rotation.count_needed(administrator_database, 2) == {1: 8}
    await check(proxy, api, database.keys, tokens)
    report = await rotation.rotate(administrator_database, database.settings, silent)
    assert (report.active, report.added, report.is_complete) == (2, False, True)
    assert report.resealed == {
        "tokens.sealed": 0,
        "provider_keys.sealed": 8,
        "response_cache.sealed": 0,
    }
    assert (await rotation.rotate(administrator_database, database.settings, silent)).active == 3


async def test_old_keys_stay_while_a_value_needs_one(
    administrator_database, administrator, database, api, tokens
):
    """Two values do not open: one was changed, one is somebody else's."""
    first, second, third, *_ = tokens
    administrator.execute(
        "UPDATE metrion.provider_keys SET sealed = set_byte(sealed, 40, get_byte(sealed, 40) # 1)"
        " WHERE account_id = %s AND provider = 'openai'",
        [first],
    )
    administrator.execute(
        "UPDATE metrion.tokens SET sealed = (SELECT sealed FROM metrion.tokens"
        " WHERE account_id = %s) WHERE account_id = %s",
        [second, third],
    )
    for work in (rotation.rotate, rotation.rotate, rotation.retire):
        report = await work(administrator_database, database.settings, silent)
        assert (report.active, report.needed, report.retired) == (2, {1: 2}, [])
        places = sorted(report.unreadable)
        assert len(places) == 2
        assert any(f"account {first}, provider_keys.sealed of openai" in place for place in places)
        assert any(f"account {third}, tokens.sealed of" in place for place in places)
        assert not any("sk-" in why for why in report.unreadable.values())

    async with api.account(first) as connection:
        await keys.delete_key(connection, "openai")
    async with api.account(third) as connection:
        await accounts.regenerate_token(connection, database.keys, third)
    report = await rotation.retire(administrator_database, database.settings, silent)
    assert report.retired == [1]


async def test_a_row_in_use_is_not_waited_for(administrator_database, database, api, tokens):
    busy = next(iter(tokens))
    async with api.account(busy) as connection:
        await connection.execute(text("UPDATE metrion.tokens SET created_at = now()"))
        report = await rotation.rotate(administrator_database, database.settings, silent)
        assert (report.needed, report.unreadable) == ({1: 1}, {})
    report = await rotation.rotate(administrator_database, database.settings, silent)
    assert (report.active, report.is_complete) == (2, True)


async def test_who_changes_values_meanwhile_is_not_undone(
    administrator_database, database, api, proxy, tokens
):
    stop = asyncio.Event()

    async def regenerate(account_id):
        while not stop.is_set():
            async with api.account(account_id) as connection:
                token = await accounts.regenerate_token(connection, database.keys, account_id)
            tokens[account_id] = token
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        for account_id in list(tokens)[:3]:
            group.create_task(regenerate(account_id))
        for _ in range(5):
            await rotation.rotate(administrator_database, database.settings, silent)
        stop.set()
    report = await rotation.retire(administrator_database, database.settings, silent)
    assert report.is_complete
    await check(proxy, api, database.keys, tokens)


async def test_the_operators_own_ring_is_only_used(
    administrator_database, database, api, proxy, tokens
):
    path = database.settings.master_key_path
    master_key_file.add_key(path)
    given = Settings(
        data_dir=database.settings.data_dir,
        database_url=database.administrator_url,
        master_keys=SecretStr(path.read_text()),
    )
    path.unlink()
    for work in (rotation.rotate, rotation.rotate, rotation.retire):
        report = await work(administrator_database, given, silent)
        assert (report.active, report.added, report.retired) == (2, False, [])
        assert report.is_complete
    await check(proxy, api, MasterKeys.load(given), tokens)


async def test_one_rotation_at_a_time(administrator_database, database):
    with (
        master_key_file.locked(database.settings.master_key_path),
        pytest.raises(MasterKeyError, match="another rotation"),
    ):
        await rotation.rotate(administrator_database, database.settings, silent)


async def test_it_waits_for_those_who_still_use_the_old_ring(
    administrator_database, database, monkeypatch
):
    monkeypatch.setattr(rotation, "SETTLE_SECONDS", 3600)
    rotating = asyncio.create_task(
        rotation.rotate(administrator_database, database.settings, silent)
    )
    async with asyncio.timeout(20):
        while database.keys.active != 2:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.3)
    assert not rotating.done()
    rotating.cancel()
    with pytest.raises(asyncio.CancelledError):
        await rotating


async def test_nobody_else_can_change_a_sealed_value(api, database, tokens):
    proxy = Database(database.url(roles.PROXY), pool_size=1)
    for place in rotation.SEALED_COLUMNS:
        async with proxy.system() as connection:
            with pytest.raises(Exception, match="permission denied"):
                await connection.execute(select(place.column))
    await proxy.close()


# ---------------------------------------------------------------------------- moved values

MOVED = {
    "to another account": """
        UPDATE metrion.provider_keys AS k SET sealed = o.sealed FROM metrion.provider_keys AS o
        WHERE o.provider = k.provider AND o.account_id <> k.account_id""",
    "to another provider": """
        UPDATE metrion.provider_keys AS k SET sealed = o.sealed FROM metrion.provider_keys AS o
        WHERE o.provider <> k.provider AND o.account_id = k.account_id""",
    "from a token": """
        UPDATE metrion.provider_keys AS k SET sealed = t.sealed FROM metrion.tokens AS t
        WHERE t.account_id = k.account_id""",
    "with its row renamed": """
        UPDATE metrion.provider_keys SET provider = 'x-' || provider""",
}


@pytest.mark.parametrize("statement", MOVED.values(), ids=MOVED.keys())
async def test_a_key_that_was_moved_in_the_database_does_not_open(
    administrator, database, proxy, tokens, statement
):
    moved = administrator.execute(statement).rowcount
    assert moved > 0
    refused = 0
    for account_id, token in tokens.items():
        caller = await callers.find_caller(proxy, database.keys.token_digests(token))
        for provider, sealed in caller.sealed_keys.items():
            with contextlib.suppress(SealingError):
                opened = database.keys.open(sealed, callers.key_binding(account_id, provider))
                assert opened.decode() == secret(account_id, provider)
                continue
            refused += 1
    assert refused == moved


MOVED_TOKENS = {
    "to another account": """
        UPDATE metrion.tokens AS t SET sealed = o.sealed FROM metrion.tokens AS o
        WHERE o.account_id <> t.account_id""",
    "to another token of the account": "UPDATE metrion.tokens SET id = gen_random_uuid()",
    "from a key": """
        UPDATE metrion.tokens AS t SET sealed = k.sealed FROM metrion.provider_keys AS k
        WHERE k.account_id = t.account_id""",
    "from the digest": "UPDATE metrion.tokens SET sealed = digest || digest",
}


@pytest.mark.parametrize("statement", MOVED_TOKENS.values(), ids=MOVED_TOKENS.keys())
async def test_a_token_that_was_moved_in_the_database_is_not_shown(
    administrator, database, api, tokens, statement
):
    assert administrator.execute(statement).rowcount == ACCOUNTS
    for account_id in tokens:
        async with api.account(account_id) as connection:
            with pytest.raises(SealingError):
                await accounts.reveal_token(connection, database.keys, account_id)
