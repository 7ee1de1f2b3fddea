"""What passes is kept in bounded memory, and only what is whole may be stored."""

import itertools
import uuid
from datetime import UTC, datetime

from addons.answer_recording import Budget, Recording
from addons.exchange import Exchange, Marks


class Whole:
    """A meter that heard all of it."""

    complete, error_message, model, usage = True, None, "m", None


def answered(meter):
    made = Exchange(
        str(uuid.uuid4()),
        datetime.now(UTC),
        "POST",
        "/x",
        "",
        [],
        "",
        http2=False,
        marks=Marks(0.0),
    )
    made.meter = meter
    return made


def test_a_recording_is_bounded_and_gives_its_memory_back():
    budget = Budget(10_000)
    first = Recording([], budget, 5000)
    first.add(b"x" * 1000)
    first.add(b"")
    assert budget.held_bytes == 1064
    second = Recording([], budget, 100_000)
    second.add(b"x" * 8000)
    assert not second.is_given_up
    first.add(b"x" * 1000)  # all of them together
    assert first.is_given_up
    assert budget.held_bytes == 8064
    second.add(b"x" * 1000)
    del first
    assert budget.held_bytes == 9128
    del second
    assert budget.held_bytes == 0


def add(recording):
    recording.add(b"x")
    return not recording.is_given_up


def test_many_small_pieces_count_for_what_they_take():
    budget = Budget(10**9)
    recording = Recording([], budget, 100_000)
    pieces = sum(1 for _ in itertools.takewhile(lambda _: add(recording), itertools.count()))
    assert 1000 < pieces < 1600
    assert budget.held_bytes == 0


def test_an_answer_that_is_shorter_than_it_says_is_not_kept():
    for length, is_kept in ((b"3", True), (b"4", False)):
        recording = Recording([(b"content-length", length)], Budget(1000), 1000)
        recording.add(b"abc")
        assert (recording.answer(answered(Whole())) is not None) is is_kept
    recording = Recording([], Budget(1000), 1000)
    assert recording.answer(answered(None)) is None


def test_an_answer_with_an_error_in_it_is_not_kept():
    meter = Whole()
    for complete, message in ((False, None), (True, "Overloaded")):
        meter.complete, meter.error_message = complete, message
        recording = Recording([], Budget(1000), 1000)
        recording.add(b"abc")
        assert recording.answer(answered(meter)) is None
