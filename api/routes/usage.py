"""`GET /api/v1/usage/…`: the figures of the dashboard's tabs, one request each."""

import calendar
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from fastapi import APIRouter

from api.compression import CompressedRoute
from api.deps import READING_PROBLEMS, ReadingCaller, ServicesHere
from api.errors import documented
from api.filters import WantedFilter, WantedWindow
from api.routes.logs import view_row
from api.routes.meta import currencies
from api.services import Services
from api.usage_models import (
    CodeSeries,
    Costs,
    Errors,
    ErrorSummary,
    FilterChoices,
    LatencySummary,
    LatencyUsage,
    MeasureSeries,
    ModelName,
    ModelRequests,
    ModelTotal,
    Overview,
    Percentiles,
    RequestCounts,
    RequesterCost,
    RequesterCounts,
    Requesters,
    RequesterTotal,
    StatusCount,
    TokenSeries,
    UsageCurrency,
    UsageVersion,
)
from api.usage_shapes import (
    DEAREST,
    MOST_BARS,
    MOST_ROWS,
    average_series,
    cost_series,
    costs_by_model,
    costs_by_provider,
    dearest,
    latency_by_model,
    moments_of,
    named,
    number,
    percentile_series,
    range_of,
    requests_over_time,
    rounded,
    shown_percentiles,
    timestamps_of,
    total_of,
)
from storage import usage
from storage.accounts import get_account
from storage.database import Transaction
from storage.filters import Window
from storage.latency import average, latencies
from storage.logs import recent_errors
from storage.records import COST_SERIES, GROUPS, REQUEST_SERIES, REQUESTERS, Question
from storage.usage import Group, Sums, busiest, month_of, regrouped

router = APIRouter(prefix="/api/v1/usage", tags=["Usage"], responses=documented(*READING_PROBLEMS))
_figures = APIRouter(route_class=CompressedRoute)

_FIRST_ERROR: Final = 400
_MOST_RECENT: Final = 50
_EARLIEST_PROJECTION_HOURS: Final = 24
_SECONDS_PER_HOUR: Final = 3600

_FEW: Final = ("requests", "cost_usd", "unpriced", "unreported")
_OF_MODEL: Final = (
    *("requests", "errors", "cached", "total_tokens", "unpriced", "unreported", "unsaved"),
    *("cost_usd", "saved_usd"),
)
_OF_REQUESTER: Final = (*_FEW, "total_tokens", "errors", "last_at", GROUPS)
_COUNTS: Final = ("requests", "errors")


@_figures.get("/overview", summary="Overview")
async def overview(
    services: ServicesHere, caller: ReadingCaller, window: WantedWindow, wanted: WantedFilter
) -> Overview:
    """Return requests, errors, tokens, cost, requesters and latency at a glance."""
    async with services.database.account(caller.account_id) as connection:
        found = await usage.groups(
            connection,
            wanted,
            moments=Question(window, ("begin",)),
            models=_by_model(window, (*_FEW, COST_SERIES)),
            statuses=Question(window, ("status",), ("requests",)),
            before=Question(window.previous),
            people=Question(window, (), (REQUESTERS,)),
            people_then=Question(window, ("begin",), (REQUESTERS,)),
            people_before=Question(window.previous, (), (REQUESTERS,)),
        )
        currency = await _currency(services, connection)
    moments, models = moments_of(window, found["moments"]), found["models"]
    total, before = Sums.together(moments), total_of(found["before"])
    return Overview(
        range=range_of(window),
        currency=currency,
        timestamps=timestamps_of(window),
        requests=RequestCounts(
            total=total.requests,
            previous=before.requests or None,
            ok=[sums.requests - sums.errors for sums in moments],
            errors=[sums.errors for sums in moments],
        ),
        requests_by_model=[
            ModelRequests(
                model=each.model or None, provider=each.provider, requests=each.sums.requests
            )
            for each in busiest(named(models))[:MOST_BARS]
        ],
        errors=ErrorSummary(
            total=total.errors,
            rate=total.error_rate,
            previous_rate=before.error_rate,
            by_status=[
                StatusCount(status=each.status or 0, count=each.sums.requests)
                for each in busiest(found["statuses"])
                if (each.status or 0) >= _FIRST_ERROR
            ],
        ),
        tokens=_tokens(moments, total),
        cost_by_model=costs_by_model(window, models),
        cost=cost_series(moments, total, before),
        providers=costs_by_provider(regrouped(models, "provider"), total),
        requesters=_people(window, found, before),
        latency=LatencySummary(
            average_ms=rounded(total.average_ms),
            previous_ms=rounded(before.average_ms),
            values=[rounded(sums.average_ms) for sums in moments],
        ),
    )


