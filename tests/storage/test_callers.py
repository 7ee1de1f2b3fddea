from datetime import UTC, datetime, timedelta

from storage import accounts, callers
from storage.identifiers import uuid7
from storage.sealing import MasterKeys
from storage.tokens import new_token


def this_month():
    return datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


async def test_an_unknown_token_is_nobody(proxy, database, new_account):
    await new_account()
    assert await callers.find_caller(proxy, database.keys.token_digests(new_token())) is None
    assert await callers.find_caller(proxy, []) is None


async def test_a_caller_without_keys_has_none(proxy, database, new_account):
    account = await new_account()
    caller = await callers.find_caller(proxy, database.keys.token_digests(account.token))
    assert caller == callers.Caller(account.id, "free", {}, this_month().date(), 0)


async def test_a_token_is_found_by_the_digest_of_an_older_master_key(api, proxy, tmp_path):
    old = MasterKeys.create(tmp_path / "old.key")
    account = await accounts.create_account(api, old, "ann@example.com")
    both = [bytes(32), *old.token_digests(account.token)]
    assert (await callers.find_caller(proxy, both)).account_id == account.id


async def test_a_callers_repr_shows_no_sealed_key(proxy):
    caller = callers.Caller(uuid7(), "free", {"openai": b"hush"}, this_month().date(), 0)
    assert "hush" not in repr(caller)


async def test_the_months_requests_count_what_was_forwarded(
    proxy, database, writer, new_account, log_row
):
    account = await new_account()
    month = this_month()
    writer.write(
        [
            log_row(account.id, month - timedelta(seconds=1)),
            log_row(account.id, month),
            log_row(account.id, month, model="gpt-5-mini", cached=True, overhead_ms=None),
            log_row(account.id, month, outcome="client_closed", status=None, overhead_ms=None),
            log_row(account.id, month, outcome="refused", status=429),
            log_row(account.id, outcome="provider_error", status=500),
        ]
    )
    caller = await callers.find_caller(proxy, database.keys.token_digests(account.token))
    assert (caller.month, caller.month_requests) == (month.date(), 3)


async def test_a_plan_without_a_limit_counts_nothing(proxy, database, writer, new_account, log_row):
    account = await new_account("pro")
    writer.write([log_row(account.id)])
    caller = await callers.find_caller(proxy, database.keys.token_digests(account.token))
    assert (caller.plan, caller.month_requests) == ("pro", 0)
