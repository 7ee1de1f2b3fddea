"""The filters that usage and log share, as query parameters."""

from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from fastapi import Depends, Query
from pydantic import Field

from api.errors import InvalidRequestError
from api.fields import PlainText
from storage.filters import STATUS_CLASSES, Filter, Window

RangeName = Literal["24h", "7d", "30d", "90d", "custom"]

_LENGTHS: Final = {
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
}
_MOST_VALUES: Final = 50

Names = list[Annotated[PlainText, Field(max_length=200)]]


def window_of(name: RangeName, start: datetime | None, end: datetime | None) -> Window:
    """Return the span that a range means.

    Raises:
        InvalidRequestError: `custom` without its two moments, or they with another range.
        InvalidValue: the moments make no span.
    """
    if name != "custom":
        if start or end:
            raise InvalidRequestError("`from` and `to` belong to `range=custom`.")
        return Window.last(_LENGTHS[name], datetime.now(UTC))
    if start is None or end is None:
        raise InvalidRequestError("`range=custom` needs `from` and `to`.")
    return Window.between(start, end)


async def _window(
    range_name: Annotated[
        RangeName,
        Query(
            alias="range",
            description="The time: until now, in whole hours (24h) or days (UTC); `custom` needs "
            "`from` and `to`.",
        ),
    ] = "7d",
    start: Annotated[
        datetime | None,
        Query(alias="from", description="With `custom`: the first moment (RFC 3339)."),
    ] = None,
    end: Annotated[
        datetime | None,
        Query(alias="to", description="With `custom`: the moment after the last (RFC 3339)."),
    ] = None,
) -> Window:
    return window_of(range_name, start, end)


async def _filter(
    provider: Annotated[
        Names,
        Query(max_length=_MOST_VALUES, description="Only these providers; repeat it, or `a,b`."),
    ] = [],  # noqa: B006 - FastAPI copies it
    model: Annotated[
        Names, Query(max_length=_MOST_VALUES, description="Only these models; repeat it.")
    ] = [],  # noqa: B006
    requester: Annotated[
        Names, Query(max_length=_MOST_VALUES, description="Only these requesters; repeat it.")
    ] = [],  # noqa: B006
    status: Annotated[
        Names,
        Query(
            max_length=_MOST_VALUES,
            description="Only these classes of status: `2xx`, `3xx`, `4xx`, `5xx`, `none` (the "
            "client left before there was one); repeat it, or `a,b`.",
        ),
    ] = [],  # noqa: B006
    *,
    cached: Annotated[
        bool | None, Query(description="Only answers from Metrion's cache, or none of them.")
    ] = None,
) -> Filter:
    statuses = _separated(status)
    if unknown := set(statuses) - set(STATUS_CLASSES):
        known = ", ".join(f"`{each}`" for each in STATUS_CLASSES)
        raise InvalidRequestError(f"`status` is one of {known}: {len(unknown)} of yours are not.")
    return Filter(
        providers=_separated(provider),
        models=tuple(model),
        requesters=tuple(requester),
        statuses=statuses,
        cached=cached,
    )


def _separated(values: list[str]) -> tuple[str, ...]:
    return tuple(part for value in values for part in value.split(",") if part)


WantedWindow = Annotated[Window, Depends(_window)]
WantedFilter = Annotated[Filter, Depends(_filter)]
