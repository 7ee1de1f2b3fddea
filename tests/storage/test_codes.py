import asyncio

import pytest

from storage.codes import CODE_DIGITS, issue_code, try_code
from storage.errors import TooManyCodes
from storage.sealing import MasterKeys

EMAIL = "ada@example.com"


async def issue(api, keys, purpose="sign_in", email=EMAIL):
    async with api.system() as connection:
        return await issue_code(connection, keys, purpose, email)


async def attempt(api, keys, code, purpose="sign_in", email=EMAIL):
    async with api.system() as connection:
        return await try_code(connection, keys, purpose, email, code)


async def test_a_code_knows_its_account(api, database, new_account):
    account = await new_account(email=EMAIL)
    issued = await issue(api, database.keys, email="ADA@example.com")
    assert issued.account_id == account.id
    assert len(issued.code) == CODE_DIGITS
    assert issued.code not in repr(issued)
    assert (await issue(api, database.keys, email="eve@example.com")).account_id is None


async def test_who_only_looks_alike_gets_no_code_for_the_account(api, database, new_account):
    ken = await new_account(email="ken@github.com")
    for other in ("ken@g\u0130thub.com", "\u212aen@github.com"):
        async with api.system() as connection:
            issued = await issue_code(connection, database.keys, "sign_in", other)
            assert issued.account_id is None
        async with api.system() as connection:
            assert not await try_code(
                connection, database.keys, "sign_in", "ken@github.com", issued.code
            )
    async with api.system() as connection:
        issued = await issue_code(connection, database.keys, "sign_in", "KEN@GitHub.com")
    assert issued.account_id == ken.id


async def test_purposes_do_not_mix(api, database):
    sign_in = await issue(api, database.keys)
    deletion = await issue(api, database.keys, "deletion")
    assert not await attempt(api, database.keys, sign_in.code, "deletion") or (
        sign_in.code == deletion.code
    )
    assert await attempt(api, database.keys, sign_in.code)
    assert await attempt(api, database.keys, deletion.code, "deletion")


async def test_tried_by_many_at_once_it_works_once(api, database):
    code = (await issue(api, database.keys)).code
    done = await asyncio.gather(*(attempt(api, database.keys, code) for _ in range(5)))
    assert sorted(done) == [False] * 4 + [True]


async def test_tried_by_many_at_once_it_has_five_tries(api, database, administrator):
    code = (await issue(api, database.keys)).code
    wrong = f"{(int(code) + 1) % 10**CODE_DIGITS:06}"
    await asyncio.gather(*(attempt(api, database.keys, wrong) for _ in range(9)))
    row = administrator.execute("SELECT tries FROM metrion.codes").fetchone()
    assert row == {"tries": 5}
    assert not await attempt(api, database.keys, code)


async def test_five_an_hour_and_twenty_a_day(api, database, administrator):
    for day_part in range(4):
        for _ in range(5):
            last = await issue(api, database.keys)
        with pytest.raises(TooManyCodes) as caught:
            await issue(api, database.keys)
        if day_part < 3:
            assert 3590 < caught.value.seconds <= 3600
        administrator.execute(
            "UPDATE metrion.codes SET sent = ARRAY(SELECT at - interval '1 hour' FROM unnest(sent) at)"
        )
    with pytest.raises(TooManyCodes) as caught:
        await issue(api, database.keys)
    assert 19 * 3600 < caught.value.seconds <= 20 * 3600
    assert await attempt(api, database.keys, last.code)  # refused codes do not end the live one
    administrator.execute(
        "UPDATE metrion.codes SET sent = ARRAY(SELECT at - interval '1 day' FROM unnest(sent) at)"
    )
    await issue(api, database.keys)


async def test_a_code_survives_a_new_master_key_but_not_another_one(api, database):
    keys = {1: b"a" * 16 + bytes(range(16)), 2: b"b" * 16 + bytes(range(16))}
    code = (await issue(api, MasterKeys({1: keys[1]}, active=1))).code
    assert not await attempt(api, MasterKeys({2: keys[2]}, active=2), code)
    assert await attempt(api, MasterKeys(keys, active=2), code)


async def test_a_code_dies_with_its_account(api, database, new_account, administrator):
    await new_account(email=EMAIL)
    await issue(api, database.keys)
    administrator.execute("DELETE FROM metrion.accounts")
    assert administrator.execute("SELECT FROM metrion.codes").fetchall() == []
