"""The end of a whole deployment, told or sudden, and its next start on the same data."""

import http.client
import json
import threading
import time
from urllib.parse import urlsplit

import httpx
import pytest

CHAT = "/api/proxy/openai/v1/chat/completions"
WISH = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
# The proxy breaks off what takes longer than its --drain-seconds; the rest is for the others.
STOP_SECONDS = 10 + 15


@pytest.fixture
def ask(demo):
    """Send one chat request to the demo; returns the id of its row."""

    def ask() -> str:
        headers = {"authorization": f"Bearer {demo.ready['token']}"}
        answer = httpx.post(demo.proxy_url + CHAT, json=WISH, headers=headers)
        assert answer.status_code == 200
        return answer.headers["x-metrion-request-id"]

    return ask


def logged(demo) -> list[str]:
    """The ids of all rows, the newest first."""
    answer = httpx.get(
        f"{demo.api_url}/api/v1/logs?limit=1000",
        headers={"authorization": f"Bearer {demo.ready['token']}"},
    )
    assert answer.status_code == 200
    return [row["id"] for row in answer.json()["items"]]


class Stream(threading.Thread):
    """Reads a streamed answer of so many events, one every 50 ms, to whatever end it has.

    Attributes:
        has_begun: its first event is there.
        row_id: of its row.
        last_line: that was read.
        ended_at: in seconds of `time.monotonic`.
    """

    def __init__(self, demo, events: int) -> None:
        super().__init__()
        address = urlsplit(demo.proxy_url)
        self._connection = http.client.HTTPConnection(address.hostname, address.port, timeout=60)
        self._headers = {
            "authorization": f"Bearer {demo.ready['token']}",
            "x-fake-events": str(events),
            "x-fake-interval": "0.05",
        }
        self.has_begun = threading.Event()
        self.row_id = ""
        self.last_line = b""
        self.ended_at = 0.0

    def run(self) -> None:
        body = json.dumps(WISH | {"stream": True})
        self._connection.request("POST", CHAT, body, self._headers)
        answer = self._connection.getresponse()
        self.row_id = answer.headers["x-metrion-request-id"]
        try:
            while line := answer.readline():
                self.last_line = line.strip() or self.last_line
                self.has_begun.set()
        except http.client.IncompleteRead:
            self.last_line = b"broken off"
        self.ended_at = time.monotonic()
        self._connection.close()


def test_told_to_stop_in_the_middle_of_streams(demo):
    short, endless = Stream(demo, events=20), Stream(demo, events=1_000_000)
    for stream in (short, endless):
        stream.start()
        assert stream.has_begun.wait(10)
    begun = time.monotonic()
    seconds = demo.stop()
    for stream in (short, endless):
        stream.join()
    print(  # noqa: T201 - a number to know
        f"stopped in {seconds:.1f} s; the short stream had ended well after "
        f"{short.ended_at - begun:.1f} s, the endless one was ended after "
        f"{endless.ended_at - begun:.1f} s"
    )
    assert seconds < STOP_SECONDS
    assert short.last_line == b"data: [DONE]"
    assert endless.last_line != b"data: [DONE]"

    demo.start()
    assert {short.row_id, endless.row_id} <= set(logged(demo))


def test_everything_is_killed(demo, ask, eventually):
    before, first = demo.ready, [ask() for _ in range(5)]
    eventually(lambda: set(first) <= set(logged(demo)))
    earlier = logged(demo)
    # of these the database may know nothing yet when it dies
    last = [ask() for _ in range(20)]
    demo.kill()

    seconds = demo.start()
    print(f"ready {seconds:.1f} s after everything was killed")  # noqa: T201 - a number to know
    after = demo.ready
    assert (after["token"], after["email"]) == (before["token"], before["email"])
    assert not set(after["pids"].values()) & set(before["pids"].values())
    eventually(lambda: len(logged(demo)) >= len(earlier) + len(last))
    newest = ask()
    eventually(lambda: newest in logged(demo))
    assert sorted(logged(demo)) == sorted([*earlier, *last, newest])  # each once
