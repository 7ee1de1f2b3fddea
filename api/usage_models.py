"""What `/api/v1/usage` answers. Amounts are US dollars; null is *not known*, which is not zero."""

from datetime import date as Date  # noqa: N812 - a field is called `date`
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonValue

from api.routes.logs import LogRow

Counts = Annotated[list[int], Field(description="One for each of `timestamps`.")]
Amounts = Annotated[list[float], Field(description="USD, for each of `timestamps`, six digits.")]
Times = Annotated[
    list[float | None],
    Field(description="ms, one for each of `timestamps`; null: nothing was timed."),
]
Requests = Annotated[int, Field(description="How many there were.")]
Provider = Annotated[
    str | None, Field(description="Such as `openai`; null for `other`, the rest together.")
]
Model = Annotated[
    str | None, Field(description="As the provider named it; null: not known; `other`: the rest.")
]
Unpriced = Annotated[int, Field(description="Requests that this amount lacks: no price is known.")]
Previous = Annotated[
    float | None, Field(description="In the span of equal length before; null: no request then.")
]
KnownCost = Annotated[float | None, Field(description="USD; null: no request has a known price.")]
Ms = Annotated[float | None, Field(description="ms; null: nothing was timed.")]


def _example(**values: JsonValue) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [values]})


class UsageRange(BaseModel):
    """The span that the answer is about, in whole hours or days (UTC)."""

    model_config = _example(
        **{"from": "2026-01-09T00:00:00Z", "to": "2026-01-16T00:00:00Z", "step": "day"}
    )

    start: datetime = Field(alias="from", description="Its first moment.")
    end: datetime = Field(alias="to", description="The moment after its last.")
    step: Literal["hour", "day"] = Field(description="What each of `timestamps` stands for.")


class UsageCurrency(BaseModel):
    """What the account's pages show money in; all amounts here are US dollars."""

    model_config = _example(code="EUR", rate=0.8532, date="2025-06-30")

    code: Literal["USD", "EUR", "CHF"] = Field(description="ISO 4217.")
    rate: float = Field(description="What a US dollar is worth in it.")
    date: Date | None = Field(description="The day of the rate; null: not known, or USD.")


class Usage(BaseModel):
    """What all answers begin with."""

    range: UsageRange = Field(description="The span.")
    currency: UsageCurrency = Field(description="The account's currency.")
    timestamps: list[int] = Field(
        description="Where each hour or day begins, in seconds since 1970."
    )


class RequestCounts(BaseModel):
    """Requests over time."""

    model_config = _example(total=42, previous=40, ok=[20, 20], errors=[1, 1])

    total: Requests
    previous: Previous
    ok: Counts
    errors: Counts


class ModelRequests(BaseModel):
    """How often a model was used."""

    model_config = _example(model="gpt-4o-mini-2024-07-18", provider="openai", requests=42)

    model: Model
    provider: Provider
    requests: Requests


class StatusCount(BaseModel):
    """How often a status was answered."""

    model_config = _example(status=429, count=2)

    status: int = Field(description="HTTP status, 400 and above.")
    count: Requests


class ErrorSummary(BaseModel):
    """Errors: requests with a status of 400 and above, refusals among them."""

    model_config = _example(
        total=2, rate=0.0476, previous_rate=0.05, by_status=[{"status": 429, "count": 2}]
    )

    total: Requests
    rate: float | None = Field(description="Share of all requests; null: there was none.")
    previous_rate: Previous
    by_status: list[StatusCount] = Field(description="The most frequent first.")


class TokenSeries(BaseModel):
    """Tokens over time. Cached ones are part of the input, reasoning is part of the output."""

    model_config = _example(
        input=[1200, 900],
        output=[86, 70],
        cache_read=[1024, 0],
        cache_write=[0, 0],
        reasoning=[0, 0],
        total=2256,
        unreported=0,
    )

    input: Counts
    output: Counts
    cache_read: Counts
    cache_write: Counts
    reasoning: Counts
    total: int | None = Field(description="Input and output; null: no request reported any.")
    unreported: int = Field(description="Requests whose tokens are not known.")


