"""What is somewhere else: mail server, Stripe, Valkey. Each is asked once, and not for long."""

import asyncio
import json
from collections.abc import Generator
from typing import Any, Final, cast
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, build_opener

import aiosmtplib
import valkey

from api.mail import SmtpServer
from scripts.doctor.result import Result, finding, ok, skipped
from storage.errors import SettingsError
from storage.settings import Settings

SECONDS: Final = 5.0
_FORBIDDEN: Final = {401, 403}


def check_mail(settings: Settings) -> Generator[Result]:
    """Greet the mail server and sign in, or count the mails that are kept."""
    if settings.smtp_url is None:
        folder = settings.data_dir / "mail"
        count = sum(1 for _ in folder.glob("*.eml"))
        yield skipped("mail", f"no METRION_SMTP_URL: {count} mails are kept in {folder}")
        return
    try:
        server = SmtpServer.parse(settings.smtp_url.get_secret_value())
    except SettingsError as error:
        yield finding("mail", str(error), "correct METRION_SMTP_URL")
        return
    try:
        asyncio.run(_greet(server))
    except aiosmtplib.SMTPAuthenticationError:
        yield finding(
            "mail", f"{server.host} does not know this user or password", "correct METRION_SMTP_URL"
        )
    except (aiosmtplib.SMTPException, OSError, TimeoutError, ValueError) as error:
        yield finding(
            "mail",
            f"{server.host} port {server.port} cannot be used: {type(error).__name__}",
            "codes, alerts and receipts wait until it can: check host, port and TLS",
        )
    else:
        yield ok("mail", f"{server.host} port {server.port} takes mails")


async def _greet(server: SmtpServer) -> None:
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        username=server.user,
        password=server.password,
        use_tls=server.implicit_tls,
        start_tls=None if server.implicit_tls else server.start_tls,
        timeout=SECONDS,
    )
    async with asyncio.timeout(2 * SECONDS), client:
        await client.noop()


def check_stripe(settings: Settings) -> Generator[Result]:
    """Ask Stripe for the price that is sold."""
    if settings.stripe_secret_key is None:
        yield skipped("stripe", "no METRION_STRIPE_SECRET_KEY: plans are set by command")
        return
    host = urlsplit(settings.stripe_api_base).hostname
    try:
        _ask_for_price(settings)
    except HTTPError as error:
        if error.code in _FORBIDDEN:
            words, advice = "does not know this key", "correct METRION_STRIPE_SECRET_KEY"
        else:
            words = f"answered {error.code} about the price"
            advice = "correct METRION_STRIPE_PRICE_ID; a test key sees test prices only"
        yield finding("stripe", f"{host} {words}", advice)
    except (URLError, OSError, ValueError) as error:
        yield finding(
            "stripe",
            f"{host} does not answer: {type(error).__name__}",
            "nobody can subscribe, and erasures with a subscription wait: check the network",
        )
    else:
        yield ok("stripe", f"{host} knows the key and the price")


def _ask_for_price(settings: Settings) -> None:
    assert settings.stripe_secret_key is not None  # noqa: S101 - looked at by the caller
    request = Request(  # noqa: S310 - an address of the operator's
        f"{settings.stripe_api_base}/v1/prices/{quote(settings.stripe_price_id or '', safe='')}",
        headers={"authorization": f"Bearer {settings.stripe_secret_key.get_secret_value()}"},
    )
    with build_opener().open(request, timeout=SECONDS) as answer:
        json.load(answer)


def check_valkey(settings: Settings) -> Generator[Result]:
    """Ping Valkey, and look that it forgets no counts to make room."""
    if settings.valkey_url is None:
        yield skipped("valkey", "no METRION_VALKEY_URL; `scripts/run --workers` has one of its own")
        return
    url = settings.valkey_url.get_secret_value()
    host = urlsplit(url).hostname or "its socket"
    try:
        # of the form that the client library knows
        client = valkey.Valkey.from_url(  # pyright: ignore[reportUnknownMemberType]
            url, socket_timeout=SECONDS, socket_connect_timeout=SECONDS
        )
        with client:
            memory = cast("dict[str, Any]", client.info("memory"))  # pyright: ignore[reportUnknownMemberType]
    except (valkey.ValkeyError, OSError, ValueError) as error:
        yield finding(
            "valkey",
            f"{host} cannot be used: {type(error).__name__}",
            "until it can, each proxy process counts by itself: check address and password",
        )
        return
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if policy.startswith("allkeys"):
        yield finding(
            "valkey",
            f"{host} throws counts away when its memory is full (maxmemory-policy {policy})",
            "set maxmemory-policy to noeviction or volatile-ttl",
        )
    else:
        yield ok("valkey", f"{host} answers and uses {memory.get('used_memory_human', '?')}")
