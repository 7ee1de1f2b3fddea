"""The memory of request bodies."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest

from addons import body_budget
from addons.body_budget import SMALL_BODY_BYTES, BodyBudget
from addons.exchange import Exchange, Marks
from addons.outcome import Refused


def exchange(length: bytes | None = None) -> Exchange:
    headers = [] if length is None else [(b"Content-Length", length)]
    now = datetime.now(UTC)
    return Exchange(str(uuid4()), now, "POST", "/", "", headers, "", http2=False, marks=Marks(0.0))


@pytest.mark.parametrize(("length", "status"), [(b"101", 413), (b"x", 400), (b"-1", 400)])
def test_a_declared_length_is_refused_before_anything_is_read(length, status):
    with pytest.raises(Refused) as refused:
        BodyBudget(100).check_declared(exchange(length))
    assert refused.value.status == status


def test_acceptable_lengths_pass():
    for length in (None, b"0", b"100"):
        BodyBudget(100).check_declared(exchange(length))


def test_large_bodies_share_what_there_is(monkeypatch):
    monkeypatch.setattr(body_budget, "ALL_BODIES_BYTES", 200_000)
    budget = BodyBudget(10**9)
    first, second = exchange(), exchange()
    assert budget.refusal(first, SMALL_BODY_BYTES) is None
    assert budget.held_bytes == 0
    assert budget.refusal(first, 100_000) is None
    assert budget.refusal(first, 150_000) is None
    assert budget.held_bytes == 150_000
    assert budget.refusal(second, 100_000).status == 503
    budget.forget(first)
    assert budget.held_bytes == 0
    assert budget.refusal(second, 100_000) is None
    budget.forget(second)
    budget.forget(second)
    assert budget.held_bytes == 0


def test_a_body_counts_until_it_has_left(monkeypatch):
    monkeypatch.setattr(body_budget, "ALL_BODIES_BYTES", 200_000)
    budget = BodyBudget(10**9)
    first, second, third = exchange(), exchange(), exchange()
    gone: set[str] = set()
    for each in (first, second):
        assert budget.refusal(each, 100_000) is None
        budget.leaves(each, lambda number=each.id: number in gone)
    assert budget.refusal(third, 100_000).status == 503
    gone.add(second.id)
    assert budget.refusal(third, 100_000) is None
    assert budget.held_bytes == 200_000
    budget.forget(first)
    gone.add(first.id)
    budget.leaves(first, pytest.fail)  # too late: it is asked no more
    assert budget.refusal(first, 150_000).status == 503
    for each in (second, third):
        budget.forget(each)
    assert budget.held_bytes == 0


def test_a_body_that_grows_too_long_is_refused():
    assert BodyBudget(100).refusal(exchange(), 101).status == 413
