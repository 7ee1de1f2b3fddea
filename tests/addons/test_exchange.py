import uuid
from datetime import UTC, date, datetime

import pytest

from addons.credentials import KeyGuard
from addons.exchange import Exchange, Marks, Mode
from addons.outcome import Outcome, Refused
from storage.callers import Caller

SECRET = "sk-REAL-0123456789abcdef"


def exchange() -> Exchange:
    return Exchange(
        str(uuid.uuid4()),
        datetime.now(UTC),
        "POST",
        "/a",
        "",
        [],
        "::1",
        http2=False,
        marks=Marks(0.0),
    )


def test_no_secret_shows_in_a_repr() -> None:
    # a repr ends up in tracebacks and logs
    made = exchange()
    made.headers = [(b"x-api-key", SECRET.encode())]
    made.token = made.own_key = SECRET
    made.body = SECRET.encode()
    made.guard = KeyGuard(SECRET.encode())
    made.caller = Caller(uuid.uuid4(), "free", {"openai": SECRET.encode()}, date(2025, 6, 1), 0)
    assert SECRET not in repr(made)


def test_nothing_is_shared_between_exchanges() -> None:
    one, other = exchange(), exchange()
    one.upstream_headers.append((b"a", b"b"))
    assert other.upstream_headers == []


def test_an_exchange_cannot_be_given_what_it_has_not() -> None:
    with pytest.raises(AttributeError):
        exchange().provider_key = SECRET  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "value"),
    [(b"a", b"1"), (b"b", b"2"), (b"c", None), (b"d", b"")],
)
def test_header_is_the_first_whatever_its_case(name: bytes, value: bytes | None) -> None:
    made = exchange()
    made.headers = [(b"A", b"1"), (b"b", b"2"), (b"B", b"3"), (b"d", b"")]
    assert made.header(name) == value


def test_refusals_are_refused_unless_they_say_otherwise() -> None:
    plain = Refused(429, "rate_limited", "Wait.")
    assert (plain.outcome, plain.retry_after, plain.headers) == (Outcome.REFUSED, None, {})
    assert str(plain) == "Wait."
    late = Refused(504, "provider_timeout", "Silent.", outcome=Outcome.TIMEOUT)
    assert late.outcome is Outcome.TIMEOUT


def test_headers_of_a_refusal_are_its_own() -> None:
    given = {"allow": "GET"}
    refused = Refused(405, "method_not_allowed", "No.", headers=given)
    given["allow"] = "POST"
    assert refused.headers == {"allow": "GET"}


def test_words_of_the_log() -> None:
    # the database, the dashboard and the command know these
    assert [mode.value for mode in Mode] == ["stored", "pass-through"]
    assert {outcome.value for outcome in Outcome} == {
        *("ok", "provider_error", "refused", "timeout", "client_closed", "upstream_closed")
    }