class ModelCost(BaseModel):
    """What a model cost over time."""

    model_config = _example(
        model="gpt-4o-mini-2024-07-18", provider="openai", values=[0.031, 0.027], total=0.058
    )

    model: Model
    provider: Provider
    values: Amounts
    total: float = Field(description="USD in the whole span.")


class CostSeries(BaseModel):
    """What all cost over time."""

    model_config = _example(total=0.058, previous=0.061, values=[0.031, 0.027], unpriced=0)

    total: float | None = Field(description="USD; null: no request has a known price.")
    previous: Previous
    values: Amounts
    unpriced: Unpriced


class ProviderCost(BaseModel):
    """What a provider cost."""

    model_config = _example(provider="openai", cost=0.058, requests=42, share=1.0)

    provider: str = Field(description="Such as `openai`.")
    cost: KnownCost
    requests: Requests
    share: float | None = Field(description="Of all cost; null: nothing cost anything.")


class RequesterCounts(BaseModel):
    """How many different requesters there were."""

    model_config = _example(total=3, previous=2, values=[2, 3])

    total: Requests
    previous: Previous
    values: Counts


class LatencySummary(BaseModel):
    """The average latency over time."""

    model_config = _example(average_ms=912.4, previous_ms=944.0, values=[931.5, 890.1])

    average_ms: Ms
    previous_ms: Previous
    values: Times


class Overview(Usage):
    """All figures of the overview."""

    requests: RequestCounts = Field(description="Requests.")
    requests_by_model: list[ModelRequests] = Field(description="The busiest first; at most 50.")
    errors: ErrorSummary = Field(description="Errors.")
    tokens: TokenSeries = Field(description="Tokens.")
    cost_by_model: list[ModelCost] = Field(description="The 7 dearest, then `other`.")
    cost: CostSeries = Field(description="Cost.")
    providers: list[ProviderCost] = Field(description="The dearest first.")
    requesters: RequesterCounts = Field(description="Requesters.")
    latency: LatencySummary = Field(description="Latency.")


class RequesterCost(BaseModel):
    """What a requester cost."""

    model_config = _example(requester="checkout-bot", cost=0.058, requests=42)

    requester: str | None = Field(description="The label; null: none was named.")
    cost: KnownCost
    requests: Requests


class ModelTotal(BaseModel):
    """A model's figures in the whole span."""

    model_config = _example(
        model="gpt-4o-mini-2024-07-18",
        provider="openai",
        requests=42,
        cost=0.058,
        total_tokens=2256,
        unpriced=0,
    )

    model: Model
    provider: Provider
    requests: Requests
    cost: float | None = Field(description="USD; null: no request has a known price.")
    total_tokens: int | None = Field(description="Null: no request reported any.")
    unpriced: Unpriced


class Costs(Usage):
    """What was spent, on what, and what is to come."""

    by_model: list[ModelCost] = Field(description="The 7 dearest, then `other`.")
    by_provider: list[ProviderCost] = Field(description="The dearest first.")
    by_requester: list[RequesterCost] = Field(description="The dearest first; at most 50.")
    models: list[ModelTotal] = Field(description="The dearest first; at most 200.")
    cost: CostSeries = Field(description="Cost over time.")
    month_to_date: float | None = Field(
        description="USD, since the first of this month (UTC); null: no request has a known price."
    )
    projection: float | None = Field(
        description="USD for the whole month, if it goes on like this; null: too early to say, or "
        "`month_to_date` is not known."
    )
    cache_saved_usd: float | None = Field(
        description="USD that the answers from Metrion's cache would have cost, each at the "
        "prices of its day; null: it is known of none of them."
    )
    cache_answers: int = Field(description="Requests answered from Metrion's cache.")
    cache_unpriced: int = Field(description="Those of them of which nobody knows what they saved.")


