"""Fills an account with made-up requests: `python -m scripts.demo_data EMAIL [--days 90] …`.

For looking at the dashboard with months of use: 40 models with long names, requests without price,
tokens or status. The deployment must be running; what is written cannot be told from real requests
and goes with the account.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from storage import accounts, roles
from storage.database import Database
from storage.database_url import administrator_url
from storage.errors import StorageError
from storage.example_data import Example, fill
from storage.settings import Settings

# As long as providers make them, and longer.
_MODELS = (
    ("openai", "gpt-4o-mini-2024-07-18"),
    ("anthropic", "claude-sonnet-4-5-20250929"),
    ("openai", "gpt-5-2025-08-07"),
    ("gemini", "gemini-2.5-flash-preview-09-2025"),
    ("anthropic", "claude-opus-4-1-20250805"),
    ("mistral", "mistral-large-2411"),
    ("grok", "grok-4-fast-non-reasoning"),
    ("openai", "ft:gpt-4o-mini-2024-07-18:acme-europe-gmbh:support-tickets-german-v12:AbCdEfGh"),
    ("gemini", "gemini-2.5-pro"),
    ("openai", "text-embedding-3-large"),
    ("mistral", "codestral-2508"),
    ("anthropic", "claude-3-5-haiku-20241022"),
)
_REQUESTERS = (
    *("checkout-bot", "support-desk", "ann@example.com", "nightly-summaries", "search-index"),
    *("bob@example.com", "translation-pipeline-eu-central-production-with-a-long-name", "ci"),
    *("mobile-app", "sales-assistant", "data-team", "carol@example.com"),
)


def models(count: int) -> list[tuple[str, str]]:
    """Return so many models with their providers, the busiest first."""
    providers = [provider for provider, _ in _MODELS]
    return [
        _MODELS[number]
        if number < len(_MODELS)
        else (
            provider := providers[number % len(providers)],
            f"{provider}-experimental-{number:02}-preview-2025-{number % 12 + 1:02}-15",
        )
        for number in range(count)
    ]


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m scripts.demo_data", description=__doc__)
    parser.add_argument("email", help="the account's address")
    parser.add_argument("--data-dir", type=Path, help="of the deployment")
    parser.add_argument("--days", type=int, default=90, help="how far back (default: 90)")
    parser.add_argument("--requests", type=int, default=50_000, help="in all (default: 50000)")
    parser.add_argument("--models", type=int, default=12, help="how many (default: 12)")
    parser.add_argument("--unpriced", type=int, default=2, help="of the models (default: 2)")
    options = parser.parse_args(arguments)
    settings = Settings(data_dir=options.data_dir) if options.data_dir else Settings()
    example = Example(
        options.days, options.requests, models(options.models), _REQUESTERS, options.unpriced
    )
    try:
        written = asyncio.run(_fill(settings, options.email, example))
    except StorageError as error:
        print(f"demo data: {error}", file=sys.stderr)
        return 1
    print(f"{written:,} requests in {options.days} days")
    return 0


async def _fill(settings: Settings, email: str, example: Example) -> int:
    database = Database(administrator_url(settings), act_as=roles.DEFINER, pool_size=1)
    written = 0
    try:
        async with database.system() as connection:
            account_id = await accounts.find_account(connection, email)
        if account_id is None:
            raise StorageError(f"there is no account with the address {email}")
        async for count in fill(database, account_id, example):
            written = count
    finally:
        await database.close()
    return written


if __name__ == "__main__":
    sys.exit(main())
