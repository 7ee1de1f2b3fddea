"""What mitmproxy's own tools show of live traffic: everything but credentials.

They run by hand beside a deployment, as the README says. That nothing secret is in what they show,
whatever is asked of them, is test_leaks.py's business; here are the places of what was added since.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
from mitmproxy.http import HTTPFlow
from mitmproxy.io import FlowReader

START_SECONDS = 120
FLAGS = (
    *("--mode", "reverse:http://metrion.invalid", "--set", "server=false"),
    *("-s", "addons/metrion.py"),
)
PASSWORD = "look"
OPENAI = "/api/proxy/openai/v1/chat/completions"
CHAT = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello there!"}]}
MESSAGE = {"model": "claude-opus-4-1", "max_tokens": 99, "messages": CHAT["messages"]}
STREAM = CHAT | {"stream": True}
OTHER_KEY = f"sk-OWN-{'w' * 30}"
COOKIE = "cookie-CANARY-of-somebody"
# What may be in no output, in whatever form it is written.
SECRETS = re.compile(
    rb"CANARY|sk-OWN|sk-metrion-[0-9a-f]{5,}|fake-cookie|Set-Cookie: ", re.IGNORECASE
)


class Web:
    """mitmweb's own page, as a program that talks to it sees it."""

    def __init__(self, port: int) -> None:
        self.seen: list[bytes] = []
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}",
            headers={"authorization": f"Bearer {PASSWORD}", "x-xsrftoken": "x"},
            cookies={"_mitmproxy_xsrf": "x"},
        )

    def get(self, path: str) -> Any:
        answer = self._client.get(path)
        assert answer.status_code == 200, (path, answer.text)
        self.seen.append(answer.content)
        return answer

    def call(self, command: str, *arguments: str) -> Any:
        answer = self._client.post(f"/commands/{command}", json={"arguments": arguments})
        self.seen.append(answer.content)
        return answer.json()["value"]

    def ended(self, count: int) -> list[dict[str, Any]] | None:
        """The flows, once so many have ended."""
        flows = self.get("/flows").json()
        done = [
            flow
            for flow in flows
            if flow.get("error") or flow.get("response", {}).get("timestamp_end")
        ]
        return flows if len(done) >= count else None

    def content(self, flow: dict[str, Any], message: str, view: str = "auto") -> dict[str, Any]:
        return self.get(f"/flows/{flow['id']}/{message}/content/{view}.json").json()

    def close(self) -> None:
        self._client.close()


@pytest.fixture(scope="module")
def tools(run, folder, web_port):
    """Both tools, started at once because each takes seconds."""
    web = ("--set", "web_open_browser=false", "--set", f"web_password={PASSWORD}")
    return {
        "mitmweb": run("mitmweb", *FLAGS, *web, "--set", f"web_port={web_port}"),
        "mitmdump": run(
            "mitmdump", *FLAGS, "--set", "flow_detail=4", "-w", str(folder / "seen.flows")
        ),
    }


@pytest.fixture
def mitmweb(tools, eventually):
    eventually(tools["mitmweb"].is_listening, START_SECONDS)
    return tools["mitmweb"]


@pytest.fixture
def mitmdump(tools, eventually):
    eventually(tools["mitmdump"].is_listening, START_SECONDS)
    return tools["mitmdump"]


@pytest.fixture
def web(mitmweb, web_port) -> Iterator[Web]:
    looking = Web(web_port)
    yield looking
    looking.close()


@pytest.fixture
def account_id(deployment, account) -> str:
    with psycopg.connect(deployment.ready["database_url"]) as connection:
        found = connection.execute(
            "SELECT id FROM metrion.accounts WHERE email = %s", [account.email]
        ).fetchone()
    return str(found[0])


def make_requests(url: str, account) -> list[httpx.Response]:
    """One of each kind that is told apart."""
    stored = {"authorization": f"Bearer {account.token}", "x-metrion-user": "anna"}
    own = {"authorization": f"Bearer {OTHER_KEY}", "x-metrion-token": account.token}
    echo = {"x-fake-echo": "1", "x-other": OTHER_KEY, "cookie": f"s={COOKIE}"}
    with httpx.Client(base_url=url, timeout=30) as client:
        return [
            client.post(OPENAI, headers=stored, json=CHAT),
            client.post("/api/proxy/v1/messages", headers=stored, json=MESSAGE | {"stream": True}),
            client.post(OPENAI, headers=own, json=CHAT),
            client.post(OPENAI, headers=stored | {"x-fake-status": "500"}, json=CHAT),
            client.post(OPENAI, headers=stored, json={"model": "gpt-4o"}),
            client.post(OPENAI, headers=stored | {"x-fake-stall": "head"}, json=CHAT),
            # the second is answered from what the first left
            *(
                client.post(OPENAI, headers=stored | {"x-metrion-cache": "true"}, json=STREAM)
                for _ in range(2)
            ),
            # a key where none belongs, and a token in a prompt
            client.post(OPENAI, headers=stored | echo, json=CHAT | {"user": account.token}),
        ]


OUTCOMES = ["ok", "ok", "ok", "provider_error", "refused", "timeout", "ok", "ok", "ok"]
MARKERS = ["", "", "", "🔴", "⛔", "⌛", "", "♻", ""]
CACHED = 7


