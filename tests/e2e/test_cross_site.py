"""What a page of somebody else's can do to a person who is signed in, in a real Chromium: nothing.

The attacker's page is there twice: on another site (`localhost`), and on another port of the
dashboard's own host, where browsers do send the session's cookie.
"""

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from email.message import EmailMessage
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright

pytestmark = pytest.mark.asyncio(loop_scope="module")

COOKIE = "metrion_session"
SETTLE_SECONDS = 0.7
BODIES = {
    # what an attacker would send to an operation; nothing to those that are not here
    ("POST", "/auth/codes"): '{"email": "EMAIL"}',
    ("POST", "/auth/sessions"): '{"email": "attacker@example.com", "code": "123456"}',
    ("DELETE", "/account"): '{"code": "123456"}',
    ("PATCH", "/account"): '{"currency": "CHF"}',
    ("PUT", "/provider-keys/{provider}"): '{"key": "sk-attacker-0123456789abcdef0123"}',
    ("POST", "/alerts"): '{"type": "request_volume", "threshold": 1, "name": "theirs"}',
    ("PATCH", "/alerts/{rule_id}"): '{"enabled": false}',
}
ENCODINGS = ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data")


FETCH = """async ([method, url, body, mode, type]) => {
    try {
        const answer = await fetch(url, {
            method, mode, credentials: "include",
            headers: {"content-type": type}, body: body || undefined,
        });
        return answer.type === "opaque" ? null : answer.status;
    } catch { return null }
}"""


class Attacker(BaseHTTPRequestHandler):
    """An empty page; the tests put the attack into it."""

    def do_GET(self) -> None:
        body = b"<!doctype html><title>You have won</title><body></body>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Say nothing."""


@pytest.fixture(scope="module")
def attacker_port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Attacker)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@dataclass
class Victim:
    """Somebody who is signed in, with the attacker's page before them."""

    page: Page
    api_url: str
    session: httpx.AsyncClient
    mails: Callable[[], list[EmailMessage]]
    """Those that they got."""
    attacker_url: str
    attacks: list[tuple[str, str, str]]
    """Every operation that changes something: method, address, body."""

    async def state(self) -> list[Any]:
        """All that an attack could change."""
        found: list[Any] = []
        for path in ("account", "provider-keys", "alerts", "auth/sessions"):
            answer = await self.session.get(f"/api/v1/{path}")
            assert answer.status_code == 200, path
            found.append(answer.json())
        for each in found[3]["items"] if isinstance(found[3], dict) else found[3]:
            each.pop("last_seen_at")
        for each in found[2]["items"]:
            del each["series"]  # it begins an hour later in every hour
        token = await self.session.post("/api/v1/token/reveal")
        return [*found, token.json(), [str(mail) for mail in self.mails()]]


@pytest_asyncio.fixture(
    loop_scope="module", scope="module", params=["another site", "another port"]
)
async def somebody(request, deployment, attacker_port: int) -> AsyncIterator[Victim]:
    address = f"victim-{request.param.replace(' ', '-')}@example.com"
    host = "localhost" if request.param == "another site" else "127.0.0.1"
    url = deployment.api_url
    async with (
        httpx.AsyncClient(base_url=url, headers={"origin": url}) as session,
        async_playwright() as playwright,
    ):
        assert (
            await session.post("/api/v1/auth/codes", json={"email": address})
        ).status_code == 202
        for _ in range(500):
            if code := deployment.newest_code(address):
                break
            await asyncio.sleep(0.02)
        answer = await session.post("/api/v1/auth/sessions", json={"email": address, "code": code})
        assert answer.status_code == 201
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        context = await browser.new_context()
        # as the server sets it
        cookie = {"name": COOKIE, "value": session.cookies[COOKIE], "url": url}
        await context.add_cookies([{**cookie, "httpOnly": True, "sameSite": "Lax"}])
        page = await context.new_page()
        await page.goto(f"{url}/overview")
        assert await page.evaluate("fetch('/api/v1/account').then(answer => answer.status)") == 200
        await page.goto(f"http://{host}:{attacker_port}/")
        rule = {"type": "request_volume", "threshold": 9, "name": "mine"}
        made = await session.post("/api/v1/alerts", json=rule)
        assert made.status_code == 201, made.text
        sessions = (await session.get("/api/v1/auth/sessions")).json()
        (own,) = sessions["items"] if isinstance(sessions, dict) else sessions
        names = {"rule_id": made.json()["id"], "session_id": own["id"], "provider": "openai"}
        document = (await session.get("/api/openapi.json")).json()
        attacks = [
            (method, url + path.format(**names), body.replace("EMAIL", address))
            for method, path, body in operations(document)
        ]
        mails = partial(deployment.mails_to, address)
        yield Victim(page, url, session, mails, page.url, attacks)
        await browser.close()


@pytest_asyncio.fixture(loop_scope="module")
async def victim(somebody: Victim) -> Victim:
    """Somebody before a fresh page of the attacker's."""
    await somebody.page.goto(somebody.attacker_url)
    return somebody


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """All that is not only read, as the API's own document says."""
    known = set(BODIES)
    for path, item in document["paths"].items():
        for method in {"post", "put", "patch", "delete"} & set(item):
            key = (method.upper(), path.removeprefix("/api/v1"))
            known.discard(key)
            yield key[0], path, BODIES.get(key, "")
    assert not known


async def test_from_its_own_page_such_a_request_is_taken(victim: Victim):
    """What the other tests say could else be the work of a mistake in the attacks."""
    before = await victim.state()
    await victim.page.goto(f"{victim.api_url}/overview")
    (attack,) = (
        each for each in victim.attacks if each[0] == "POST" and each[1].endswith("alerts")
    )
    status = await victim.page.evaluate(FETCH, [*attack, "cors", "application/json"])
    assert status == 201
    assert await victim.state() != before


