"""The end of a whole deployment, told or sudden, and its next start on the same data."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

CHAT = "/api/proxy/openai/v1/chat/completions"
WISH = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
DRAIN_SECONDS = 10  # what takes longer is broken off (tests/scripts/test_proxy.py)


@pytest.fixture
def ask(demo):
    """Send one chat request to the demo; returns the id of its row."""

    def ask() -> str:
        answer = httpx.post(
            demo.proxy_url + CHAT,
            json=WISH,
            headers={"authorization": f"Bearer {demo.ready['token']}"},
        )
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


def test_told_to_stop_in_the_middle_of_a_stream(demo):
    """The last test here: the demo stays stopped."""
    headers = {"authorization": f"Bearer {demo.ready['token']}", "x-fake-events": "20"}
    headers["x-fake-interval"] = "0.05"
    wish = WISH | {"stream": True}
    with (
        httpx.stream("POST", demo.proxy_url + CHAT, json=wish, headers=headers) as answer,
        ThreadPoolExecutor(1) as thread,
    ):
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        stopping = thread.submit(demo.stop)
        assert list(lines)[-2:] == ["data: [DONE]", ""]
        seconds = stopping.result()
    print(f"stopped in {seconds:.1f} s")  # noqa: T201 - a number to know
    assert seconds < DRAIN_SECONDS
