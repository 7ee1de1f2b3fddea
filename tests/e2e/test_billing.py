"""Paying in a real browser: the API as a process of its own, a fake Stripe that sends webhooks.

Each state of the page that takes days to come about is told to it by a made-up answer of the API.
"""

import asyncio
import email
import email.policy
import re
import shutil
from pathlib import Path

import axe_playwright_python
import httpx
import pytest
import pytest_asyncio
from playwright.async_api import async_playwright, expect

from scripts.fake_stripe import FakeStripe, Server
from storage import roles

# One browser and one event loop for the module.
pytestmark = pytest.mark.asyncio(loop_scope="module")

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
SECRET = "whsec_of_metrion"
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1440, "height": 900}
expect.set_options(timeout=20_000)  # a busy machine is no failure


@pytest.fixture(scope="module")
def fake():
    fake = FakeStripe()
    server = Server(fake)
    yield fake
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def metrion(postgres, tmp_path_factory, start_service, fake):
    """An API that takes payments: its address, and its data directory."""
    with postgres.fresh_database(tmp_path_factory.mktemp("billing")) as fresh:
        url = start_service(
            "serve_api",
            METRION_DATA_DIR=str(fresh.settings.data_dir),
            METRION_DATABASE_URL=fresh.url(roles.API).get_secret_value(),
            METRION_STRIPE_SECRET_KEY="sk_test_of_metrion",
            METRION_STRIPE_WEBHOOK_SECRET=SECRET,
            METRION_STRIPE_PRICE_ID="price_pro",
            METRION_STRIPE_API_BASE=fake.url,
        )
        fake.webhook = (f"{url}/api/v1/billing/webhook", SECRET)
        yield url, fresh.settings.data_dir


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def ada(metrion):
    """A browser's page, signed in; what the browser complains about is in `complaints`."""
    url, data_dir = metrion
    address = "ada@example.com"
    async with httpx.AsyncClient(base_url=url, timeout=20) as client:
        while True:
            try:
                await client.post("/api/v1/auth/codes", json={"email": address})
                break
            except httpx.TransportError:
                await asyncio.sleep(0.1)
        while not (mails := sorted((data_dir / "mail").glob("*.eml"))):
            await asyncio.sleep(0.02)
        mail = email.message_from_bytes(mails[-1].read_bytes(), policy=email.policy.default)
        code = re.search(r"^\s+([0-9]{6})\s*$", mail.get_content(), re.MULTILINE)[1]
        await client.post("/api/v1/auth/sessions", json={"email": address, "code": code})
        session = client.cookies["metrion_session"]
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"],
        )
        context = await browser.new_context(
            base_url=url, viewport=DESKTOP, locale="en-US", reduced_motion="reduce"
        )
        await context.add_cookies([{"name": "metrion_session", "value": session, "url": url}])
        page = await context.new_page()
        page.complaints = []
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda message: note(page, message))
        yield page
        await browser.close()


def note(page, message):
    about_us = "/favicon.ico" not in message.location["url"]  # the fake Stripe has none
    if message.type in ("error", "warning") and about_us:
        page.complaints.append(message.text)


async def look(page):
    """Nothing is wrong with the page, in both themes, on a screen and on a phone."""
    await page.evaluate(AXE)
    for scheme in ("light", "dark"):
        await page.emulate_media(color_scheme=scheme)
        found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        seen = [
            (each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]
        ]
        assert seen == [], scheme
    await page.set_viewport_size(PHONE)
    wide = await page.evaluate("document.documentElement.scrollWidth")
    await page.set_viewport_size(DESKTOP)
    assert wide <= PHONE["width"]
    assert page.complaints == []


async def open_plan(page, query=""):
    await page.goto(f"/settings/plan{query}")
    await expect(page.locator(".skeleton")).to_have_count(0)


async def test_from_free_to_pro_and_back(ada, fake):
    await open_plan(ada)
    await expect(ada.get_by_text("0 of 10,000 requests")).to_be_visible()
    await look(ada)
    await ada.get_by_role("button", name="Upgrade to Pro").click()
    await ada.get_by_role("button", name="Pay and subscribe").click()
    await expect(ada.get_by_text("Welcome to Pro")).to_be_visible()
    await expect(ada.locator("[data-plan]")).to_have_text("Pro")
    await expect(ada.get_by_text("It renews on")).to_be_visible()
    assert "checkout" not in ada.url
    await look(ada)
    await ada.get_by_role("button", name="Manage the subscription").click()
    await ada.get_by_role("button", name="Cancel the subscription").click()
    await expect(ada.get_by_text("0 of 10,000 requests")).to_be_visible()
    await expect(ada.get_by_text("Your subscription has ended")).to_be_visible()
    await look(ada)


LIVE = {
    "status": "active",
    "is_live": True,
    "current_period_end": "2030-01-31T12:00:00Z",
    "cancel_at_period_end": False,
}
STATES = {
    "without payments": ("free", False, None, "metrion plan set ada@example.com pro"),
    "pro without payments": ("pro", False, None, "has put you on Pro"),
    "ending": ("pro", True, LIVE | {"cancel_at_period_end": True}, "It ends on Jan 31, 2030"),
    "past due": ("pro", True, LIVE | {"status": "past_due"}, "The last payment failed"),
    "unpaid": ("free", True, LIVE | {"status": "unpaid", "is_live": False}, "waits for a payment"),
    "free by the operator": ("free", True, LIVE, "has put the account on Free"),
    "pro by the operator": ("pro", True, None, "You are not charged for it"),
}


@pytest.mark.parametrize("state", STATES)
async def test_every_state_has_its_words(ada, state):
    plan, pays, subscription, words = STATES[state]
    told = {
        "**/api/v1/account": {"plan": plan, "month_requests": 8500},
        "**/api/v1/billing": {"takes_payments": pays, "subscription": subscription},
    }
    for address, changed in told.items():
        await answer_with(ada, address, changed)
    try:
        await open_plan(ada)
        await expect(ada.get_by_text(words)).to_be_visible()
        if state in ("without payments", "past due"):
            await look(ada)
    finally:
        await ada.unroute_all()


async def answer_with(page, address, changed):
    """Let the page get the API's answer with some values changed."""

    async def change(route):
        real = await route.fetch()
        await route.fulfill(response=real, json=await real.json() | changed)

    await page.route(address, change)


async def test_a_payment_that_is_not_confirmed_yet_is_waited_for(ada):
    await open_plan(ada, "?checkout=done")
    await expect(ada.get_by_text("Waiting for Stripe to confirm")).to_be_visible()
    await answer_with(ada, "**/api/v1/account", {"plan": "pro", "month_limit": None})
    await expect(ada.get_by_text("Welcome to Pro")).to_be_visible()
    await expect(ada.get_by_text("There is no limit.")).to_be_visible()
    await ada.unroute_all()
    assert ada.complaints == []


async def test_when_stripe_is_away_the_page_says_so(ada, fake):
    await open_plan(ada)
    fake.failures += [500] * 3
    await ada.get_by_role("button", name="Upgrade to Pro").click()
    await expect(ada.get_by_role("alert")).to_contain_text("payment service does not answer")
    ada.complaints.clear()  # the browser tells of the 503 as well
