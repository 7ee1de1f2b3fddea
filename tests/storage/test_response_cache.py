import asyncio
import uuid
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import response_cache, retention, roles, rotation
from storage.database import Database
from storage.errors import DatabaseUnavailable, SealingError
from storage.response_cache import ResponseCache, StoredAnswer
from storage.retention import delete_expired_answers
from storage.sealing import MasterKeys
from storage.single_statements import SingleStatements

WEEK = 7 * 24 * 3600
SAID = b"CANARY of an answer"
ANSWER = StoredAnswer(
    (("content-type", "text/event-stream"),), SAID, (6, 13), "gpt-5", {"input_tokens": 3}
)
ASKED = b"\x01" * 32
OTHER = b"\x02" * 32


@pytest.fixture
async def statements(database):
    opened = SingleStatements(database.url(roles.PROXY))
    yield opened
    await opened.close()


@pytest.fixture
def cache(statements, database):
    return ResponseCache(statements, database.keys)


@pytest.fixture
async def account(new_account):
    return (await new_account()).id


def count(administrator):
    return administrator.execute("SELECT count(*) FROM metrion.response_cache").fetchone()["count"]


def answer(size: int) -> StoredAnswer:
    return StoredAnswer((), b"x" * size, (size,), None, None)


@given(
    st.lists(st.tuples(st.text(), st.text())),
    st.binary(),
    st.lists(st.integers(min_value=0)),
    st.none() | st.text(),
    st.none() | st.dictionaries(st.text(), st.integers() | st.text()),
)
def test_what_is_packed_is_unpacked(headers, body, sizes, model, usage):
    made = StoredAnswer(tuple(headers), body, tuple(sizes), model, usage)
    assert StoredAnswer.unpack(made.pack(ASKED), 0) == made


async def test_an_answer_is_given_again_to_its_account_and_request_only(
    cache, account, new_account
):
    assert await cache.find(account, ASKED, WEEK) is None
    assert await cache.store(account, ASKED, ANSWER, WEEK)
    assert await cache.find(account, ASKED, WEEK) == ANSWER
    assert await cache.find(account, OTHER, WEEK) is None
    assert await cache.find((await new_account()).id, ASKED, WEEK) is None
    assert "CANARY" not in repr(ANSWER)


async def test_a_newer_answer_takes_the_place_of_the_older(cache, account, administrator):
    newer = StoredAnswer((), b"newer", (5,), None, None)
    await cache.store(account, ASKED, ANSWER, WEEK)
    await cache.store(account, ASKED, newer, WEEK)
    assert await cache.find(account, ASKED, WEEK) == newer
    assert count(administrator) == 1


async def test_the_same_answer_stored_at_once_is_there_once(cache, account, administrator):
    await asyncio.gather(*(cache.store(account, ASKED, ANSWER, WEEK) for _ in range(10)))
    assert count(administrator) == 1


async def test_an_answer_has_its_time(cache, account, administrator, jobs):
    await cache.store(account, ASKED, ANSWER, 60)
    await cache.store(account, OTHER, ANSWER, 6000)
    administrator.execute(
        "UPDATE metrion.response_cache SET created_at = created_at - %(ago)s,"
        " expires_at = expires_at - %(ago)s",
        {"ago": timedelta(seconds=90)},
    )
    assert await cache.find(account, ASKED, WEEK) is None
    found = await cache.find(account, OTHER, WEEK)
    assert found is not None
    assert 90 <= found.age < 100
    # nobody gets an older one than they say
    assert await cache.find(account, OTHER, 80) is None
    assert await cache.find(account, OTHER, 120) is not None


async def test_what_is_over_is_deleted_by_a_job_and_by_the_next_answer(
    cache, account, administrator, database, new_account
):
    other = (await new_account()).id
    for owner, asked, life in ((account, ASKED, 0), (other, OTHER, WEEK), (other, ASKED, 0)):
        await cache.store(owner, asked, ANSWER, life)
    await cache.store(account, OTHER, ANSWER, WEEK)
    assert count(administrator) == 3
    opened = Database(database.url(roles.JOBS))
    assert await delete_expired_answers(opened) == 1
    assert await delete_expired_answers(opened) == 0
    await opened.close()
    assert count(administrator) == 2


async def test_many_that_are_over_are_deleted_in_chunks(
    cache, account, administrator, database, monkeypatch
):
    monkeypatch.setattr(retention, "_CHUNK_ANSWERS", 3)
    for number in range(7):
        await cache.store(account, bytes([number]) * 32, ANSWER, WEEK)
    administrator.execute("UPDATE metrion.response_cache SET expires_at = now()")
    opened = Database(database.url(roles.JOBS))
    assert await delete_expired_answers(opened) == 7
    await opened.close()


async def test_an_account_keeps_so_much_and_its_oldest_answers_go(
    statements, database, account, administrator, new_account
):
    cache = ResponseCache(statements, database.keys, account_bytes=3500)
    other = (await new_account()).id
    await cache.store(other, ASKED, answer(1000), WEEK)
    requests = [bytes([number]) * 32 for number in range(5)]
    for asked in requests:
        await cache.store(account, asked, answer(1000), WEEK)
    found = [await cache.find(account, asked, WEEK) is not None for asked in requests]
    assert found == [False, False, True, True, True]
    assert await cache.find(other, ASKED, WEEK) is not None
    # one that is larger than all of it leaves nothing
    await cache.store(account, ASKED, answer(5000), WEEK)
    sizes = administrator.execute(
        "SELECT sum(bytes) FROM metrion.response_cache GROUP BY account_id"
    ).fetchall()
    assert len(sizes) == 1


