import pytest

from scripts.fake_provider.knobs import NO_KNOBS, KnobError, Knobs, Position


def test_without_knobs_nothing_goes_wrong():
    assert Knobs.parse({b"host": b"h"}) is NO_KNOBS
    assert Knobs() == NO_KNOBS


def test_every_knob_can_be_turned():
    knobs = Knobs.parse(
        {
            b"x-fake-status": b"429",
            b"x-fake-retry-after": b"3",
            b"x-fake-delay": b"0.5",
            b"x-fake-interval": b"0.02",
            b"x-fake-events": b"4",
            b"x-fake-chunk": b"7",
            b"x-fake-close": b"2",
            b"x-fake-close-with": b"rst",
            b"x-fake-error-at": b"1",
            b"x-fake-usage": b"cached",
            b"x-fake-encoding": b"br",
            b"x-fake-framing": b"close",
            b"x-fake-garbage": b"text",
            b"x-fake-big": b"1000",
            b"x-fake-model": b"gpt-4o-2024-11-20",
            b"x-fake-redirect": b"http://elsewhere.invalid/",
            b"x-fake-echo": b"1",
            b"x-fake-echo-in": b"trailer",
            b"x-fake-informational": b"100,103",
            b"x-fake-connection": b"close",
        }
    )
    assert knobs == Knobs(
        status=429,
        retry_after=3,
        delay=0.5,
        interval=0.02,
        events=4,
        chunk=7,
        close=Position("writes", 2),
        close_with="rst",
        error_at=1,
        usage="cached",
        encoding="br",
        framing="close",
        garbage="text",
        big=1000,
        model="gpt-4o-2024-11-20",
        redirect="http://elsewhere.invalid/",
        echo=True,
        echo_in="trailer",
        informational=(100, 103),
        connection="close",
    )


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("head", Position("head")),
        ("body", Position("writes", 0)),
        ("3", Position("writes", 3)),
        ("100b", Position("bytes", 100)),
    ],
)
def test_places_in_an_answer(text: str, position: Position):
    assert Position.parse(text) == position
    assert Knobs.parse({b"x-fake-stall": text.encode()}).stall == position


@pytest.mark.parametrize(
    "headers",
    [
        {b"x-fake-stat": b"1"},
        {b"x-fake-status": b"many"},
        {b"x-fake-status": b"99"},
        {b"x-fake-delay": b"-1"},
        {b"x-fake-delay": b"nan"},
        {b"x-fake-chunk": b"0"},
        {b"x-fake-usage": b"some"},
        {b"x-fake-stall": b"later"},
        {b"x-fake-stall": b"b"},
        {b"x-fake-informational": b"103;100"},
        {b"x-fake-stall": b"1", b"x-fake-close": b"1"},
    ],
)
def test_a_slip_in_a_test_does_not_pass(headers: dict[bytes, bytes]):
    with pytest.raises(KnobError):
        Knobs.parse(headers)
