"""The comparison itself: each kind of untruth is found, and a true book is not complained about."""

from dataclasses import replace
from decimal import Decimal

import pytest

from scripts.proof import books
from scripts.proof.books import Expected, Seen, Tokens

ANNA, BOB = "anna@example.com", "bob@example.com"
EXPECTED = Expected("openai", tokens=Tokens(7, 5, 12), cost=Decimal("0.000321"))


def seen(number: int, **more) -> Seen:
    usual = {"id": f"id-{number}", "status": 200, "whole": True, "began": 10.0, "ended": 11.0}
    return Seen(ANNA, "stored", **({"expected": EXPECTED} | usual | more))


def row(number: int, **more):
    return {
        "id": f"id-{number}",
        "person": ANNA,
        "mode": "stored",
        "requester": "anna",
        "provider": "openai",
        "status": 200,
        "outcome": "ok",
        "cached": False,
        "input_tokens": 7,
        "output_tokens": 5,
        "total_tokens": 12,
        "cache_read_tokens": None,
        "reasoning_tokens": 0,
        "cost_usd": Decimal("0.000321000000"),
    } | more


def test_a_true_book():
    found = books.compare_rows([seen(1), seen(2)], [row(2), row(1)])
    assert not found
    assert str(found).splitlines() == [f"{name}: 0" for name in found.__slots__]


def test_a_row_that_is_lost():
    found = books.compare_rows([seen(1), seen(2)], [row(2)])
    assert found.lost == ["id-1 (200)"]


def test_a_row_that_is_there_twice():
    found = books.compare_rows([seen(1)], [row(1), row(1)])
    assert found.doubled == ["id-1 has 2 rows"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("total_tokens", 13),
        ("input_tokens", None),
        ("output_tokens", 0),
        ("cache_read_tokens", 1),
        ("reasoning_tokens", 64),
        ("cost_usd", Decimal("0.000322")),
        ("cost_usd", None),
        ("outcome", "client_closed"),
        ("status", 500),
        ("cached", True),
        ("mode", "pass-through"),
        ("provider", "grok"),
        ("person", BOB),
        ("requester", "bob"),
    ],
)
def test_a_row_that_says_something_else(name, value):
    found = books.compare_rows([seen(1)], [row(1) | {name: value}])
    assert len(found.wrong) == 1
    assert found.wrong[0].startswith(f"id-1: {name} is ")


def test_a_row_of_a_request_that_nobody_sent():
    found = books.compare_rows([seen(1)], [row(1), row(7)])
    assert found.doubled == [f"{ANNA} has 1 rows of 0 requests without an answer"]


def test_who_got_no_answer_may_have_a_row_but_not_two():
    unanswered = seen(0, id=None, status=None, whole=False)
    assert not books.compare_rows([unanswered], [])
    assert not books.compare_rows([unanswered], [row(7)])
    assert books.compare_rows([unanswered], [row(7), row(8)]).doubled


def test_an_answer_that_was_not_read_to_its_end():
    part = seen(1, whole=False)
    assert not books.compare_rows([part], [])
    assert not books.compare_rows([part], [row(1, outcome="client_closed", total_tokens=None)])
    assert books.compare_rows([part], [row(1), row(1)]).doubled
    assert books.compare_rows([part], [row(1, person=BOB)]).wrong


def test_refusals_have_one_row_at_most():
    refused = seen(1, status=429, code="rate_limited")
    nothing = {"input_tokens": None, "output_tokens": None, "total_tokens": None, "cost_usd": None}
    own = row(1, status=429, outcome="refused", **nothing)
    assert not books.compare_rows([refused], [])
    assert not books.compare_rows([refused], [own])
    assert books.compare_rows([refused], [own | {"outcome": "ok"}]).wrong


@pytest.mark.parametrize("code", sorted(books.WITHOUT_ROW))
def test_who_is_not_known_has_no_row(code):
    refused = seen(1, status=401, code=code)
    assert not books.compare_rows([refused], [])
    assert books.compare_rows([refused], [row(1)]).wrong