async def test_the_database_alone_says_neither_what_was_asked_nor_what_was_answered(
    cache, account, administrator
):
    await cache.store(account, ASKED, ANSWER, WEEK)
    (row,) = administrator.execute("SELECT * FROM metrion.response_cache").fetchall()
    kept = b"".join(value for value in row.values() if isinstance(value, bytes))
    assert SAID not in kept
    assert ASKED not in kept
    assert b"gpt-5" not in kept
    # another ring finds nothing, and opens nothing
    stranger = ResponseCache(cache._statements, MasterKeys({1: bytes(range(32))}, 1))
    assert await stranger.find(account, ASKED, WEEK) is None
    binding = response_cache.answer_binding(account, row["id"])
    with pytest.raises(SealingError):
        stranger._keys.open(row["sealed"], binding)


MOVED = {
    "to another account": "UPDATE metrion.response_cache SET account_id = %(other)s",
    "to another row": "UPDATE metrion.response_cache SET id = gen_random_uuid()",
    "cut": "UPDATE metrion.response_cache SET sealed = substring(sealed FROM 1 FOR 60)",
    "from a token": "UPDATE metrion.response_cache AS c SET sealed = t.sealed"
    " FROM metrion.tokens AS t WHERE t.account_id = c.account_id",
}


@pytest.mark.parametrize("how", MOVED)
async def test_an_answer_that_was_moved_in_the_database_does_not_open(
    how, cache, account, administrator, new_account
):
    other = (await new_account()).id
    await cache.store(account, ASKED, ANSWER, WEEK)
    administrator.execute(MOVED[how], {"other": other})
    with pytest.raises(SealingError):
        await cache.find(other if "account" in how else account, ASKED, WEEK)


async def test_answers_go_with_their_account_and_none_comes_after(
    cache, account, administrator, new_account
):
    other = (await new_account()).id
    for owner in (account, other):
        await cache.store(owner, ASKED, ANSWER, WEEK)
    administrator.execute("DELETE FROM metrion.accounts WHERE id = %s", [account])
    assert not await cache.store(account, ASKED, ANSWER, WEEK)
    assert not await cache.store(uuid.uuid4(), ASKED, ANSWER, WEEK)
    assert await cache.find(account, ASKED, WEEK) is None
    assert await cache.find(other, ASKED, WEEK) == ANSWER
    assert count(administrator) == 1


async def test_nobody_has_no_answers(cache, account, administrator):
    await cache.store(account, ASKED, ANSWER, WEEK)
    for nobody in (None, uuid.UUID(int=0)):
        assert (
            await cache._statements.fetch(
                response_cache._FIND, [nobody, response_cache._digests(cache._keys, ASKED), WEEK]
            )
            is None
        )
        assert await cache._statements.fetch(
            response_cache._STORE, [nobody, uuid.uuid4(), [b"x" * 32], b"x", WEEK, 1000]
        ) == (False,)
    assert count(administrator) == 1


async def test_answers_survive_a_rotation_of_the_master_key(
    cache, account, administrator, database, monkeypatch
):
    for name in ("SETTLE_SECONDS", "RETIRE_SECONDS", "_ROUND_SECONDS"):
        monkeypatch.setattr(rotation, name, 0)
    monkeypatch.setattr(rotation, "_BATCH_ROWS", 2)
    requests = [bytes([number]) * 32 for number in range(5)]
    for asked in requests:
        await cache.store(account, asked, ANSWER, WEEK)
    owner = Database(database.administrator_url, act_as=roles.DEFINER, pool_size=1)
    report = await rotation.rotate(owner, database.settings, lambda _: None)
    assert report.resealed["response_cache.sealed"] == 5
    assert report.is_complete
    report = await rotation.retire(owner, database.settings, lambda _: None)
    await owner.close()
    assert report.retired == [1]
    fresh = ResponseCache(cache._statements, MasterKeys.load(database.settings))
    for asked in requests:
        assert await fresh.find(account, asked, WEEK) == ANSWER
    # and in the middle of one, by the old digest: what is stored then is not there twice
    assert await fresh.store(account, ASKED, ANSWER, WEEK)
    assert count(administrator) == 5


async def test_two_processes_with_two_rings_hold_up_no_rotation(account, database, statements):
    """While the ring changes, a request may be known by both digests."""
    old = MasterKeys.load(database.settings)
    ring = {1: bytes(range(32)), 2: bytes(range(1, 33))}
    both, first = MasterKeys(ring, 2), MasterKeys({1: ring[1]}, 1)
    await ResponseCache(statements, first).store(account, ASKED, ANSWER, WEEK)
    await ResponseCache(statements, both).store(account, ASKED, ANSWER, WEEK)
    await ResponseCache(statements, first).store(account, ASKED, ANSWER, WEEK)
    place = next(p for p in rotation.SEALED_COLUMNS if str(p) == "response_cache.sealed")
    owner = Database(database.administrator_url, act_as=roles.DEFINER, pool_size=1)
    report = rotation.Report(2)
    await rotation._reseal_column(owner, both, place, report, lambda _: None)
    await owner.close()
    assert report.resealed == {"response_cache.sealed": 1}
    assert old.active == 1
    assert await ResponseCache(statements, both).find(account, ASKED, WEEK) == ANSWER


async def test_a_database_that_is_away_is_said(account, database):
    url = type(database.administrator_url)("postgresql://nobody@127.0.0.1:1/none")
    away = SingleStatements(url)
    cache = ResponseCache(away, database.keys)
    with pytest.raises(DatabaseUnavailable):
        await cache.find(account, ASKED, WEEK)
    with pytest.raises(DatabaseUnavailable):
        await cache.store(account, ASKED, ANSWER, WEEK)
    await away.close()
