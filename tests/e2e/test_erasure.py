"""An account is erased while it is in use, and by a person on the page; nothing is left of it."""

import asyncio
import re
import shutil
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import axe_playwright_python
import httpx
import psycopg
import pytest
import pytest_asyncio
from playwright.async_api import Page, async_playwright, expect
from psycopg import sql

from storage import roles
from storage.database import Database
from storage.database_url import administrator_url
from storage.erasure_search import Trace, search_for_erased
from storage.sealing import MasterKeys

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
CHAT = "/api/proxy/openai/v1/chat/completions"
QUESTION = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
# A step that fails on a busy machine is tried again after 2 s, 4 s, 8 s …
ERASED_SECONDS = 180


@pytest.fixture
def signed_in(deployment, eventually) -> Iterator[Callable[[str], httpx.Client]]:
    """A function that signs somebody in, and gives a client of theirs."""
    clients: list[httpx.Client] = []

    def enter(address: str) -> httpx.Client:
        client = httpx.Client(base_url=deployment.api_url, timeout=30)
        clients.append(client)
        client.post("/api/v1/auth/codes", json={"email": address})
        code = eventually(lambda: deployment.newest_code(address))
        done = client.post("/api/v1/auth/sessions", json={"email": address, "code": code})
        assert done.status_code == 201, done.text
        return client

    yield enter
    for client in clients:
        client.close()


def erase(deployment, client: httpx.Client, address: str, eventually) -> str:
    """Ask for a code and delete the account; the receipt's number."""
    assert client.post("/api/v1/account/deletion-codes").status_code == 202
    code = eventually(lambda: deployment.newest_code(address, "deleting"))
    answer = client.request("DELETE", "/api/v1/account", json={"code": code})
    assert answer.status_code == 202, answer.text
    return answer.json()["receipt"]


def places_of(deployment, needles: list[str]) -> list[str]:
    """Every table with one of these anywhere in it, and every file of the journal and the mails."""
    found: list[str] = []
    with psycopg.connect(deployment.ready["database_url"], autocommit=True) as connection:
        names = connection.execute("""
            SELECT relname FROM pg_class
            WHERE relnamespace = 'metrion'::regnamespace AND relkind IN ('r', 'p')
              AND NOT relispartition
        """).fetchall()
        assert len(names) > 12
        for (name,) in names:
            query = sql.SQL("SELECT count(*) FROM {} AS t WHERE lower(to_jsonb(t)::text) ~ %s")
            hits = connection.execute(
                query.format(sql.Identifier("metrion", name)),
                ["|".join(re.escape(needle.lower()) for needle in needles)],
            ).fetchone()[0]
            found += [name] * bool(hits)
    for folder in ("journal", "mail"):
        for path, content in deployment.files(folder):
            if any(needle.lower().encode() in content.lower() for needle in needles):
                found.append(f"{folder}/{path.name}")
    return found


def progress_of(deployment, erasure: str) -> list[tuple[Any, ...]]:
    """How far it is, and what it waits for."""
    query = "SELECT state, failures, last_error FROM metrion.erasures WHERE id = %s"
    with psycopg.connect(deployment.ready["database_url"], autocommit=True) as connection:
        return connection.execute(query, [erasure]).fetchall()


async def search(deployment, subject: str) -> list[Trace]:
    database = Database(administrator_url(deployment.settings), act_as=roles.DEFINER)
    try:
        keys = MasterKeys.load(deployment.settings)
        return await search_for_erased(database, deployment.settings, keys, subject)
    finally:
        await database.close()


class Load:
    """Requests of an account, from several threads, for as long as it lasts."""

    def __init__(self, deployment, token: str, address: str) -> None:
        self.statuses: list[int] = []
        self._headers = {"authorization": f"Bearer {token}", "x-metrion-user": address}
        self._url = deployment.proxy_url + CHAT
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(3)]
        # one that is under way all the time, and ends long after the account has
        self._threads.append(threading.Thread(target=self._stream))
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._over.is_set():
                answer = client.post(self._url, json=QUESTION, headers=self._headers)
                self.statuses.append(answer.status_code)
                if answer.status_code == 429:
                    time.sleep(0.2)

    def _stream(self) -> None:
        slow = self._headers | {"x-fake-interval": "0.5", "x-fake-events": "24"}
        with (
            httpx.Client(timeout=30) as client,
            client.stream(
                "POST", self._url, json=QUESTION | {"stream": True}, headers=slow
            ) as answer,
        ):
            answer.read()
            self.streamed = answer.status_code

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


