"""The dashboard in a real Chromium, against a whole deployment with a fake provider behind it.

Chromium is the distribution's (`apt-get install chromium`), axe-core comes inside a Python package.
"""

import asyncio
import random
import re
import shutil
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import axe_playwright_python
import httpx
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Locator, Page, async_playwright, expect
from pydantic import SecretStr

from api.routes.pages import PAGES
from scripts.demo_data import models
from storage import accounts, roles
from storage.database import Database
from storage.database_url import service_url
from storage.example_data import Example, fill
from storage.identifiers import uuid7
from storage.ingest import LogWriter
from storage.sealing import MasterKeys
from storage.sessions import create_session

# One browser and one event loop for the module.
pytestmark = pytest.mark.asyncio(loop_scope="module")

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
ARGUMENTS = [
    "--no-sandbox",  # as root there is none
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
]
DESKTOP = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
WIDTH = "document.documentElement.scrollWidth"
PATHS = [page.path for page in PAGES]
MOST_TABS = 150
OVERVIEW_MOST_BYTES = 60_000
MOST_MS_TO_OVERVIEW = 10_000
expect.set_options(timeout=20_000)  # a busy machine is no failure
LONG_MODEL = "accounts/acme-production/models/" + "fine-tuned-llama-4-maverick-" * 3 + "v2"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def chromium() -> AsyncIterator[Browser]:
    path = shutil.which("chromium")
    assert path, "these tests need Chromium: apt-get install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        await browser.close()