@router.get("/costs", summary="Costs")
async def costs(
    services: ServicesHere, caller: ReadingCaller, window: WantedWindow, wanted: WantedFilter
) -> Costs:
    """Return what was spent by model, provider, requester and day, and what the month will cost."""
    now = datetime.now(UTC)
    async with services.database.account(caller.account_id) as connection:
        found = await usage.groups(
            connection,
            wanted,
            moments=Question(window, ("begin",)),
            models=_by_model(window, (*_OF_MODEL, COST_SERIES)),
            names=Question(window, ("requester",), _FEW, MOST_BARS, DEAREST),
            before=Question(window.previous),
            month=Question(month_of(now), (), _FEW),
        )
        currency = await _currency(services, connection)
    moments, models = moments_of(window, found["moments"]), dearest(found["models"])
    total, before = Sums.together(moments), total_of(found["before"])
    month = total_of(found["month"]).known_cost
    return Costs(
        range=range_of(window),
        currency=currency,
        timestamps=timestamps_of(window),
        by_model=costs_by_model(window, models),
        by_provider=costs_by_provider(regrouped(models, "provider"), total),
        by_requester=[
            RequesterCost(
                requester=each.requester or None,
                cost=number(each.sums.known_cost),
                requests=each.sums.requests,
            )
            for each in dearest(found["names"])
        ],
        models=[
            ModelTotal(
                model=each.model or None,
                provider=each.provider,
                requests=each.sums.requests,
                cost=number(each.sums.known_cost),
                total_tokens=each.sums.known_tokens,
                unpriced=each.sums.unpriced + each.sums.unreported,
            )
            for each in named(models)[:MOST_ROWS]
        ],
        cost=cost_series(moments, total, before),
        month_to_date=number(month),
        projection=_projection(month, now),
        cache_saved_usd=number(total.known_saving),
        cache_answers=total.cached,
        cache_unpriced=total.unsaved,
    )


@_figures.get("/latency", summary="Latency")
async def latency(
    services: ServicesHere, caller: ReadingCaller, window: WantedWindow, wanted: WantedFilter
) -> LatencyUsage:
    """Return p50, p95 and p99 over time and by model, time to first byte, Metrion's own share.

    Percentiles are interpolated in histograms: right to one or two per cent.
    """
    async with services.database.account(caller.account_id) as connection:
        found = await latencies(connection, window, wanted)
        currency = await _currency(services, connection)
    p50, p95, p99 = percentile_series(window, found)
    overall, previous = map(shown_percentiles, (found.overall("latency"), found.previous))
    return LatencyUsage(
        range=range_of(window),
        currency=currency,
        timestamps=timestamps_of(window),
        p50=p50,
        p95=p95,
        p99=p99,
        overall=Percentiles(
            p50=overall[0],
            p95=overall[1],
            p99=overall[2],
            previous_p50=previous[0],
            previous_p95=previous[1],
            previous_p99=previous[2],
        ),
        by_model=latency_by_model(found),
        ttfb=MeasureSeries(
            average_ms=rounded(average(found.overall("ttfb"))),
            values=average_series(window, found, "ttfb"),
        ),
        overhead=MeasureSeries(
            average_ms=rounded(average(found.overall("overhead"))),
            values=average_series(window, found, "overhead"),
        ),
    )


@router.get("/errors", summary="Errors")
async def errors(
    services: ServicesHere, caller: ReadingCaller, window: WantedWindow, wanted: WantedFilter
) -> Errors:
    """Return errors by status over time, and the newest with their messages."""
    async with services.database.account(caller.account_id) as connection:
        found = await usage.groups(
            connection,
            wanted,
            statuses=Question(window, ("status",), (*_COUNTS, REQUEST_SERIES)),
            before=Question(window.previous, (), _COUNTS),
        )
        by_code = [
            CodeSeries(
                code=each.status or 0,
                values=requests_over_time(window, each),
                total=each.sums.requests,
            )
            for each in busiest(found["statuses"])
            if (each.status or 0) >= _FIRST_ERROR
        ]
        newest = _newest_errors(window, by_code)
        recent = await recent_errors(connection, newest, wanted, _MOST_RECENT) if newest else []
        currency = await _currency(services, connection)
    total, before = total_of(found["statuses"]), total_of(found["before"])
    return Errors(
        range=range_of(window),
        currency=currency,
        timestamps=timestamps_of(window),
        requests=total.requests,
        total=total.errors,
        rate=total.error_rate,
        previous=before.errors if before.requests else None,
        previous_rate=before.error_rate,
        by_code=by_code,
        recent=[view_row(row) for row in recent],
    )


