import json
import uuid
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons import rows
from addons.credentials import KeyGuard
from addons.exchange import CacheUse, Exchange, Marks, Mode
from addons.meter import Meter
from addons.outcome import Outcome
from addons.providers import load_providers
from addons.providers.base import RouteTable
from addons.rows import (
    REFUSED_ROWS_PER_MINUTE,
    RefusalRows,
    milliseconds,
    overhead_ms,
    request_log,
)
from storage.callers import Caller
from storage.pricing import TokenUsage
from storage.response_cache import StoredAnswer

TOKEN = "sk-metrion-" + "0123456789abcdef" * 2
KEY = "Zz9Yy8Xx7Ww6Vv5Uu4Tt3Ss2Rr1Qq0Pp"  # of a form that nothing gives away, as Mistral's
TABLE = RouteTable(load_providers(), {})
ACCOUNT = uuid.uuid4()
TEXTS = st.text(st.characters())  # any, also NUL and halves of characters


def exchange(**fields: Any) -> Exchange:
    at = datetime(2025, 6, 15, 12, 30, tzinfo=UTC)
    path = "/api/proxy/mistral/v1/chat/completions"
    made = Exchange(
        str(uuid.uuid4()), at, "POST", path, "", [], "192.0.2.1", http2=False, marks=Marks(0.0)
    )
    made.route = TABLE.match("POST", path)
    made.provider = made.route.provider
    made.caller = Caller(ACCOUNT, "free", {"mistral": b"sealed"}, date(2025, 6, 1), 0)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def meter(body: bytes) -> Meter:
    made = Meter("openai.chat", "application/json", "")
    made.feed(body)
    made.finish()
    return made


class TestRequestLog:
    def test_whole_row(self) -> None:
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        answer = {"model": "mistral-small-2506", "choices": [], "usage": usage}
        made = exchange(
            mode=Mode.PASS_THROUGH,
            model="mistral-small-latest",
            requester="alice",
            streamed=True,
            status=200,
            meter=meter(json.dumps(answer).encode()),
            marks=Marks(
                head=100.0,
                admitted=100.001,
                body=100.101,
                forwarded=100.1015,
                answer_head=100.7,
                answered=100.7002,
                first_byte=100.75,
                end=101.5,
            ),
        )
        row = request_log(made, left_out=0)
        spent = row.pop("usage")
        assert isinstance(spent, TokenUsage)
        assert (spent.input_tokens, spent.output_tokens) == (10, 5)
        assert row == {
            "id": str(made.id),
            "account_id": str(ACCOUNT),
            "created_at": "2025-06-15T12:30:00+00:00",
            "provider": "mistral",
            "endpoint": "chat/completions",
            "model": "mistral-small-2506",
            "requester": "alice",
            "mode": "pass-through",
            "status": 200,
            "outcome": "ok",
            "streamed": True,
            "cached": False,
            "latency_ms": 1500.0,
            "ttfb_ms": 750.0,
            "overhead_ms": 1.7,
            "error": None,
            "left_out": 0,
        }

    def test_a_stored_answer_says_what_it_used_when_it_was_made(self) -> None:
        stored = StoredAnswer((), b"", (), "mistral-small-2506", {"input_tokens": 3})
        use = CacheUse(reads=True, life=1, oldest=1, answer=stored)
        row = request_log(exchange(model="mistral-small-latest", cache=use), left_out=0)
        assert (row["cached"], row["usage"]) == (True, {"input_tokens": 3})
        assert row["model"] == "mistral-small-2506"
        json.dumps(row)
        use.answer = None
        assert not request_log(exchange(cache=use), left_out=0)["cached"]

    def test_refusal_before_anything_was_read(self) -> None:
        made = exchange(
            status=429, outcome=Outcome.REFUSED, error="Too many.", marks=Marks(1.0, end=1.0001)
        )
        row = request_log(made, left_out=0)
        assert (row["status"], row["outcome"], row["error"]) == (429, "refused", "Too many.")
        assert (row["model"], row["requester"], row["usage"]) == (None, None, None)
        assert (row["latency_ms"], row["ttfb_ms"], row["overhead_ms"]) == (0.1, None, None)

    def test_the_model_is_the_one_asked_for_until_the_provider_says(self) -> None:
        assert request_log(exchange(model="asked"), left_out=0)["model"] == "asked"
        silent = exchange(model="asked", meter=meter(b"{}"))
        assert request_log(silent, left_out=0)["model"] == "asked"

    @given(requester=TEXTS, model=TEXTS, error=TEXTS, said=st.text())
    def test_whatever_they_hold_the_row_is_json_for_postgresql(
        self, requester: str, model: str, error: str, said: str
    ) -> None:
        answers = [None, meter(json.dumps({"model": said, "error": {"message": said}}).encode())]
        for answer in answers:
            made = exchange(requester=requester, model=model, error=error, meter=answer)
            made.guard = KeyGuard(KEY.encode())
            row = request_log(made, left_out=3)
            del row["usage"]
            text = json.dumps(row, ensure_ascii=False)
            assert text.encode().decode() == text
            assert "\\u0000" not in text
            assert len(row["error"]) <= 500
            for name in ("requester", "model"):
                assert row[name] is None or 0 < len(row[name]) <= 200

    @pytest.mark.parametrize("field", ["requester", "model", "error"])
    def test_no_token_gets_into_a_row(self, field: str) -> None:
        # such as `x-metrion-user` mistaken for `x-metrion-token`
        row = request_log(exchange(**{field: f"x {TOKEN}"}), left_out=0)
        assert row[field] == "x [redacted]"

    @pytest.mark.parametrize("message", ["{}", "no: {}.", 'key "{}" and again {}', "a\nb{}c"])
    def test_the_key_that_was_used_is_not_in_the_error(self, message: str) -> None:
        made = exchange(error=message.replace("{}", KEY), guard=KeyGuard(KEY.encode()))
        error = request_log(made, left_out=0)["error"]
        assert KEY not in error
        assert "*" * len(KEY) in error

    @pytest.mark.parametrize("field", ["requester", "model"])
    def test_the_key_that_was_used_is_in_no_label(self, field: str) -> None:
        made = exchange(**{field: f"x {KEY}"}, guard=KeyGuard(KEY.encode()))
        assert request_log(made, left_out=0)[field] == f"x {'*' * len(KEY)}"
        # cut off where labels end
        long = exchange(**{field: "x" * 190 + KEY}, guard=KeyGuard(KEY.encode()))
        assert request_log(long, left_out=0)[field] == "x" * 190 + "*" * 10

    def test_left_out_rows_are_said_even_if_the_error_is_long(self) -> None:
        row = request_log(exchange(error="é" * 1000), left_out=7)
        assert row["left_out"] == 7
        assert row["error"].startswith("(7 refused requests before this one are not logged) é")
        assert len(row["error"]) == 500
        row = request_log(exchange(), left_out=1)
        assert row["error"] == "(1 refused requests before this one are not logged)"


