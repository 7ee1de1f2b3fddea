"""How long the dashboard's tabs take, for an account of millions of requests in 90 days."""

import asyncio
import gc
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from api.main import create_app
from scripts.demo_data import models
from scripts.installation import prepare_demo
from storage import accounts, roles
from storage.database import Database
from storage.database_url import administrator_url
from storage.embedded import EmbeddedPostgres
from storage.example_data import Example, fill
from storage.migrate import migrate
from storage.sealing import MasterKeys
from storage.settings import Settings

TABS = ("overview", "costs", "latency", "errors", "requesters")
RANGES = ("24h", "7d", "30d", "90d")
FILTERS = {
    "": {},
    "a provider": {"provider": "openai"},
    "a model": {"model": models(1)[0][1]},
    "a requester": {"requester": "person 3"},
    "5xx": {"status": "5xx"},
}
_DAYS = 90
_PEOPLE = 20
_FAR_PAGE = 1000
_PAGE_ROWS = 50
_P95 = 0.95


@dataclass(frozen=True, slots=True)
class PageFigures:
    """What one page took, in milliseconds, as its HTTP client sees it."""

    name: str
    p50_ms: float
    p95_ms: float


def measure_dashboard(folder: Path, rows: int, model_count: int, rounds: int) -> list[PageFigures]:
    """Make an account with so many requests in a database of its own, and ask for every tab.

    What an earlier run has left in the folder is measured as it is.
    """
    with EmbeddedPostgres(folder / "data") as server:
        settings = Settings(data_dir=folder / "data", database_url=server.url)
        migrate(server.url, roles.roles_folder(settings))
        if settings.master_key_path.exists():
            master_keys, rows = MasterKeys.load(settings), 0
        else:
            master_keys = MasterKeys.create(settings.master_key_path)
        return asyncio.run(_measure(settings, master_keys, rows, model_count, rounds))


async def _measure(
    settings: Settings, master_keys: MasterKeys, rows: int, model_count: int, rounds: int
) -> list[PageFigures]:
    token = (await prepare_demo(settings, master_keys)).token
    if rows:
        await _fill(settings, rows, model_count)
    app = create_app(settings)
    gc.freeze()  # as scripts.serve_api
    transport = httpx.ASGITransport(app)
    headers = {"authorization": f"Bearer {token}"}
    figures: list[PageFigures] = []
    async with httpx.AsyncClient(
        transport=transport, base_url="http://metrion", headers=headers
    ) as client:
        for name, path, query in _pages():
            figures.append(await _time(client, name, path, query, rounds))
        far = {"range": "90d", "limit": str(_PAGE_ROWS)}
        if cursor := await _far_cursor(client):
            far["cursor"] = cursor
        figures.append(await _time(client, f"logs, page {_FAR_PAGE:,}", "logs", far, rounds))
    await app.state.services.close()
    return figures


async def _fill(settings: Settings, rows: int, model_count: int) -> None:
    people = [f"person {number}" for number in range(_PEOPLE)]
    example = Example(_DAYS, rows, models(model_count), people)
    owner = Database(administrator_url(settings), act_as=roles.OWNER, pool_size=1)
    database = Database(
        administrator_url(settings), act_as=roles.DEFINER, pool_size=1, statement_seconds=600
    )
    try:
        async with owner.system() as connection:
            (account,) = await accounts.list_accounts(connection, limit=1)
        async for written in fill(database, account.id, example):
            print(f"\r{written:,} of {rows:,} rows", end="", flush=True)
    finally:
        await owner.close()
        await database.close()
    print()


def _pages() -> Iterator[tuple[str, str, Mapping[str, str]]]:
    for tab in (*(f"usage/{each}" for each in TABS), "logs"):
        for words, wanted in FILTERS.items():
            for span in RANGES:
                name = f"{tab.removeprefix('usage/')}, {span}{', ' if words else ''}{words}"
                yield name, tab, {"range": span, **wanted}


async def _time(
    client: httpx.AsyncClient, name: str, path: str, query: Mapping[str, str], rounds: int
) -> PageFigures:
    taken: list[float] = []
    for _ in range(rounds + 1):
        begun = time.perf_counter()
        answer = await client.get(f"/api/v1/{path}", params=dict(query))
        taken.append((time.perf_counter() - begun) * 1000)
        answer.raise_for_status()
    taken = sorted(taken[1:])  # the first one plans and reads from disk
    return PageFigures(name, taken[len(taken) // 2], taken[int(len(taken) * _P95)])


async def _far_cursor(client: httpx.AsyncClient) -> str:
    """Return where a page far behind begins, reached by pages of the largest size."""
    left, cursor = (_FAR_PAGE - 1) * _PAGE_ROWS, ""
    while left > 0:
        query = {"range": "90d", "limit": str(min(left, 1000))} | (
            {"cursor": cursor} if cursor else {}
        )
        page = (await client.get("/api/v1/logs", params=query)).json()
        if page["next_cursor"] is None:  # there are not that many
            break
        cursor, left = page["next_cursor"], left - len(page["items"])
    return cursor


def page_table(figures: list[PageFigures]) -> str:
    """One line per page."""
    lines = (f"{each.name:34}{each.p50_ms:>10.1f}{each.p95_ms:>10.1f}" for each in figures)
    return "\n".join([f"{'':34}{'p50 ms':>10}{'p95 ms':>10}", *lines])