class Percentiles(BaseModel):
    """Latency of the whole span."""

    model_config = _example(
        p50=640.2,
        p95=2210.9,
        p99=4105.5,
        previous_p50=655.0,
        previous_p95=2300.1,
        previous_p99=None,
    )

    p50: Ms
    p95: Ms
    p99: Ms
    previous_p50: Previous
    previous_p95: Previous
    previous_p99: Previous


class ModelLatency(BaseModel):
    """A model's latency."""

    model_config = _example(
        model="gpt-4o-mini-2024-07-18",
        provider="openai",
        requests=42,
        p50=640.2,
        p95=2210.9,
        p99=4105.5,
        ttfb_p50=280.4,
    )

    model: Model
    provider: Provider
    requests: Requests
    p50: Ms
    p95: Ms
    p99: Ms
    ttfb_p50: Ms


class MeasureSeries(BaseModel):
    """A measure's average over time."""

    model_config = _example(average_ms=301.8, values=[310.2, 295.0])

    average_ms: Ms
    values: Times


class LatencyUsage(Usage):
    """How long requests took, neither refused nor cached ones among them."""

    p50: Times
    p95: Times
    p99: Times
    overall: Percentiles = Field(description="The whole span.")
    by_model: list[ModelLatency] = Field(description="The busiest first; at most 200.")
    ttfb: MeasureSeries = Field(description="Time to the answer's first byte.")
    overhead: MeasureSeries = Field(description="Metrion's own share.")


class CodeSeries(BaseModel):
    """A status over time."""

    model_config = _example(code=429, values=[1, 1], total=2)

    code: int = Field(description="HTTP status, 400 and above.")
    values: Counts
    total: Requests


class Errors(Usage):
    """What went wrong: requests with a status of 400 and above."""

    requests: Requests
    total: Requests
    rate: float | None = Field(description="Share of all requests; null: there was none.")
    previous: Previous
    previous_rate: Previous
    by_code: list[CodeSeries] = Field(description="The most frequent first.")
    recent: list[LogRow] = Field(description="The newest first; at most 50 that the log still has.")


class RequesterTotal(BaseModel):
    """A requester's figures."""

    model_config = _example(
        requester="checkout-bot",
        requests=42,
        tokens=2256,
        cost_usd=0.058,
        unpriced=0,
        errors=2,
        last_seen_at="2026-01-15T09:30:00Z",
    )

    requester: str | None = Field(description="The label; null: none was named.")
    requests: Requests
    tokens: int | None = Field(description="Null: no request reported any.")
    cost_usd: float | None = Field(description="Null: no request has a known price.")
    unpriced: Unpriced
    errors: Requests
    last_seen_at: datetime = Field(description="When its newest request in the span came in.")


class Requesters(Usage):
    """Who made the requests."""

    total: Requests
    items: list[RequesterTotal] = Field(description="The dearest first; at most 200.")
    left_out: int = Field(description="How many more there are.")


class ModelName(BaseModel):
    """A model that was used."""

    model_config = _example(model="gpt-4o-mini-2024-07-18", provider="openai")

    model: str = Field(description="As the provider named it.")
    provider: str = Field(description="Whose it is.")


class FilterChoices(BaseModel):
    """What can be filtered by in a span."""

    model_config = _example(
        providers=["openai"],
        models=[{"model": "gpt-4o-mini-2024-07-18", "provider": "openai"}],
        requesters=["checkout-bot"],
    )

    providers: list[str] = Field(description="The busiest first.")
    models: list[ModelName] = Field(description="The busiest first; at most 200.")
    requesters: list[str] = Field(description="The busiest first; at most 200.")


class UsageVersion(BaseModel):
    """Changes when a request was recorded."""

    model_config = _example(version="20260115-4711")

    version: str = Field(description="Compare it with the one before; it means nothing else.")