@pytest.mark.parametrize(("code", "outcome"), books.OUTCOMES.items())
def test_what_metrion_says_for_a_provider_has_a_row(code, outcome):
    failed = seen(1, status=502, code=code)
    nothing = {"input_tokens": None, "output_tokens": None, "total_tokens": None, "cost_usd": None}
    assert books.compare_rows([failed], []).lost
    assert not books.compare_rows([failed], [row(1, status=502, outcome=outcome, **nothing)])


def test_an_error_of_a_provider():
    failed = seen(1, status=529)
    nothing = {"input_tokens": None, "output_tokens": None, "total_tokens": None, "cost_usd": None}
    own = row(1, status=529, outcome="provider_error", **nothing)
    assert not books.compare_rows([failed], [own])
    assert books.compare_rows([failed], [own | {"total_tokens": 12}]).wrong


def test_a_stored_answer_costs_nothing():
    hit = seen(1, cache="HIT")
    free = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "cost_usd": Decimal(0)}
    assert not books.compare_rows([hit], [row(1, cached=True, **free)])
    assert books.compare_rows([hit], [row(1)]).wrong


def test_of_a_broken_answer_only_the_status_is_known():
    broken = seen(1, expected=replace(EXPECTED, is_broken=True))
    assert not books.compare_rows([broken], [row(1, total_tokens=None, outcome="timeout")])
    assert books.compare_rows([broken], [row(1, status=502)]).wrong


def test_defects_and_silence_are_found():
    assert books.compare_rows([seen(1, status=500, code=books.DEFECT)], []).wrong
    assert books.compare_rows([seen(1, id=None, status=None, whole=False, hung=True)], []).wrong
    should_not_pass = seen(1, expected=Expected("openai", refusal="invalid_request"))
    assert "not invalid_request" in books.compare_rows([should_not_pass], [row(1)]).wrong[0]


def test_a_full_disk_excuses_as_many_as_were_counted_and_only_then():
    three = [seen(number) for number in range(3)]
    window = [(10.5, 10.6)]
    assert not books.compare_rows(three, [], dropped=3, disk_was_full=window)
    found = books.compare_rows(three, [], dropped=2, disk_was_full=window)
    assert found.lost == ["id-2 (200), not dropped"]
    assert len(books.compare_rows(three, [], dropped=3, disk_was_full=[(11.5, 12.0)]).lost) == 3


def test_records_that_disagree():
    rows = [("anna", "2026-01-01", 3, Decimal("0.5")), ("bob", "2026-01-01", 1, Decimal(0))]
    assert not books.compare_records(rows, reversed(rows), "days")
    found = books.compare_records(rows, [(*rows[0][:2], 4, Decimal("0.5")), rows[1]], "days")
    assert [each.partition(" ")[0] for each in found.other] == ["days:", "days:"]
    assert books.compare_records(rows, rows[:1], "days").other
    assert books.compare_records(rows[:1], rows, "days").other


def test_providers_got_what_was_recorded():
    both = [seen(1), seen(2)]
    assert books.compare_providers(both, {ANNA: 2}, [row(1), row(2)]) == (0, books.Findings())
    assert books.compare_providers(both, {ANNA: 1}, [row(1), row(2)])[1].other, "from nowhere"
    assert books.compare_providers(both, {ANNA: 3}, [row(1), row(2)])[1].other, "behind the books"
    killed = seen(3, whole=False)
    number, found = books.compare_providers([*both, killed], {ANNA: 3}, [row(1), row(2)])
    assert (number, bool(found)) == (1, False)
    assert not books.compare_providers(both, {ANNA: 1}, [row(1), row(2, cached=True)])[1]
    assert not books.compare_providers(both, {ANNA: 2}, [row(1)])[1], "the disk was full"


def test_findings_are_put_together():
    found, more = books.Findings(lost=["a"]), books.Findings(lost=["b"], leaked=["c"])
    found.add(more)
    assert (found.lost, found.leaked) == (["a", "b"], ["c"])
    assert "lost: 2\n  a\n  b" in str(found)