class TestTimes:
    @pytest.mark.parametrize(
        ("start", "end", "value"),
        [
            (1.0, 1.0, 0.0),
            (1.0, 2.5, 1500.0),
            (1.0, 1.0000004, 0.0),
            (1.0, 1.0000126, 0.013),
            (None, 1.0, None),
            (1.0, None, None),
        ],
    )
    def test_milliseconds(
        self, start: float | None, end: float | None, value: float | None
    ) -> None:
        assert milliseconds(start, end) == value

    @pytest.mark.parametrize("missing", ["admitted", "body", "forwarded"])
    def test_no_overhead_of_what_was_not_forwarded(self, missing: str) -> None:
        marks = Marks(head=1.0, admitted=1.1, body=1.2, forwarded=1.3)
        assert overhead_ms(marks) == 200.0
        setattr(marks, missing, None)
        assert overhead_ms(marks) is None

    def test_waiting_for_others_is_not_overhead(self) -> None:
        marks = Marks(
            head=10.0,
            admitted=10.001,
            body=20.0,  # a slow client
            forwarded=20.002,
            answer_head=50.0,  # a slow provider
            answered=50.003,
            first_byte=60.0,
            end=90.0,
        )
        assert overhead_ms(marks) == 6.0


class Clock:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class TestRefusalRows:
    def test_ten_a_minute_and_the_next_row_says_the_rest(self, clock: Clock) -> None:
        refusals = RefusalRows(clock)
        written = [refusals.may_write(ACCOUNT, Outcome.REFUSED) for _ in range(544)]
        assert written == [True] * 10 + [False] * 534
        clock.now += 60
        assert refusals.may_write(ACCOUNT, Outcome.REFUSED)
        assert refusals.take_left_out(ACCOUNT) == 534
        assert refusals.take_left_out(ACCOUNT) == 0

    @pytest.mark.parametrize("outcome", [o for o in Outcome if o is not Outcome.REFUSED])
    def test_other_outcomes_are_always_written(self, clock: Clock, outcome: Outcome) -> None:
        refusals = RefusalRows(clock)
        for _ in range(20):
            refusals.may_write(ACCOUNT, Outcome.REFUSED)
        assert all(refusals.may_write(ACCOUNT, outcome) for _ in range(100))
        assert refusals.take_left_out(ACCOUNT) == 10

    def test_accounts_are_apart(self, clock: Clock) -> None:
        refusals, other = RefusalRows(clock), uuid.uuid4()
        for _ in range(20):
            refusals.may_write(ACCOUNT, Outcome.REFUSED)
        assert refusals.may_write(other, Outcome.REFUSED)
        assert refusals.take_left_out(other) == 0
        assert refusals.take_left_out(uuid.uuid4()) == 0

    @given(st.lists(st.sampled_from([0.0, 0.1, 5.0, 30.0, 59.9, 60.0])))
    def test_no_minute_ever_holds_more(self, pauses: list[float]) -> None:
        clock = Clock()
        refusals = RefusalRows(clock)
        written: list[float] = []
        told = 0
        for pause in pauses:
            clock.now += pause
            if refusals.may_write(ACCOUNT, Outcome.REFUSED):
                told += refusals.take_left_out(ACCOUNT)
                written.append(clock.now)
        told += refusals.take_left_out(ACCOUNT)
        assert len(written) + told == len(pauses)
        for at in written:
            assert sum(at <= other < at + 60 for other in written) <= REFUSED_ROWS_PER_MINUTE

    def test_memory_is_bounded(self, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rows, "_MAX_ACCOUNTS", 50)
        refusals = RefusalRows(clock)
        for _ in range(200):
            refusals.may_write(uuid.uuid4(), Outcome.REFUSED)
        assert len(refusals._counts) == 50
