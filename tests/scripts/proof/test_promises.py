"""Limits, stored answers and mails: what is broken of a promise is found."""

import pytest

from scripts.proof import promises
from scripts.proof.books import Expected, Seen
from scripts.proof.promises import Mail

ANNA, BOB = "anna@example.com", "bob@example.com"
EXPECTED = Expected("openai")


def seen(at: float, person: str = ANNA, **more) -> Seen:
    usual = {"began": at, "ended": at + 0.1, "id": f"id-{at}", "status": 200, "whole": True}
    return Seen(person, "stored", EXPECTED, **(usual | more))


def test_allowances_that_disagree():
    assert not promises.compare_allowance({ANNA: 3}, {ANNA: 3})
    assert not promises.compare_allowance({ANNA: 3, BOB: 0}, {ANNA: 3})
    assert promises.compare_allowance({ANNA: 3}, {ANNA: 2}).other
    assert promises.compare_allowance({ANNA: 3}, {}).other
    assert promises.compare_allowance({}, {BOB: 1}).other


def test_more_than_the_month_allows():
    ten = [seen(number) for number in range(10)]
    assert not promises.over_limit(ten, 10)
    assert promises.over_limit(ten, 9).other
    assert not promises.over_limit([*ten, seen(11, status=429, code="monthly_limit")], 10)


def test_while_the_count_is_away_each_process_counts_alone():
    ten, away = [seen(number) for number in range(10)], [(5.5, 9.5)]
    assert promises.over_limit(ten, 6, processes=2).other, "it was not away"
    assert not promises.over_limit(ten, 6, uncertain=away, processes=2)
    assert promises.over_limit(ten, 4, uncertain=[(0, 20)], processes=2).other, "twice at most"


def test_the_shared_count():
    own = [seen(1), seen(2), seen(3, whole=False)]
    rows = [{"id": "id-1"}, {"id": "id-2"}]
    assert not promises.compare_count(own, rows, {ANNA: 2}, {ANNA: 2}, [])
    assert not promises.compare_count(own, rows, {ANNA: 2}, {ANNA: 3}, []), "one has no row"
    assert promises.compare_count(own, rows, {ANNA: 2}, {ANNA: 4}, []).other
    assert promises.compare_count(own, rows, {ANNA: 2}, {ANNA: 1}, []).other
    away = [(0.5, 1.5)]
    assert not promises.compare_count(own, rows, {ANNA: 2}, {ANNA: 1}, away)
    assert promises.compare_count(own, rows, {ANNA: 2}, {ANNA: 0}, away).other, "it was told since"
    assert not promises.compare_count(own, rows, {ANNA: 2}, {ANNA: 0}, [(0.5, 9.0)])


@pytest.mark.parametrize(
    ("times", "is_over"),
    [
        ([0, 1, 2], False),
        ([0, 1, 2, 3], True),
        ([0, 1, 2, 61], False),
        ([0, 30, 59, 59.5], True),
        ([0, 30, 59, 60.1, 90.2], False),
    ],
)
def test_more_than_the_rate(times, is_over):
    found = promises.over_rate([seen(at) for at in times], 3, 60.0)
    assert bool(found) is is_over


def test_a_rate_while_the_count_is_away():
    times = [0, 1, 2, 3, 4]
    away = [(0.0, 0.5)]
    requests = [seen(at) for at in times]
    assert not promises.over_rate(requests, 3, 60.0, uncertain=away, processes=2)
    assert promises.over_rate(requests, 2, 60.0, uncertain=away, processes=2).other, "twice at most"
    assert promises.over_rate(requests, 3, 60.0, uncertain=[(100.0, 101.0)], processes=2).other
    alone = {"uncertain": away, "processes": 1}
    assert promises.over_rate(requests, 3, 60.0, **alone).other
    assert not promises.over_rate(requests, 3, 60.0, **alone, forgetful=[2.0]), "one more process"
    assert promises.over_rate(requests, 3, 60.0, processes=1, forgetful=[2.0]).other, "it was there"


def test_who_waits_longer_than_a_window_proves_nothing():
    late = [seen(at, ended=at + 70) for at in range(9)]
    assert not promises.over_rate(late, 3, 60.0)


def answer(at: float, number: int, digest: bytes = b"x", person: str = ANNA) -> Seen:
    return seen(at, person, number=number, digest=digest, cache="HIT")


def test_stored_answers():
    asked = {7: ANNA, 8: BOB}
    assert not promises.compare_cache([answer(1, 7), answer(2, 7), seen(3)], asked)
    assert promises.compare_cache([answer(1, 7), answer(2, 7, b"y")], asked).wrong
    assert promises.compare_cache([answer(1, 8)], asked).leaked
    assert promises.compare_cache([answer(1, 9)], asked).leaked, "of whom, nobody knows"


def mail(identifier: str, at: float = 1.0) -> Mail:
    return Mail(identifier, ANNA, "Alert", at)


def compare(decided: list[str], mails: list[Mail], kills: list[float] | None = None):
    return promises.compare_mails(decided, mails, kills or [], 60.0)


def test_mails_arrive_once():
    counts, found = compare(["a", "b"], [mail("a"), mail("b")])
    assert not found
    assert (counts.decided, counts.taken, counts.again) == (2, 2, 0)


def test_a_mail_that_does_not_arrive():
    assert compare(["a", "b"], [mail("a")])[1].lost == ["mail b"]


def test_a_mail_that_arrives_twice():
    assert compare(["a"], [mail("a"), mail("a", 3.0)])[1].doubled == ["mail a, 2.0 s later"]


def test_a_mail_may_arrive_twice_if_who_handed_it_over_was_killed_then():
    counts, found = compare(["a"], [mail("a"), mail("a", 62.0)], [1.2])
    assert (counts.again, bool(found)) == (1, False)
    assert compare(["a"], [mail("a", 100.0), mail("a", 170.0)], [1.2])[1].doubled, "long before"


def test_a_mail_that_nobody_decided_on():
    assert compare([], [mail("a")])[1].doubled == ["mail a was never decided on"]