class Visitor:
    """Somebody with a browser; what the browser complains about is collected.

    Attributes:
        page: the tab.
        complaints: errors of scripts and of the policy.
    """

    def __init__(self, page: Page, api_url: str) -> None:
        self.page = page
        self.api_url = api_url
        self.complaints: list[str] = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", self._note)

    def _note(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    async def open(self, path: str) -> None:
        await self.page.goto(self.api_url + path)
        await expect(self.page.locator(".skeleton")).to_have_count(0)

    async def press(self, what: Locator) -> None:
        await what.click()

    async def choose(self, radio: Locator) -> None:
        await radio.check()

    async def write(self, field: Locator, text: str) -> None:
        await field.fill(text)


class KeyboardVisitor(Visitor):
    """Somebody who cannot use a mouse: everything is reached by Tab, in a bounded number of them."""

    async def _reach(self, what: Locator, reached: Callable[[], Awaitable[bool]]) -> None:
        await expect(what).to_be_visible()
        is_behind = await what.evaluate(
            "each => document.activeElement !== document.body && Boolean("
            "each.compareDocumentPosition(document.activeElement) & Node.DOCUMENT_POSITION_FOLLOWING)"
        )
        for _ in range(MOST_TABS):
            if await reached():
                return
            await self.page.keyboard.press("Shift+Tab" if is_behind else "Tab")
        pytest.fail("the keyboard does not get there")

    async def _reach_element(self, what: Locator) -> None:
        await self._reach(what, lambda: what.evaluate("each => each === document.activeElement"))

    async def press(self, what: Locator) -> None:
        await self._reach_element(what)
        await self.page.keyboard.press("Enter")

    async def choose(self, radio: Locator) -> None:
        name = await radio.get_attribute("name")
        await self._reach(
            radio, lambda: self.page.evaluate("name => document.activeElement.name === name", name)
        )
        for _ in range(10):
            if await radio.is_checked():
                return
            await self.page.keyboard.press("ArrowRight")
        pytest.fail("the arrow keys do not get there")

    async def write(self, field: Locator, text: str) -> None:
        await self._reach_element(field)
        await self.page.keyboard.type(text)


Arrive = Callable[..., Awaitable[Visitor]]


@pytest_asyncio.fixture(loop_scope="module")
async def arrive(chromium: Browser, deployment) -> AsyncIterator[Arrive]:
    """A function that gives a visitor with a fresh browser profile."""
    contexts = []

    async def make(kind: type[Visitor] = Visitor, **options: Any) -> Visitor:
        options = {"viewport": DESKTOP, "locale": "en-US", "reduced_motion": "reduce"} | options
        context = await chromium.new_context(**options)
        contexts.append(context)
        await context.grant_permissions(["clipboard-read", "clipboard-write"])
        return kind(await context.new_page(), deployment.api_url)

    yield make
    for context in contexts:
        await context.close()


async def code_for(deployment, address: str) -> str:
    for _ in range(500):
        if code := deployment.newest_code(address):
            return code
        await asyncio.sleep(0.02)
    pytest.fail("no mail came")


async def sign_in(visitor: Visitor, deployment, address: str) -> None:
    page = visitor.page
    await visitor.write(page.get_by_label("E-mail address"), address)
    await visitor.press(page.get_by_role("button", name="Send a code"))
    await expect(page.get_by_role("heading", name="Look at your mail")).to_be_visible()
    await expect(page.get_by_text("the newest file in the folder mail")).to_be_visible()
    code = await code_for(deployment, address)
    await visitor.write(page.get_by_label("Code"), code)  # the sixth digit sends it
    await page.wait_for_url(lambda url: "/sign-in" not in url)


def write_rows(deployment, account_id: str, count: int = 120, **same: Any) -> None:
    """Requests of all kinds: nulls, zeros, long names, errors, hits of the cache; `same` in all."""
    chance = random.Random(6)
    writer = LogWriter(service_url(deployment.settings, roles.PROXY))
    models = ["gpt-5.1", "claude-sonnet-4-5", LONG_MODEL, None, *(f"model-{n}" for n in range(40))]
    rows = []
    for number in range(count):
        status = chance.choice([200] * 8 + [429, 500, 400, None])
        tokens = chance.choice([None, 0, 1200]) if status == 200 else None
        known = tokens is not None and chance.random() < 0.7
        rows.append(
            {
                "id": str(uuid7()),
                "account_id": account_id,
                "created_at": (
                    datetime.now(UTC) - timedelta(minutes=chance.randrange(60 * 24 * 5))
                ).isoformat(),
                "provider": chance.choice(["openai", "anthropic", "gemini"]),
                "endpoint": "chat/completions",
                "model": chance.choice(models),
                "requester": chance.choice([None, "checkout-bot", "x" * 200]),
                "mode": "stored",
                "status": status,
                "outcome": "ok" if status == 200 else "client_closed",
                "streamed": number % 2 == 0,
                "cached": status == 200 and number % 9 == 0,
                "input_tokens": tokens,
                "cache_read_tokens": tokens and tokens // 2,
                "cache_write_tokens": tokens and 0,
                "output_tokens": tokens and tokens // 4,
                "reasoning_tokens": tokens and tokens // 8,
                "total_tokens": tokens and tokens + tokens // 4,
                "cost_usd": str(Decimal(tokens or 0) / 10**6) if known else None,
                "price_source": "genai-prices" if known else None,
                "latency_ms": chance.uniform(20, 9000),
                "ttfb_ms": chance.choice([None, chance.uniform(10, 20)]),
                "overhead_ms": chance.choice([None, 0.4]),
                "error": None if status == 200 else "Rate limit reached. <b>Try</b> again later.",
                "left_out": 0,
            }
            | same
        )
    try:
        assert writer.write(rows) == count
    finally:
        writer.close()


@asynccontextmanager
async def new_account(deployment) -> AsyncGenerator[tuple[Database, UUID]]:
    """The API's database, and somebody who never was there."""
    account = await asyncio.to_thread(deployment.create_account, with_keys=False)
    database = Database(service_url(deployment.settings, roles.API), pool_size=1)
    try:
        async with database.system() as connection:
            account_id = await accounts.find_account(connection, account.email)
        assert account_id is not None
        yield database, account_id
    finally:
        await database.close()


async def session_of(deployment, database: Database, account_id: UUID) -> str:
    async with database.account(account_id) as connection:
        keys = MasterKeys.load(deployment.settings)
        return (await create_session(connection, keys, account_id, "e2e")).secret


async def enter(visitor: Visitor, secret: str) -> None:
    """Be signed in, without a mail."""
    cookie = {"name": "metrion_session", "value": secret, "url": visitor.api_url}
    await visitor.page.context.add_cookies([cookie])


async def account_with_rows(visitor: Visitor, deployment, count: int = 120, **same: Any) -> None:
    """Be signed in, with requests; zero: with none."""
    async with new_account(deployment) as (database, account_id):
        if count:
            await asyncio.to_thread(write_rows, deployment, str(account_id), count, **same)
        await enter(visitor, await session_of(deployment, database, account_id))


def ask_through_the_proxy(deployment, token: str) -> None:
    answer = httpx.post(
        f"{deployment.proxy_url}/api/proxy/openai/v1/chat/completions",
        headers={"authorization": f"Bearer {token}", "x-metrion-user": "first-visitor"},
        json={"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]},
    )
    assert answer.status_code == 200, answer.text


async def find_the_way(visitor: Visitor) -> str:
    """From nothing to code that only has to be run; returns the Metrion Key."""
    page = visitor.page
    # nothing there yet, and what to do about it
    await expect(page.get_by_role("heading", name="No requests in the last 7 days")).to_be_visible()
    await visitor.press(page.get_by_role("link", name="Make your first request"))
    await page.wait_for_url("**/integrate")

    # the key, then a provider's key, then the code
    await expect(page.locator("[data-token]")).to_have_text(re.compile(r"sk-metrion-….{4}"))
    await visitor.press(page.get_by_role("button", name="Reveal"))
    await expect(page.locator("[data-token]")).to_have_text(re.compile(r"sk-metrion-[0-9a-f]{32}"))
    token = await page.locator("[data-token]").inner_text()
    await visitor.press(page.get_by_role("button", name="Hide"))
    await expect(page.locator("[data-token]")).not_to_have_text(token)
    assert token not in await page.content()
    await visitor.choose(page.get_by_role("radio", name="OpenAI"))
    await expect(page.get_by_text("Save a key of OpenAI first")).to_be_visible()
    await visitor.write(page.get_by_label("Key of OpenAI"), "sk-CANARY-" + "a" * 40 + "wxyz")
    await visitor.press(page.get_by_role("button", name="Save"))
    await expect(page.get_by_text("…wxyz").first).to_be_visible()
    assert "CANARY" not in await page.content()
    await visitor.press(page.get_by_role("button", name="Copy with key"))
    await expect(page.get_by_text("Code copied.")).to_be_visible()
    copied = await page.evaluate("navigator.clipboard.readText()")
    assert token in copied
    assert "/api/proxy/openai/v1" in copied
    assert token not in await page.content()
    return token


async def make_a_request(visitor: Visitor, deployment, token: str) -> None:
    page = visitor.page
    # a request, confirmed within seconds
    await asyncio.to_thread(ask_through_the_proxy, deployment, token)
    await expect(page.get_by_text("It works: your request arrived.")).to_be_visible()
    await visitor.press(page.get_by_role("link", name="See it on Overview"))
    await page.wait_for_url("**/overview?range=24h")
    card = page.get_by_role("region", name="Requests", exact=True)
    await expect(card.locator(".value")).to_have_text("1")

    # it is in the log, with its details
    await visitor.press(page.get_by_role("link", name="Logs"))
    await expect(page.get_by_role("cell", name="first-visitor")).to_be_visible()
    await visitor.press(page.locator("tbody .open").first)
    await expect(page.get_by_role("dialog", name="Request")).to_contain_text("stored in Metrion")
    await page.keyboard.press("Escape")


async def change_the_currency(visitor: Visitor) -> None:
    page = visitor.page
    # another currency
    await visitor.press(page.get_by_role("link", name="Settings"))
    await visitor.choose(page.get_by_role("radio", name="Euro"))
    await expect(page.get_by_text("Amounts are shown in EUR now")).to_be_visible()
    await visitor.press(page.get_by_role("link", name="Costs"))
    total = page.get_by_role("region", name="In this period")
    await expect(total.locator(".value")).to_contain_text("€")
    await expect(page.get_by_text("1 USD = ")).to_be_visible()


async def change_the_keys(visitor: Visitor, deployment, token: str) -> None:
    page = visitor.page
    # a new key: the old one is refused
    await visitor.open("/settings/key")
    await visitor.press(page.get_by_role("button", name="Regenerate the key"))
    await visitor.press(page.get_by_role("dialog").get_by_role("button", name="Regenerate"))
    await expect(page.get_by_text("This is the new key")).to_be_visible()
    await expect(page.locator("[data-token]")).not_to_have_text(token)
    refused = await asyncio.to_thread(
        httpx.get,
        f"{deployment.proxy_url}/api/proxy/openai/v1/models",
        headers={"authorization": f"Bearer {token}"},
    )
    assert refused.status_code == 401

    # the provider's key goes, and the page says where to revoke it
    await visitor.open("/settings/providers")
    await visitor.press(page.get_by_role("button", name="Delete the key of OpenAI"))
    await visitor.press(page.get_by_role("dialog").get_by_role("button", name="Delete"))
    await expect(page.get_by_role("link", name="Revoke it at OpenAI")).to_be_visible()


@pytest.mark.parametrize("kind", [Visitor, KeyboardVisitor])
async def test_a_first_visit(arrive: Arrive, deployment, provider, kind: type[Visitor]):
    visitor = await arrive(kind)
    page = visitor.page
    address = f"{kind.__name__.lower()}@example.com"
    await page.goto(f"{visitor.api_url}/overview")
    await sign_in(visitor, deployment, address)
    token = await find_the_way(visitor)
    await make_a_request(visitor, deployment, token)
    await change_the_currency(visitor)
    await change_the_keys(visitor, deployment, token)

    # out, and the way back is closed
    await visitor.open("/profile")
    await visitor.press(page.get_by_role("button", name="Sign out"))
    await page.wait_for_url("**/sign-in")
    await page.goto(f"{visitor.api_url}/overview")
    await expect(page.get_by_label("E-mail address")).to_be_visible()
    assert visitor.complaints == []


async def test_every_page_is_accessible_and_keeps_the_policy(arrive: Arrive, deployment):
    stranger, beginner, regular = await arrive(), await arrive(), await arrive()
    await account_with_rows(beginner, deployment, 0)
    await account_with_rows(regular, deployment)
    # the five tabs are empty in the same way
    found = dict(
        [
            *await look_at(stranger, "/sign-in"),
            *await look_at(beginner, "/overview", "/logs"),
            *await look_at(regular, *PATHS),
        ]
    )
    assert len(found) == 1 + 2 + len(PATHS)
    assert {where: what for where, what in found.items() if what} == {}
    for visitor in (stranger, beginner, regular):
        assert visitor.complaints == []


async def look_at(visitor: Visitor, *paths: str) -> list[tuple[tuple[str, int], list[str]]]:
    """What is wrong with pages, by path and by how many this visitor looks at."""
    found: list[tuple[tuple[str, int], list[str]]] = []
    for path in paths:
        await visitor.open(path)
        await expect(visitor.page.locator("main:not([aria-busy])")).to_be_visible()
        found.append(((path, len(paths)), await violations(visitor.page)))
    return found


async def violations(page: Page) -> list[str]:
    """What axe finds in light, and what of the colours it finds in dark."""
    await page.evaluate(AXE)
    await page.emulate_media(color_scheme="light")
    light = await page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    await page.emulate_media(color_scheme="dark")
    dark = await page.evaluate(
        "axe.run(document, { resultTypes: ['violations'], runOnly: ['color-contrast'] })"
    )
    found = light["violations"] + dark["violations"]
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found]


async def test_what_axe_finds_is_seen(arrive: Arrive):
    """In light a picture without words, in dark words that cannot be read."""
    page = (await arrive()).page
    await page.set_content(
        "<!doctype html><html lang=en><title>Faults</title><style>p { color: light-dark(black, #222);"
        " background: light-dark(white, black) } :root { color-scheme: light dark }</style>"
        "<main><h1>Faults</h1><img src='data:,'><p>Words</p></main>"
    )
    found = " ".join(await violations(page))
    assert "image-alt" in found
    assert "color-contrast" in found


async def test_on_a_phone_no_page_is_wider_than_the_screen(arrive: Arrive, deployment):
    visitor = await arrive(viewport=PHONE, has_touch=True)
    page = visitor.page
    await account_with_rows(visitor, deployment)
    for path in PATHS:
        await visitor.open(path)
        assert await page.evaluate(WIDTH) <= PHONE["width"], path
    await visitor.open("/errors")
    errors = page.get_by_role("region", name="Most recent errors: table").get_by_role("row")
    box = await errors.nth(1).bounding_box()
    assert box is not None
    assert box["height"] < 150, "a message has room for its words"
    await expect(page.get_by_role("link", name="Costs")).to_be_hidden()
    await page.get_by_role("button", name="Menu").tap()
    await page.get_by_role("link", name="Costs").tap()
    await page.wait_for_url("**/costs")
    await page.goto(f"{visitor.api_url}/sign-in")
    await page.get_by_label("E-mail address").fill(f"{'long.name.' * 6}x@a-company.example.com")
    await page.get_by_role("button", name="Send a code").click()
    await page.get_by_label("Code").wait_for()
    assert await page.evaluate(WIDTH) <= PHONE["width"]
    assert visitor.complaints == []


async def test_filters_are_in_the_address_and_back_undoes_them(arrive: Arrive, deployment):
    visitor = await arrive()
    page = visitor.page
    await account_with_rows(visitor, deployment)
    await visitor.open("/overview")
    value = page.get_by_role("region", name="Requests", exact=True).locator(".value")
    await expect(value).to_have_text("120")
    await page.get_by_role("button", name="Model", exact=True).click()
    await page.get_by_role("searchbox", name="Find a model").fill("fine-tuned")
    await page.get_by_role("checkbox", name=re.compile("fine-tuned")).check()
    await page.get_by_role("button", name="Apply").click()
    await expect(value).not_to_have_text("120")
    assert httpx.URL(page.url).params.get_list("model") == [LONG_MODEL]
    filtered = await value.inner_text()
    await page.get_by_role("link", name="Logs").click()  # the tabs and the log share them
    await expect(page.get_by_role("status").first).to_contain_text(f"of {filtered} request")
    await page.go_back()
    await expect(value).to_have_text(filtered)
    await page.go_back()
    await expect(value).to_have_text("120")
    await page.goto(f"{visitor.api_url}/overview?requester=nobody-of-this-name")
    await expect(page.get_by_role("heading", name="Nothing fits these filters")).to_be_visible()
    await page.get_by_role("button", name="Clear the filters").click()
    await expect(value).to_have_text("120")


async def test_a_chart_is_read_by_keyboard_and_as_a_table(arrive: Arrive, deployment):
    visitor = await arrive()
    page = visitor.page
    await account_with_rows(visitor, deployment)
    await visitor.open("/overview")
    card = page.get_by_role("region", name="Tokens over time", exact=True)
    chart = card.get_by_role("slider")
    # drawn as soon as it is known how large it is
    await expect(card.locator("svg.plot")).to_have_attribute("viewBox", re.compile("[0-9]"))
    await chart.focus()
    await page.keyboard.press("Home")
    await expect(chart).to_have_attribute("aria-valuenow", "0")
    first = await chart.get_attribute("aria-valuetext")
    assert first
    await page.keyboard.press("ArrowRight")
    await expect(chart).to_have_attribute("aria-valuenow", "1")
    await expect(chart).not_to_have_attribute("aria-valuetext", first)
    await expect(card.locator(".tip")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(card.locator(".tip")).to_be_hidden()
    await card.get_by_text("View as table").click()
    last = int(await chart.get_attribute("aria-valuemax") or 0)
    await expect(card.get_by_role("row")).to_have_count(1 + last + 1)
    await expect(chart).to_have_attribute("aria-valuetext", re.compile("Output"))
    await card.get_by_role("button", name="Output").click()
    await expect(chart).not_to_have_attribute("aria-valuetext", re.compile("Output"))


FAILED = {"status": 500, "outcome": "provider_error", "model": "gpt-5.1", "cached": False}
UNPRICED = {"status": 200, "outcome": "ok", "cached": False, "input_tokens": 9, "output_tokens": 9}
UNUSED = {"input_tokens": None, "output_tokens": None, "total_tokens": None}
NO_PRICE = {"cost_usd": None, "price_source": None}


@pytest.mark.parametrize(
    ("same", "costs", "errors"),
    [
        (UNPRICED | NO_PRICE, "Nothing with a known price in this time.", 3),
        (FAILED | UNUSED | NO_PRICE, "Nothing cost anything in this time.", 0),
    ],
)
async def test_a_chart_with_nothing_to_draw_says_so(
    arrive: Arrive, deployment, same: dict[str, Any], costs: str, errors: int
):
    """A line at 0 would say of what has no known price that it was free."""
    visitor = await arrive()
    page = visitor.page
    await account_with_rows(visitor, deployment, 4, **same)
    for path, name in (("/overview", "Cost by model"), ("/costs", "Cost by model over time")):
        await visitor.open(path)
        chart = page.get_by_role("region", name=name, exact=True)
        await expect(chart).to_contain_text(costs)
        await expect(chart.get_by_role("slider")).to_have_count(0)
    await visitor.open("/errors")
    await expect(page.get_by_text("No request failed in this time.")).to_have_count(errors)
    often = page.get_by_role("region", name="Error rate").get_by_text("about 10 in 10")
    await expect(often).to_have_count(0 if errors else 1)
    assert visitor.complaints == []


async def test_search_paging_and_csv_of_the_log(arrive: Arrive, deployment):
    visitor = await arrive()
    page = visitor.page
    await account_with_rows(visitor, deployment)
    await visitor.open("/logs")
    footer = page.get_by_role("status").first
    await expect(footer).to_contain_text(re.compile("^1.50 of 120 requests"))
    await page.get_by_role("button", name="Next").click()
    await expect(footer).to_contain_text(re.compile("^51.100 of 120 requests"))
    await page.get_by_role("button", name="Previous").click()
    await expect(footer).to_contain_text(re.compile("^1.50 of 120 requests"))
    await page.get_by_role("searchbox", name="Search by model or requester").fill("checkout")
    await expect(footer).not_to_contain_text("120")
    found = page.locator("tbody td:nth-child(3)")
    await expect(found.filter(has_not_text="checkout-bot")).to_have_count(0)
    await expect(found).not_to_have_count(0)
    async with page.expect_download() as download:
        await page.get_by_role("link", name="Download CSV").click()
    lines = (await (await download.value).path()).read_text().splitlines()
    assert lines[0].startswith("id,created_at,provider,")
    assert len(lines) == 1 + int(re.findall(r"of (\d+)", await footer.inner_text())[0])


async def test_when_the_server_fails_the_page_says_so_and_tries_again(arrive: Arrive, deployment):
    visitor = await arrive()
    page = visitor.page
    await account_with_rows(visitor, deployment)
    await page.route("**/api/v1/usage/overview*", lambda route: route.abort())
    await page.goto(f"{visitor.api_url}/overview")
    await expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")
    await page.unroute("**/api/v1/usage/overview*")
    await page.get_by_role("button", name="Try again").click()
    value = page.get_by_role("region", name="Requests", exact=True).locator(".value")
    await expect(value).to_have_text("120")


async def test_new_requests_show_without_a_reload(arrive: Arrive, deployment):
    visitor = await arrive()
    page = visitor.page
    await account_with_rows(visitor, deployment)
    await visitor.open("/overview?range=24h")
    await expect(page.get_by_text("Live", exact=True)).to_be_visible()
    value = page.get_by_role("region", name="Requests", exact=True).locator(".value")
    await expect(value).to_have_text(re.compile("^[0-9]+$"))
    before = await value.inner_text()
    known = await (await page.request.get(f"{visitor.api_url}/api/v1/account")).json()
    await asyncio.to_thread(write_rows, deployment, known["id"], 400)
    await expect(value).not_to_have_text(before)


async def test_a_wrong_code_is_said_and_a_session_that_ended_leads_back(arrive: Arrive, deployment):
    visitor = await arrive()
    page = visitor.page
    await page.goto(f"{visitor.api_url}/logs?range=30d")
    await page.get_by_label("E-mail address").fill("wrong@example.com")
    await page.get_by_role("button", name="Send a code").click()
    code = await code_for(deployment, "wrong@example.com")
    await page.get_by_label("Code").fill(f"{(int(code) + 1) % 10**6:06}")
    await expect(page.get_by_role("alert")).not_to_be_empty()
    await page.get_by_label("Code").fill(code)
    await page.wait_for_url("**/logs?range=30d")
    await page.request.delete(
        f"{visitor.api_url}/api/v1/auth/sessions/current", headers={"origin": visitor.api_url}
    )
    await page.context.add_cookies(
        [{"name": "metrion_session", "value": "A" * 43, "url": visitor.api_url}]
    )
    await page.goto(f"{visitor.api_url}/costs")
    await page.wait_for_url("**/sign-in?next=%2Fcosts")


@pytest.mark.parametrize(
    "evil", ["https://evil.example/", "//evil.example/x", "/\\evil.example", "javascript:alert(1)"]
)
async def test_sign_in_leads_to_no_other_site(arrive: Arrive, deployment, evil: str):
    visitor = await arrive()
    page = visitor.page
    await page.goto(str(httpx.URL(f"{visitor.api_url}/sign-in", params={"next": evil})))
    await page.route("**/api/v1/auth/codes", lambda route: route.fulfill(status=202, json={}))
    await page.route("**/api/v1/auth/sessions", lambda route: route.fulfill(status=201, json={}))
    await page.get_by_label("E-mail address").fill("next@example.com")
    await page.get_by_role("button", name="Send a code").click()
    async with page.expect_request("**/overview") as request:
        await page.get_by_label("Code").fill("123456")
    assert (await request.value).url == f"{visitor.api_url}/overview"


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def session_of_months(deployment) -> str:
    """The session of somebody with 90 days of requests by 8 models."""
    url = SecretStr(deployment.ready["database_url"])
    ingesting = Database(url, act_as=roles.DEFINER, pool_size=1, statement_seconds=300)
    example = Example(90, 4_000, models(8), [f"person {number}" for number in range(12)], 1)
    async with new_account(deployment) as (database, account_id):
        try:
            async for _ in fill(ingesting, account_id, example):
                pass
        finally:
            await ingesting.close()
        return await session_of(deployment, database, account_id)


async def test_the_first_look_at_overview_weighs_little(arrive: Arrive, session_of_months: str):
    """All that comes over the wire, with the heads of the answers, into an empty browser."""
    visitor = await arrive()
    await enter(visitor, session_of_months)
    asked: list[str] = []
    visitor.page.on("request", lambda request: asked.append(request.url))
    weights = await weigh(visitor, "/overview?range=90d")
    assert sum("/usage/overview" in url for url in asked) == 1, "head and script ask for the same"
    assert "/api/v1/usage/overview" in weights
    assert len(weights) > 20
    assert 20_000 < sum(weights.values()) < OVERVIEW_MOST_BYTES, weights
    again = await weigh(visitor, "/overview?range=90d")
    of_files = {path: weight for path, weight in again.items() if path.startswith("/static/")}
    assert sum(of_files.values()) == 0, "they are kept"


async def weigh(visitor: Visitor, path: str) -> dict[str, int]:
    """Open a page; return what each answer weighed."""
    devtools = await visitor.page.context.new_cdp_session(visitor.page)
    await devtools.send("Network.enable")
    paths: dict[str, str] = {}
    weights: Counter[str] = Counter()
    devtools.on(
        "Network.requestWillBeSent",
        lambda event: paths.update({event["requestId"]: httpx.URL(event["request"]["url"]).path}),
    )
    devtools.on(
        "Network.loadingFinished",
        lambda event: weights.update({paths[event["requestId"]]: int(event["encodedDataLength"])}),
    )
    await visitor.open(path)
    await expect(visitor.page.get_by_text("Live", exact=True)).to_be_visible()
    await devtools.detach()
    return weights


async def test_overview_is_soon_usable(arrive: Arrive, session_of_months: str, table):
    """From the address to figures and charts; twice, because most visits are not the first."""
    visitor = await arrive()
    await enter(visitor, session_of_months)
    page = visitor.page
    await page.goto(f"{visitor.api_url}/sign-in")  # the server is warm
    milliseconds: dict[str, float] = {}
    for visit in ("first", "second"):
        await visitor.open("/overview?range=90d")
        value = page.get_by_role("region", name="Requests", exact=True).locator(".value")
        await expect(value).to_have_text(re.compile("^[34],[0-9]{3}$"))
        await expect(page.locator("svg.plot").nth(5)).to_be_visible()
        drawn = await page.wait_for_function("performance.getEntriesByName('drawn')[0]?.startTime")
        milliseconds[visit] = await drawn.json_value()
    lines = (f"{visit} visit{drawn:>10.0f} ms" for visit, drawn in milliseconds.items())
    table("Overview, from its address to its charts\n" + "\n".join(lines))
    # on a quiet machine it is a fraction of a second
    assert all(0 < drawn < MOST_MS_TO_OVERVIEW for drawn in milliseconds.values())
