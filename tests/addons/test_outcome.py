"""Refusals carry what an answer needs."""

import pytest

from addons.outcome import Outcome, Refused


def test_a_refusal_is_an_exception_with_its_message():
    with pytest.raises(Refused, match="too fast") as refused:
        raise Refused(429, "rate_limited", "too fast", retry_after=3, headers={"a": "b"})
    assert (refused.value.status, refused.value.code) == (429, "rate_limited")
    assert (refused.value.retry_after, refused.value.headers) == (3, {"a": "b"})
    assert refused.value.outcome is Outcome.REFUSED


def test_outcomes_are_the_names_of_the_log():
    assert {each.value for each in Outcome} == {
        *("ok", "provider_error", "refused", "timeout", "client_closed", "upstream_closed")
    }