SUBMIT = """([action, encoding, body, target]) => {
    const form = document.createElement("form");
    Object.assign(form, {method: "post", action, enctype: encoding, target});
    const field = document.createElement("input");
    // sent as text it is name=value: JSON with a name that nobody looks at
    const name = body ? body.replace(/}$/, ', "x": "') : "x";
    Object.assign(field, {type: "hidden", name, value: body ? '"}' : ""});
    form.append(field);
    document.body.append(form);
    form.submit();
}"""


async def test_no_form_in_a_frame_changes_anything(victim: Victim):
    """Forms need no permission to be sent, in any of the three encodings in turn."""
    before = await victim.state()
    urls = {url for _, url, _ in victim.attacks}
    sent: list[str] = []
    victim.page.on("request", lambda each: sent.append(each.method) if each.url in urls else None)
    read = await victim.page.evaluate(
        f"""attacks => Promise.all(attacks.map(([url, encoding, body], number) => {{
            const frame = document.createElement("iframe");
            frame.name = `sink-${{number}}`;
            document.body.append(frame);
            ({SUBMIT})([url, encoding, body, frame.name]);
            return new Promise(done => frame.addEventListener("load", () => {{
                try {{ done(frame.contentDocument.body.textContent) }} catch {{ done(null) }}
            }}));
        }}))""",
        [
            [url, encoding, body]
            for (_, url, body), encoding in zip(victim.attacks, cycle(ENCODINGS), strict=False)
        ],
    )
    assert sent == ["POST"] * len(victim.attacks)
    assert not any(read), "nothing of the answers can be read either"
    assert await victim.state() == before


async def test_no_form_at_top_level_changes_anything(victim: Victim):
    """What a page that is opened from a mail would do: it leads there, with what looks like JSON."""
    before = await victim.state()
    for _, url, body in victim.attacks:
        async with victim.page.expect_navigation(url=url) as arrived:
            await victim.page.evaluate(SUBMIT, [url, "text/plain", body, "_top"])
        answer = await arrived.value
        assert answer is not None
        assert answer.request.method == "POST"
        assert answer.status == 403, url
        assert "cross-origin" in await answer.text(), url
        await victim.page.goto(victim.attacker_url)
    assert await victim.state() == before


@pytest.mark.parametrize("mode", ["cors", "no-cors"])
async def test_no_script_changes_or_reads_anything(victim: Victim, mode: str):
    before = await victim.state()
    for attack in victim.attacks:
        for content_type in ("text/plain", "application/json"):
            seen = await victim.page.evaluate(FETCH, [*attack, mode, content_type])
            assert seen is None, attack
    for path in ("account", "token", "logs", "usage/overview", "usage/costs?range=90d", "logs.csv"):
        read = await victim.page.evaluate(
            """async ([url, mode]) => {
                try {
                    return await (await fetch(url, {mode, credentials: "include"})).text();
                } catch { return "" }
            }""",
            [f"{victim.api_url}/api/v1/{path}", mode],
        )
        assert read == "", path
    assert await victim.state() == before


async def test_no_beacon_changes_anything(victim: Victim):
    before = await victim.state()
    for _, url, body in victim.attacks:
        await victim.page.evaluate("([url, body]) => navigator.sendBeacon(url, body)", [url, body])
    await asyncio.sleep(SETTLE_SECONDS)
    assert await victim.state() == before


async def test_nothing_is_embedded(victim: Victim):
    urls = [
        victim.api_url + path
        for path in ("/api/v1/account", "/api/v1/logs.csv", "/static/lib/api.js")
    ]
    loaded = await victim.page.evaluate(
        """urls => Promise.all(["img", "script", "link", "video", "object"].flatMap(name =>
            urls.map(url => new Promise(done => {
                const element = document.createElement(name);
                if (name === "link") element.rel = "stylesheet";
                element.onload = element.onloadeddata = () => done(`${name} ${url}`);
                element.onerror = () => done("");
                element[{link: "href", object: "data"}[name] ?? "src"] = url;
                document.body.append(element);
                setTimeout(() => done(""), 2000);
            }))
        ))""",
        urls,
    )
    assert set(loaded) == {""}


async def test_no_page_is_framed(victim: Victim):
    paths = ("/overview", "/settings/key", "/sign-in", "/api/docs", "/api/v1/token")
    for path in paths:
        await victim.page.evaluate(
            """url => {
                const frame = document.createElement("iframe");
                frame.src = url;
                document.body.append(frame);
            }""",
            victim.api_url + path,
        )
    await asyncio.sleep(2 * SETTLE_SECONDS)
    shown = [frame.url for frame in victim.page.frames[1:]]
    assert len(shown) >= len(paths)
    assert not [url for url in shown if url.startswith(victim.api_url)]


async def test_no_window_is_held(victim: Victim):
    """A page opened by the attacker's lets itself not be looked at or led elsewhere."""
    async with victim.page.context.expect_page() as opening:
        await victim.page.evaluate("url => { window.held = window.open(url) }", victim.api_url)
    opened = await opening.value
    await opened.wait_for_url("**/overview")
    assert await opened.evaluate("window.opener") is None
    assert await victim.page.evaluate("window.held.closed")
    await opened.close()


async def test_no_socket_opens(victim: Victim):
    for path in ("/", "/api/v1/usage/version", "/overview"):
        opened = await victim.page.evaluate(
            """url => new Promise(done => {
                const socket = new WebSocket(url);
                socket.onopen = () => done(true);
                socket.onerror = () => done(false);
            })""",
            victim.api_url.replace("http", "ws") + path,
        )
        assert opened is False