def check_line(line: str, row: dict[str, Any], account_id: str) -> None:
    """The line about a flow says what the log says."""
    cached = ", cached" if row["cached"] else ""
    assert line.startswith(f"{row['outcome']}{cached} · {row['provider']} ")
    assert f" · {row['mode']} · account {account_id}" in line
    assert (row["model"] or row["endpoint"]) in line
    assert re.search(r" · \d+ ms", line)
    if row["requester"]:
        assert f" · requester {row['requester']} · " in line
    if row["input_tokens"] is not None:
        assert f" · {row['input_tokens']} in {row['output_tokens']} out · $" in line
        cost = re.search(r"\$([0-9.]+)", line)
        assert cost
        assert float(cost[1]) == pytest.approx(float(row["cost_usd"]))


def check_facts(facts: dict[str, Any], row: dict[str, Any], account_id: str) -> None:
    """So do the flow's metadata, column by column."""
    assert facts["metrion.account_id"] == account_id
    for name in ("mode", "model", "requester", "outcome", "cached", "input_tokens", "error"):
        assert facts.get(f"metrion.{name}") == row[name], name
    for name in ("cost_usd", "latency_ms", "ttfb_ms", "overhead_ms"):
        shown = facts.get(f"metrion.{name}")
        assert (None if shown is None else float(shown)) == (
            None if row[name] is None else pytest.approx(float(row[name]))
        ), name


def test_mitmweb_shows_what_the_log_says(
    web, mitmweb, account, account_id, deployment, folder, eventually
):
    answers = make_requests(mitmweb.url, account)
    flows = eventually(lambda: web.ended(len(answers)))
    rows = {row["id"]: row for row in deployment.rows(account.token, len(answers))}
    in_order = [rows[answer.headers["x-metrion-request-id"]] for answer in answers]
    assert [row["outcome"] for row in in_order] == OUTCOMES
    for flow, row in zip(flows, in_order, strict=True):
        check_line(flow["comment"], row, account_id)
    assert [flow["marked"] for flow in flows] == MARKERS
    assert [row["cached"] for row in in_order].index(True) == CACHED
    hit = web.get(f"/flows/{flows[CACHED]['id']}/response/content.data").content
    assert hit == answers[CACHED].content
    assert web.get("/options").json()["web_columns"]["value"] == ["status", "comment", "time"]

    # a stream is readable, in the view that is chosen by itself
    shown = web.content(flows[1], "response")
    assert shown["view_name"] == "Metrion"
    said = [
        json.loads(line[6:]).get("delta", {}).get("text", "")
        for line in answers[1].text.splitlines()
        if line.startswith("data: ")
    ]
    assert f"--- answer 0{''.join(said)}" in shown["text"].replace("\n", "")
    assert re.search(rf"account id +{account_id}\n", shown["text"])
    assert web.content(flows[0], "response")["view_name"] == "JSON"
    by_hand = web.content(flows[0], "response", "metrion")["text"]
    assert re.search(rf"cost usd +{in_order[0]['cost_usd']}", by_hand)
    assert "metrion" in web.get("/state").json()["contentViews"]

    # the rows of this process as a table
    head, *table = web.call("metrion.rows", "100")
    newest = [dict(zip(head, line, strict=True)) for line in table]
    assert [row["id"] for row in reversed(newest)] == [row["id"] for row in in_order]
    assert {row["account_id"] for row in newest} == {account_id}
    web.call("metrion.flush")
    eventually(lambda: "all rows are written" in web.get("/events").text)

    # every form in which a flow can be had
    for flow in flows:
        for form in ("curl", "httpie", "raw_request", "raw_response"):
            web.call("export", form, f"@{flow['id']}")
        for message in ("request", "response"):
            web.get(f"/flows/{flow['id']}/{message}/content.data")
            web.content(flow, message, "metrion")
    web.call("save.har", "@all", str(folder / "inspected.har"))
    web.call("save.file", "@all", str(folder / "inspected.flows"))
    web.get("/flows/dump")
    files = [folder / "inspected.har", folder / "inspected.flows", mitmweb.output]
    for content in (*web.seen, *(file.read_bytes() for file in files)):
        assert not (found := SECRETS.search(content)), found[0]
    assert any(b"*****" in content for content in web.seen)  # there was something to mask


def test_mitmweb_can_drain_and_be_looked_at_after(web, mitmweb, eventually):
    web.call("metrion.drain")
    eventually(lambda: "has drained" in web.get("/events").text)
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{mitmweb.url}/healthz")
    assert web.get("/flows").json()
    mitmweb.stop()


def flows_in(file: Path) -> list[HTTPFlow]:
    with file.open("rb") as content:
        return [flow for flow in FlowReader(content).stream() if isinstance(flow, HTTPFlow)]


def test_mitmdump_prints_and_writes_what_the_log_says(
    mitmdump, account, account_id, deployment, folder
):
    answers = make_requests(mitmdump.url, account)
    rows = {row["id"]: row for row in deployment.rows(account.token, len(answers))}
    mitmdump.stop()
    flows = flows_in(folder / "seen.flows")
    assert len(flows) == len(answers)
    for answer, flow in zip(answers, flows, strict=True):
        row = rows[answer.headers["x-metrion-request-id"]]
        check_line(flow.comment, row, account_id)
        check_facts(flow.metadata, row, account_id)
        assert f"{row['id']} {flow.comment}" in mitmdump.said
    assert "--- answer 0" in mitmdump.said
    assert "Hello there!" in mitmdump.said
    for file in (folder / "seen.flows", mitmdump.output):
        assert not (found := SECRETS.search(file.read_bytes())), found[0]
