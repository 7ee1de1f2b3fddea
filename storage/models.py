"""The tables as SQLAlchemy Core sees them, for queries; the migrations' SQL is what makes them.

Server-side defaults and constraints are not repeated here. A test compares this with a migrated
database's catalogue.
"""

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Double,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(schema="metrion")

# Row-level security limits every statement to this account anyway; statements say it themselves all
# the same, so that an administrator, whom no policy binds, cannot change all accounts by mistake.
this_account = select(func.metrion.account(type_=Uuid)).scalar_subquery()

accounts = Table(
    "accounts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("email", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("log_from", DateTime(timezone=True)),
)

tokens = Table(
    "tokens",
    metadata,
    Column("account_id", Uuid, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

provider_keys = Table(
    "provider_keys",
    metadata,
    Column("account_id", Uuid, primary_key=True),
    Column("provider", Text, primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("last_four", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
)

request_logs = Table(
    "request_logs",
    metadata,
    Column("account_id", Uuid, primary_key=True),
    Column("created_at", DateTime(timezone=True), primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("retention", SmallInteger, primary_key=True),
    Column("provider", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("model", Text),
    Column("requester", Text),
    Column("mode", Text, nullable=False),
    Column("status", SmallInteger),
    Column("outcome", Text, nullable=False),
    Column("streamed", Boolean, nullable=False),
    Column("cached", Boolean, nullable=False),
    Column("input_tokens", BigInteger),
    Column("cache_read_tokens", BigInteger),
    Column("cache_write_tokens", BigInteger),
    Column("output_tokens", BigInteger),
    Column("reasoning_tokens", BigInteger),
    Column("total_tokens", BigInteger),
    Column("cost_usd", Numeric(20, 12)),
    Column("price_source", Text),
    Column("latency_ms", Double),
    Column("ttfb_ms", Double),
    Column("overhead_ms", Double),
    Column("error", Text),
    Column("left_out", Integer, nullable=False),
    Column("saved_usd", Numeric(20, 12)),
)


def _sums() -> list[Column[object]]:
    """Return the columns that the usage tables have in common, in their order."""
    counts = (
        "requests",
        "errors",
        "refused",
        "left_out",
        "forwarded",
        "cached",
        "input_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "total_tokens",
    )
    return [
        *(Column(name, BigInteger, nullable=False) for name in counts),
        Column("cost_usd", Numeric(24, 12), nullable=False),
        Column("unreported", BigInteger, nullable=False),
        Column("unpriced", BigInteger, nullable=False),
        Column("timed", BigInteger, nullable=False),
        Column("latency_ms_sum", Double, nullable=False),
        Column("last_at", DateTime(timezone=True), nullable=False),
        Column("saved_usd", Numeric(24, 12), nullable=False),
        Column("unsaved", BigInteger, nullable=False),
        *(Column(name, Numeric, nullable=False) for name in ("latency", "ttfb", "overhead")),
    ]


def _dimensions() -> list[Column[object]]:
    return [
        *(Column(name, Text, primary_key=True) for name in ("provider", "model", "requester")),
        Column("status", SmallInteger, primary_key=True),
        Column("from_cache", Boolean, primary_key=True),
    ]


usage_days = Table(
    "usage_days",
    metadata,
    Column("account_id", Uuid, primary_key=True),
    Column("day", Date, primary_key=True),
    *_dimensions(),
    *_sums(),
)

usage_hours = Table(
    "usage_hours",
    metadata,
    Column("account_id", Uuid, primary_key=True),
    Column("hour", DateTime(timezone=True), primary_key=True),
    *_dimensions(),
    *_sums(),
)

usage_sums = Table(
    "usage_sums",
    metadata,
    Column("account_id", Uuid, primary_key=True),
    Column("begin", DateTime(timezone=True), primary_key=True),
    *_dimensions(),
    *_sums(),
    Column("kind", Text, primary_key=True),
)

codes = Table(
    "codes",
    metadata,
    Column("purpose", Text, primary_key=True),
    Column("address", LargeBinary, primary_key=True),
    Column("account_id", Uuid),
    Column("digest", LargeBinary),
    Column("expires_at", DateTime(timezone=True), nullable=False),
    Column("tries", SmallInteger, nullable=False),
    Column("sent", ARRAY(DateTime(timezone=True)), nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("user_agent", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("last_seen_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)

alert_rules = Table(
    "alert_rules",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    Column("type", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("threshold", Numeric(18, 6), nullable=False),
    Column("providers", ARRAY(Text), nullable=False),
    Column("period", Text, nullable=False),
    Column("from_day", Date),
    Column("to_day", Date),
    Column("hours", Integer),
    Column("paused", Boolean, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("spent_before", JSONB, nullable=False),
    Column("level", Text, nullable=False),
    Column("level_of", Date),
    Column("waiting", Text, nullable=False),
    Column("warning_sent_at", DateTime(timezone=True)),
    Column("alert_sent_at", DateTime(timezone=True)),
    Column("test_sent_at", DateTime(timezone=True)),
    Column("look_at", DateTime(timezone=True)),
)

alert_mails = Table(
    "alert_mails",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid, nullable=False),
    Column("rule_id", Uuid, nullable=False),
    Column("level", Text, nullable=False),
    Column("value", Numeric),
    Column("at_least", Boolean, nullable=False),
    Column("threshold", Numeric(18, 6), nullable=False),
    Column("unit", Text, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("sent_at", DateTime(timezone=True)),
)

usage_changes = Table(
    "usage_changes",
    metadata,
    Column("account_id", Uuid, primary_key=True),
    Column("number", BigInteger, nullable=False),
)

outbox = Table(
    "outbox",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid),
    Column("key", Text, nullable=False),
    Column("recipient", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("text_body", Text, nullable=False),
    Column("html_body", Text),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("leased_until", DateTime(timezone=True)),
    Column("last_error", Text),
)

response_cache = Table(
    "response_cache",
    metadata,
    Column("account_id", Uuid, primary_key=True),
    Column("id", Uuid, primary_key=True),
    Column("digest", LargeBinary, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("expires_at", DateTime(timezone=True), nullable=False),
)

erasures = Table(
    "erasures",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("account_id", Uuid),
    Column("email", Text),
    Column("address", LargeBinary, nullable=False),
    Column("state", Text, nullable=False),
    Column("region", Text, nullable=False),
    Column("requested_at", DateTime(timezone=True), nullable=False),
    Column("cancelled_at", DateTime(timezone=True)),
    Column("purged_at", DateTime(timezone=True)),
    Column("done_at", DateTime(timezone=True)),
    Column("deleted", JSONB, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("last_error", Text),
)

billing = Table(
    "billing",
    metadata,
    Column("account_id", Uuid, primary_key=True),
    Column("customer_id", Text),
    Column("subscription_id", Text),
    Column("status", Text),
    Column("current_period_end", DateTime(timezone=True)),
    Column("cancel_at_period_end", Boolean, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("checkout_at", DateTime(timezone=True)),
    Column("checked_at", DateTime(timezone=True), nullable=False),
    Column("updated_at", DateTime(timezone=True), nullable=False),
    Column("closed_at", DateTime(timezone=True)),
)

billing_events = Table(
    "billing_events",
    metadata,
    Column("account_id", Uuid, primary_key=True),
    Column("id", Text, primary_key=True),
    Column("received_at", DateTime(timezone=True), nullable=False),
)