def test_nothing_is_left_of_an_account_that_is_erased_under_load(
    deployment, signed_in, eventually, provider
):
    account = deployment.create_account("pro")
    client = signed_in(account.email)
    account_id = client.get("/api/v1/account").json()["id"]
    rule = {"type": "request_volume", "threshold": 1, "period": {"kind": "rolling", "hours": 24}}
    client.post("/api/v1/alerts", json=rule)
    cached = {"authorization": f"Bearer {account.token}", "x-metrion-cache": "true"}
    httpx.post(deployment.proxy_url + CHAT, json=QUESTION, headers=cached)
    load = Load(deployment, account.token, account.email)
    try:
        eventually(lambda: client.get("/api/v1/logs").json()["total"] > 5)
        before = places_of(deployment, [account_id, account.email])
        assert {"accounts", "request_logs", "usage_days", "alert_rules"} <= set(before)
        erasure = erase(deployment, client, account.email, eventually)
        answered = len(load.statuses)
        # dead in every process when the answer is there; those under way then may end
        eventually(lambda: len(load.statuses) > answered + 12)
        assert set(load.statuses[answered + 3 :]) == {401}
    finally:
        load.end()
    assert load.streamed == 200

    deadline = time.monotonic() + ERASED_SECONDS
    while True:
        left = places_of(deployment, [account_id, account.email])
        if len(left) == 1 and left[0].endswith(f"-{erasure}.eml"):
            break
        assert time.monotonic() < deadline, (left, progress_of(deployment, erasure))
        time.sleep(0.5)
    [receipt] = deployment.mails_to(account.email)
    text = receipt.get_content().replace("\r\n", "\n")
    assert receipt["subject"] == "Your Metrion account is deleted"
    assert erasure in text
    assert "eu-west-1" in text
    for kind in ("requests in the log", "provider keys", "alert rules", "Metrion Key", "sessions"):
        assert re.search(rf"^ +[1-9][0-9,]*  {kind}$", text, re.MULTILINE), kind
    for subject in (account.email, account_id):
        traces = asyncio.run(search(deployment, subject))
        assert [trace for trace in traces if trace.is_left] == []

    # the same address begins anew, with nothing
    again = signed_in(account.email)
    assert again.get("/api/v1/account").json()["id"] != account_id
    assert again.get("/api/v1/logs").json()["items"] == []


# ---- on the page


@pytest_asyncio.fixture
async def page(deployment) -> AsyncIterator[Page]:
    path = shutil.which("chromium")
    assert path, "these tests need Chromium: apt-get install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        context = await browser.new_context(
            base_url=deployment.api_url, reduced_motion="reduce", accept_downloads=True
        )
        opened = await context.new_page()
        opened.set_default_timeout(20_000)
        yield opened
        await browser.close()


async def violations(page: Page) -> list[str]:
    """What axe finds in light and in dark."""
    await page.evaluate(AXE)
    found: list[str] = []
    for theme in ("light", "dark"):
        await page.evaluate("theme => (document.documentElement.dataset.theme = theme)", theme)
        result = await page.evaluate("axe.run(document)")
        found += [f"{theme} {each['id']}" for each in result["violations"]]
    return found


async def test_a_person_takes_the_data_along_and_deletes_the_account(
    deployment, page, signed_in, eventually, tmp_path
):
    expect.set_options(timeout=20_000)
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    address = f"{uuid.uuid4()}@example.com"
    client = await asyncio.to_thread(signed_in, address)
    await page.context.add_cookies(
        [
            {"name": name, "value": value, "url": deployment.api_url}
            for name, value in client.cookies.items()
        ]
    )
    await page.goto("/settings/general")
    async with page.expect_download() as downloading:
        await page.get_by_role("link", name="Download everything").click()
    download = await downloading.value
    assert re.fullmatch(r"metrion-export-[0-9-]{10}\.json", download.suggested_filename)
    await download.save_as(tmp_path / "export.json")
    assert address in (tmp_path / "export.json").read_text()

    await page.goto("/profile")
    await page.get_by_role("button", name="Send me a code").click()
    field = page.get_by_label("Code")
    await expect(field).to_be_focused()
    assert await violations(page) == []
    code = await asyncio.to_thread(eventually, lambda: deployment.newest_code(address, "deleting"))
    await field.fill(f"{(int(code) + 1) % 10**6:06}")
    await page.get_by_role("button", name="Delete my account").click()
    await expect(page.get_by_text("Type the newest code that was sent")).to_be_visible()
    await field.fill(code)
    await page.get_by_role("button", name="Delete my account").click()
    goodbye = page.get_by_role("heading", name="Your account is shut and being deleted")
    await expect(goodbye).to_be_focused()
    assert await violations(page) == []
    assert complaints == []
    await page.goto("/overview")
    await page.wait_for_url("**/sign-in?**")
