"""What a page of somebody else's can do to a person who is signed in, in a real Chromium: nothing.

The attacker's page is there twice: on another site (`localhost`), and on another port of the
dashboard's own host, where browsers do send the session's cookie.
"""

import asyncio
import re
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright

pytestmark = pytest.mark.asyncio(loop_scope="module")

COOKIE = "metrion_session"
SETTLE_SECONDS = 0.7
ATTACKS: dict[str, tuple[str, str, str]] = {
    # what is attacked: method, path, body
    "new token": ("POST", "token/regenerate", ""),
    "currency": ("PATCH", "account", '{"currency": "CHF"}'),
    "provider key": ("PUT", "provider-keys/openai", '{"key": "sk-attacker-0123456789abcdef0123"}'),
    "sign out": ("DELETE", "auth/sessions/current", ""),
}


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


def code_of(mails: Path, address: str) -> str | None:
    for file in mails.glob("*.eml"):
        text = file.read_text()
        if f"To: {address}" in text and (
            found := re.search(r"^\s+(\d{6})\s*$", text, re.MULTILINE)
        ):
            return found[1]
    return None


@dataclass
class Victim:
    """Somebody who is signed in, with the attacker's page before them."""

    page: Page
    api_url: str
    session: httpx.AsyncClient

    async def state(self) -> list[Any]:
        """All that an attack could change."""
        found = []
        for path in ("account", "token", "provider-keys", "auth/sessions"):
            answer = await self.session.get(f"/api/v1/{path}")
            assert answer.status_code == 200, path
            found.append(answer.json())
        for each in found[3]["items"] if isinstance(found[3], dict) else found[3]:
            each.pop("last_seen_at")
        return found


@pytest_asyncio.fixture(
    loop_scope="module", scope="module", params=["another site", "another port"]
)
async def victim(request, deployment, attacker_port: int) -> AsyncIterator[Victim]:
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
            if code := code_of(deployment.data_dir / "mail", address):
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
        yield Victim(page, url, session)
        await browser.close()


async def test_no_form_changes_anything(victim: Victim):
    """Forms need no permission to be sent; three encodings, only one of which looks like JSON."""
    before = await victim.state()
    for method, path, body in ATTACKS.values():
        for encoding in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            status = await victim.page.evaluate(
                """async ([action, encoding, body]) => {
                    const frame = document.createElement("iframe");
                    frame.name = "sink";
                    const form = document.createElement("form");
                    Object.assign(form, {method: "post", action, enctype: encoding, target: "sink"});
                    const field = document.createElement("input");
                    Object.assign(field, {name: body || "x", value: ""});
                    form.append(field);
                    document.body.replaceChildren(frame, form);
                    const loaded = new Promise(done => frame.addEventListener("load", done));
                    form.submit();
                    await Promise.race([loaded, new Promise(done => setTimeout(done, 700))]);
                    try { return frame.contentDocument.body.textContent } catch { return null }
                }""",
                [f"{victim.api_url}/api/v1/{path}", encoding, body],
            )
            assert not status, (method, path)  # nothing of the answer can be read either
    assert await victim.state() == before


@pytest.mark.parametrize("mode", ["cors", "no-cors"])
async def test_no_script_changes_or_reads_anything(victim: Victim, mode: str):
    before = await victim.state()
    for method, path, body in ATTACKS.values():
        for content_type in ("text/plain", "application/json"):
            seen = await victim.page.evaluate(
                """async ([url, method, mode, type, body]) => {
                    try {
                        const answer = await fetch(url, {
                            method, mode, credentials: "include",
                            headers: {"content-type": type}, body: body || undefined,
                        });
                        return answer.type === "opaque" ? null : answer.status;
                    } catch { return null }
                }""",
                [f"{victim.api_url}/api/v1/{path}", method, mode, content_type, body],
            )
            assert seen is None, (method, path)
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
    for _, path, body in ATTACKS.values():
        await victim.page.evaluate(
            "([url, body]) => navigator.sendBeacon(url, body)",
            [f"{victim.api_url}/api/v1/{path}", body],
        )
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
