"""Made-up requests, as months of use would have left them: for looking at pages and for measuring.

They take the way of real ones into the records, but not through a journal: a day at a time, in the
database itself.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import text

from storage.database import Database, Transaction
from storage.filters import DAY, HOUR

_WEEKEND_SHARE: Final = 0.35
_GROWTH: Final = 0.8
"""How much less there was on the first day than on the last."""
_SATURDAY: Final = 5


@dataclass(frozen=True, slots=True)
class Example:
    """What the requests are to be like.

    Attributes:
        days: how far back they go; today is the last.
        requests: how many in all, about.
        models: (provider, model), the busiest first.
        requesters: the busiest first.
        unpriced: of how many of the models, from the end, no price is known.
    """

    days: int
    requests: int
    models: Sequence[tuple[str, str]]
    requesters: Sequence[str]
    unpriced: int = 2


_DAY_OF_REQUESTS = text("""
WITH drawn AS (
  SELECT hour + random() * least(interval '1 hour', :now - hour) AS at, random() AS chance,
    1 + floor(cardinality(:models ::text[]) * random() ^ 2.2)::int AS model,
    floor((cardinality(:requesters ::text[]) + 1) * random() ^ 1.5)::int AS requester,
    exp(0.6 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())) AS slowness,
    exp(0.9 * sqrt(-2 * ln(1 - random())) * cos(2 * pi() * random())) AS size,
    random() < 0.4 AS streamed, md5(random()::text) AS noise
  FROM unnest(:hours ::timestamptz[], :counts ::int[]) AS of_day (hour, requests),
    generate_series(1, requests)
), kinds AS (
  SELECT *, chance > 0.992 AS gone, chance BETWEEN 0.93 AND 0.96 AS cached, CASE
    WHEN chance < 0.012 THEN 429 WHEN chance < 0.016 THEN 500 WHEN chance < 0.019 THEN 529
    WHEN chance < 0.021 THEN 400 WHEN chance < 0.022 THEN 401 ELSE 200 END AS code
  FROM drawn
), used AS (
  SELECT *, gone OR code <> 200 OR chance BETWEEN 0.98 AND 0.982 AS silent,
    CASE WHEN cached THEN 0 ELSE (900 * size)::bigint END AS input,
    CASE WHEN cached THEN 0 ELSE (60 + 180 * slowness)::bigint END AS output,
    model > cardinality(:models ::text[]) - :unpriced AS unpriced
  FROM kinds
), fresh AS (
  INSERT INTO metrion.request_logs AS l (
    account_id, created_at, id, retention, provider, endpoint, model, requester, mode, status,
    outcome, streamed, cached, input_tokens, cache_read_tokens, cache_write_tokens, output_tokens,
    reasoning_tokens, total_tokens, cost_usd, price_source, latency_ms, ttfb_ms, overhead_ms, error,
    left_out, saved_usd)
  SELECT a.id, at,
    (lpad(to_hex((1000 * extract(epoch FROM at))::bigint), 12, '0') || '7' || substr(noise, 1, 3)
      || '8' || substr(noise, 4, 15))::uuid,
    metrion.retention_days(a.plan), (:providers ::text[])[model], CASE (:providers ::text[])[model]
      WHEN 'anthropic' THEN 'messages' ELSE 'chat/completions' END,
    (:models ::text[])[model], (:requesters ::text[])[requester],
    CASE WHEN chance BETWEEN 0.6 AND 0.66 THEN 'pass-through' ELSE 'stored' END,
    CASE WHEN NOT gone THEN code END,
    CASE WHEN gone THEN 'client_closed' WHEN code = 200 THEN 'ok'
      WHEN chance < 0.004 THEN 'refused' ELSE 'provider_error' END,
    streamed, cached,
    CASE WHEN NOT silent THEN input END, CASE WHEN NOT silent THEN input / 3 END,
    CASE WHEN NOT silent THEN input / 20 END, CASE WHEN NOT silent THEN output END,
    CASE WHEN NOT silent THEN output / 4 END, CASE WHEN NOT silent THEN input + output END,
    CASE WHEN NOT (silent OR unpriced) THEN (input + 4 * output) * 3e-6 / sqrt(model) END::numeric,
    'made up',
    CASE WHEN cached THEN 1 + chance ELSE 400 * slowness * (1 + model % 5) + 3 * size END,
    CASE WHEN cached THEN chance ELSE 120 * slowness * (1 + model % 3) END,
    CASE WHEN NOT cached THEN 0.4 + 0.3 * size END,
    CASE code WHEN 429 THEN 'Rate limit reached for requests'
      WHEN 500 THEN 'The server had an error while processing your request'
      WHEN 529 THEN 'Overloaded' WHEN 400 THEN 'This model does not support that image format'
      WHEN 401 THEN 'Incorrect API key provided' END,
    0, CASE WHEN cached AND NOT unpriced THEN 0.002 / sqrt(model) END::numeric
  FROM used CROSS JOIN metrion.accounts AS a
  WHERE a.id = :account_id
  RETURNING l AS entry
)
SELECT metrion.add_to_records((SELECT array_agg(entry) FROM fresh))
""")
_PREPARE = text("""
SELECT metrion.lock_log(), metrion.ensure_partition(metrion.retention_days(plan), :day)
FROM metrion.accounts WHERE id = :account_id
""")


async def fill(database: Database, account_id: UUID, example: Example) -> AsyncGenerator[int]:
    """Write them, and give after each day how many there are by now.

    `database` is the administrator's, acting as `roles.DEFINER`.

    Raises:
        DatabaseUnavailable: what was written before stays.
    """
    now = datetime.now(UTC)
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    days = [today - timedelta(days=age) for age in reversed(range(example.days))]
    weights = [_weight(day, place / example.days) for place, day in enumerate(days)]
    written = 0
    for day, weight in zip(days, weights, strict=True):
        requests = round(example.requests * weight / sum(weights))
        async with database.system() as connection:
            await connection.execute(_PREPARE, {"day": day, "account_id": account_id})
            written += await _fill_day(connection, account_id, example, (day, now), requests)
        yield written


async def _fill_day(
    connection: Transaction,
    account_id: UUID,
    example: Example,
    moments: tuple[datetime, datetime],
    requests: int,
) -> int:
    day, now = moments
    hours = [day + number * HOUR for number in range(DAY // HOUR) if day + number * HOUR < now]
    weights = [_busyness(hour) for hour in hours]
    counts = [round(requests * weight / sum(weights)) for weight in weights]
    await connection.execute(
        _DAY_OF_REQUESTS,
        {
            "account_id": account_id,
            "now": now,
            "providers": [provider for provider, _ in example.models],
            "models": [model for _, model in example.models],
            "requesters": list(example.requesters),
            "unpriced": example.unpriced,
            "hours": hours,
            "counts": counts,
        },
    )
    return sum(counts)


def _weight(day: datetime, progress: float) -> float:
    """Return how much of all requests a day has: growing, and less at the weekend."""
    busy = _WEEKEND_SHARE if day.weekday() >= _SATURDAY else 1.0
    return busy * (1 - _GROWTH + _GROWTH * progress + 0.1 * (day.toordinal() * 7 % 5) / 4)


def _busyness(hour: datetime) -> float:
    """Return how much of a day's requests an hour has: most at 14 h."""
    return 1.15 - abs((hour.hour - 14 + 12) % 24 - 12) / 12
