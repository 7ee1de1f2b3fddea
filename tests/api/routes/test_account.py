import pytest

from storage import roles
from storage.accounts import set_plan
from storage.database import Database

PATH = "/api/v1/account"


async def test_the_account_says_what_it_is_and_used(api, sign_in, write_logs, account_of, database):
    sign_in("ada@example.com")
    account = account_of(api)
    write_logs(account, 3)
    write_logs(account, outcome="refused", status=429, overhead_ms=None)
    shown = api.get(PATH).json()
    assert shown | {"id": "", "created_at": ""} == {
        "id": "",
        "email": "ada@example.com",
        "plan": "free",
        "currency": "USD",
        "created_at": "",
        "region": "eu-west-1",
        "month_requests": 3,
        "month_limit": 10_000,
        "retention_days": 7,
    }
    as_api = Database(database.url(roles.API))
    async with as_api.account(account.id) as connection:
        await set_plan(connection, "pro")
    await as_api.close()
    shown = api.get(PATH).json()
    assert (shown["plan"], shown["month_limit"], shown["retention_days"]) == ("pro", None, 90)


@pytest.mark.parametrize("currency", ["EUR", "CHF", "USD"])
def test_money_is_shown_in_a_currency_of_choice(api, sign_in, currency):
    sign_in("ada@example.com")
    assert api.patch(PATH, json={"currency": currency}).json()["currency"] == currency
    assert api.patch(PATH, json={}).json() == api.get(PATH).json()
    assert api.get(PATH).json()["currency"] == currency


@pytest.mark.parametrize("change", [{"currency": "GBP"}, {"currency": 1}, [], "EUR"])
def test_no_other_currency(api, sign_in, change):
    sign_in("ada@example.com")
    assert api.patch(PATH, json=change).status_code == 422


async def test_the_metrion_key_is_not_enough(api, new_account):
    account = await new_account("ada@example.com")
    for answer in (
        api.get(PATH, headers=account.headers),
        api.patch(PATH, headers=account.headers, json={"currency": "EUR"}),
    ):
        assert answer.status_code == 401
        assert answer.json()["type"] == "/api/docs#problem-not-signed-in"
