import itertools
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from addons.usage_chunk import UsageChunkFilter

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def chunk(**fields: Any) -> str:
    return json.dumps({"id": "c-1", "object": "chat.completion.chunk", **fields})


TEXT = chunk(choices=[{"index": 0, "delta": {"content": "hi"}}])
TEXT_WITH_NULL = chunk(choices=[{"index": 0, "delta": {"content": "hi"}}], usage=None)
LAST_TEXT = chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
USAGE_CHUNK = chunk(choices=[], usage=USAGE)
DONE = "[DONE]"


def stream(*data: str, end: str = "\n") -> bytes:
    return "".join(f"data: {line}{end}{end}" for line in data).encode()


def run(body: bytes, cuts: list[int] | None = None) -> bytes:
    chunks = UsageChunkFilter()
    places = sorted({min(cut, len(body)) for cut in cuts or []} | {0, len(body)})
    passed = [chunks.feed(body[a:b]) for a, b in itertools.pairwise(places)]
    return b"".join([*passed, chunks.finish()])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_only_the_usage_chunk_is_missing(end: str) -> None:
    body = stream(TEXT_WITH_NULL, TEXT, LAST_TEXT, USAGE_CHUNK, DONE, end=end)
    assert run(body) == stream(TEXT_WITH_NULL, TEXT, LAST_TEXT, DONE, end=end)


EVENTS = st.sampled_from(
    [
        f"data: {TEXT}",
        f"data: {TEXT_WITH_NULL}",
        f"data:{LAST_TEXT}",
        "data: [DONE]",
        ": keep-alive",
        "event: ping",
        f"id: 1{{end}}event: message{{end}}data: {TEXT}",
        "data:",
    ]
)
USAGE_EVENTS = st.sampled_from(
    [
        f"data: {USAGE_CHUNK}",
        f"data:{USAGE_CHUNK}",
        'data: {"usage" : {"total_tokens":1} , "choices" : [ ]}',
        f"id: 1{{end}}data: {USAGE_CHUNK}{{end}}retry: 1",
        f"event: message{{end}}data: {USAGE_CHUNK}  ",
    ]
)


@given(
    events=st.lists(
        EVENTS.map(lambda text: (text, True)) | USAGE_EVENTS.map(lambda text: (text, False))
    ),
    end=st.sampled_from(["\n", "\r\n"]),
    rest=st.sampled_from(["", "data: {", f"data: {USAGE_CHUNK}", "\r"]),
    cuts=st.lists(st.integers(0, 1000), max_size=30),
)
@example(events=[(f"data: {USAGE_CHUNK}", False)], end="\r\n", rest="", cuts=list(range(300)))
def test_any_stream_cut_anywhere(
    events: list[tuple[str, bool]], end: str, rest: str, cuts: list[int]
) -> None:
    written = [(text.replace("{end}", end) + end + end, passes) for text, passes in events]
    body = "".join(text for text, _ in written) + rest
    expected = "".join(text for text, passes in written if passes) + rest
    assert run(body.encode(), cuts) == expected.encode()


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=20))
@example(b"\n\n\r\n\r\n\r\r\n", list(range(10)))
def test_bytes_that_are_no_stream_pass(body: bytes, cuts: list[int]) -> None:
    assert run(body, cuts) == body


@pytest.mark.parametrize(
    "data",
    [
        TEXT,
        TEXT_WITH_NULL,
        chunk(choices=[]),  # Azure's first chunk
        chunk(choices=[], usage=None),
        chunk(choices=[], usage=[]),
        chunk(usage=USAGE),
        chunk(choices=None, usage=USAGE),
        chunk(choices={}, usage=USAGE),
        # the usage that some providers put into their last chunk of text
        chunk(choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}], usage=USAGE),
        chunk(choices=[{"delta": {"content": '"choices":[],"usage":{}'}}]),
        chunk(choices=[{"delta": {"content": USAGE_CHUNK}}]),
        chunk(error={"message": "no", "usage": {}}),
        f"[{USAGE_CHUNK}]",
        json.dumps(USAGE_CHUNK),
        USAGE_CHUNK[:-1],
        USAGE_CHUNK + "}",
        DONE,
    ],
)
def test_everything_else_passes(data: str) -> None:
    body = stream(data, DONE)
    assert run(body) == body
    assert run(body, list(range(len(body)))) == body


def test_data_over_several_lines_is_left_alone() -> None:
    # nobody sends it; what is not understood passes
    body = f"data: {USAGE_CHUNK[:20]}\ndata: {USAGE_CHUNK[20:]}\n\n".encode()
    assert run(body) == body


def test_events_leave_as_soon_as_they_are_whole() -> None:
    chunks = UsageChunkFilter()
    event = stream(TEXT)
    assert chunks.feed(event) == event
    assert chunks.feed(event[:-1]) == b""
    assert chunks.feed(event[-1:] + b"da") == event
    assert chunks.feed(b"ta: 1\n") == b""
    assert chunks.feed(b"\n") == b"data: 1\n\n"
    assert chunks.finish() == b""


def test_an_answer_that_is_no_stream_passes_at_its_end() -> None:
    body = json.dumps({"choices": [], "usage": USAGE}, indent=1).encode()
    chunks = UsageChunkFilter()
    assert chunks.feed(body) + chunks.finish() == body


def test_memory_is_bounded() -> None:
    chunks = UsageChunkFilter()
    piece = b"x" * 65_536
    passed = sum(len(chunks.feed(piece)) for _ in range(64))
    assert 4 * 2**20 - passed <= 2**20
    # from here on nothing is held
    assert chunks.feed(b"data: ") == b"data: "
    assert chunks.finish() == b""