@router.get("/requesters", summary="Requesters")
async def requesters(
    services: ServicesHere, caller: ReadingCaller, window: WantedWindow, wanted: WantedFilter
) -> Requesters:
    """Return who made the requests: the labels sent in `x-metrion-user`."""
    async with services.database.account(caller.account_id) as connection:
        question = Question(window, ("requester",), _OF_REQUESTER, MOST_ROWS, DEAREST)
        found = dearest((await usage.groups(connection, wanted, first=question))["first"])
        currency = await _currency(services, connection)
    total = found[0].sums.groups if found else 0
    return Requesters(
        range=range_of(window),
        currency=currency,
        timestamps=timestamps_of(window),
        total=total,
        items=[
            RequesterTotal(
                requester=each.requester or None,
                requests=each.sums.requests,
                tokens=each.sums.known_tokens,
                cost_usd=number(each.sums.known_cost),
                unpriced=each.sums.unpriced + each.sums.unreported,
                errors=each.sums.errors,
                last_seen_at=each.sums.last_at or window.start,
            )
            for each in found
        ],
        left_out=total - len(found),
    )


@router.get("/filters", summary="What can be filtered by")
async def filters(
    services: ServicesHere, caller: ReadingCaller, window: WantedWindow
) -> FilterChoices:
    """Return the providers, models and requesters that occur in a span."""
    async with services.database.account(caller.account_id) as connection:
        names = await usage.list_names(connection, window)
    models = [ModelName(model=model, provider=provider) for model, provider in names["models"]]
    return FilterChoices(
        providers=names["providers"], models=models, requesters=names["requesters"]
    )


@router.get("/version", summary="Is there anything new?")
async def usage_version(services: ServicesHere, caller: ReadingCaller) -> UsageVersion:
    """Return what changes when a request is recorded; cheap enough to ask every few seconds."""
    async with services.database.account(caller.account_id) as connection:
        return UsageVersion(version=await usage.version(connection))


router.include_router(_figures)


def _by_model(window: Window, only: Sequence[str]) -> Question:
    return Question(window, ("provider", "model"), only, MOST_ROWS, DEAREST, rest=True)


async def _currency(services: Services, connection: Transaction) -> UsageCurrency:
    wanted = (await get_account(connection)).currency
    found = next(each for each in currencies(services.settings) if each.code == wanted)
    return UsageCurrency(**found.model_dump())


def _newest_errors(window: Window, by_code: list[CodeSeries]) -> Window | None:
    """Return the part of the window with the newest errors; None: there is none.

    The log is not searched for what the records know not to be there.
    """
    counts = [sum(values) for values in zip(*(each.values for each in by_code), strict=True)]
    places = [place for place, count in enumerate(counts) if count]
    if not places:
        return None
    first, left = places[-1], _MOST_RECENT
    for first in reversed(places):
        left -= counts[first]
        if left <= 0:
            break
    step = window.length_of_step
    return Window(window.start + first * step, window.start + (places[-1] + 1) * step, window.step)


def _tokens(moments: list[Sums], total: Sums) -> TokenSeries:
    return TokenSeries(
        input=[sums.input_tokens for sums in moments],
        output=[sums.output_tokens for sums in moments],
        cache_read=[sums.cache_read_tokens for sums in moments],
        cache_write=[sums.cache_write_tokens for sums in moments],
        reasoning=[sums.reasoning_tokens for sums in moments],
        total=total.known_tokens,
        unreported=total.unreported,
    )


def _people(window: Window, found: Mapping[str, list[Group]], before: Sums) -> RequesterCounts:
    return RequesterCounts(
        total=total_of(found["people"]).requesters,
        previous=total_of(found["people_before"]).requesters if before.requests else None,
        values=[sums.requesters for sums in moments_of(window, found["people_then"])],
    )


def _projection(month_to_date: Decimal | None, now: datetime) -> float | None:
    """Return the month's cost if every hour costs as much as those so far did."""
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    hours = (now - first).total_seconds() / _SECONDS_PER_HOUR
    if month_to_date is None or hours < _EARLIEST_PROJECTION_HOURS:
        return None
    days = calendar.monthrange(now.year, now.month)[1]
    return float(month_to_date) * days * 24 / hours
