"""What is said about a flow in mitmweb, the console, a log line and a table: the same everywhere.

Facts are columns of the log row, taken from a closed list, so nothing gets into a view because
somebody added it to the row. Until the row is known (it is written when the exchange ends) they
are what the exchange knows by then.
"""

from collections.abc import Mapping
from decimal import Decimal

from addons.credentials import label, scrub
from addons.exchange import Exchange
from addons.outcome import Outcome
from addons.rows import MODEL_MAX_CHARS

Fact = str | int | float | bool | None
Facts = dict[str, Fact]

ERROR_CHARS = 120
PATH_MAX_CHARS = 200
COLUMNS = (
    *("id", "created_at", "account_id", "provider", "endpoint", "model", "requester", "mode"),
    *("status", "outcome", "streamed", "cached"),
    *("input_tokens", "cache_read_tokens", "cache_write_tokens", "output_tokens"),
    *("reasoning_tokens", "total_tokens", "cost_usd", "price_source"),
    *("latency_ms", "ttfb_ms", "overhead_ms", "error"),
)
# By mitmproxy's names of emoji; what went well has none.
MARKERS = {
    Outcome.PROVIDER_ERROR: ":red_circle:",
    Outcome.REFUSED: ":no_entry:",
    Outcome.TIMEOUT: ":hourglass:",
    Outcome.CLIENT_CLOSED: ":wave:",
    Outcome.UPSTREAM_CLOSED: ":boom:",
}
CACHED_MARKER = ":recycle:"


def facts_of(exchange: Exchange) -> Facts:
    """What is known of an exchange at this moment; unknown columns are missing."""
    route, caller, row = exchange.route, exchange.caller, exchange.row
    asked = label(f"{exchange.method} {exchange.path}", PATH_MAX_CHARS)
    found: Mapping[str, Fact] = row or {
        "id": exchange.id,
        "created_at": exchange.created_at.isoformat(),
        "account_id": str(caller.account_id) if caller else None,
        "provider": route.provider.name if route else None,
        "endpoint": route.endpoint.name if route else asked,
        "model": label(exchange.model, MODEL_MAX_CHARS),
        "requester": exchange.requester,
        "mode": exchange.mode.value if caller else None,
        "status": exchange.status,
        "outcome": exchange.outcome.value if exchange.recorded else None,
        "error": scrub(exchange.error) if exchange.error else None,
    }
    return {name: found[name] for name in COLUMNS if found.get(name) is not None}


def own_answer(status: int, code: str | None) -> Facts:
    """What is said of an answer of Metrion itself to somebody that it does not know."""
    return {"status": status, "outcome": Outcome.REFUSED if code else Outcome.OK}


def sentence(facts: Facts) -> str:
    """All of it in one line, the most asked for first."""
    parts = [
        _outcome(facts),
        _what(facts),
        _usage(facts),
        _timing(facts),
        f"requester {facts['requester']}" if "requester" in facts else None,
        facts.get("mode"),
        f"account {facts['account_id']}" if "account_id" in facts else None,
        str(facts["error"])[:ERROR_CHARS] if "error" in facts else None,
    ]
    return " · ".join(str(part) for part in parts if part)


def marker(facts: Facts) -> str:
    """The emoji that a view shows beside the flow."""
    if facts.get("cached"):
        return CACHED_MARKER
    outcome = facts.get("outcome")
    return MARKERS.get(Outcome(str(outcome)), "") if outcome else ""


def _outcome(facts: Facts) -> str:
    outcome = str(facts.get("outcome", "under way"))
    return f"{outcome}, cached" if facts.get("cached") else outcome


def _what(facts: Facts) -> str:
    what = facts.get("model", facts.get("endpoint"))
    return f"{facts['provider']} {what}" if "provider" in facts else str(what)


def _usage(facts: Facts) -> str | None:
    """Tokens and cost; not reported and not known are said, they are not zero."""
    if "latency_ms" not in facts or facts["outcome"] == Outcome.REFUSED:
        return None
    reported = "input_tokens" in facts or "output_tokens" in facts
    if not reported:
        return "tokens not reported"
    tokens = " ".join(str(facts.get(f"{way}put_tokens", "?")) + f" {way}" for way in ("in", "out"))
    if "cost_usd" not in facts:
        return f"{tokens} · price unknown"
    return f"{tokens} · ${money(facts['cost_usd'])}"


def money(amount: Fact) -> str:
    """A cost as people write it: no exponent, no trailing zeros."""
    return f"{Decimal(str(amount)).normalize():f}"


def _timing(facts: Facts) -> str | None:
    if "latency_ms" not in facts:
        return None
    parts = [
        f"{said} {facts[name]:.1f}"
        for name, said in (("ttfb_ms", "first byte"), ("overhead_ms", "Metrion"))
        if name in facts
    ]
    inner = f" ({', '.join(parts)})" if parts else ""
    return f"{facts['latency_ms']:.0f} ms{inner}"
