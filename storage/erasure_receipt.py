"""What a person is told when their account is gone: what was deleted, when and where."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

KINDS: Final = {
    "accounts": "account",
    "request_logs": "requests in the log",
    "usage_days": "daily usage records",
    "usage_hours": "hourly usage records",
    "usage_sums": "usage sums",
    "latency_days": "latency records",
    "provider_keys": "provider keys",
    "tokens": "Metrion Key",
    "sessions": "sessions",
    "codes": "codes sent by mail",
    "alert_rules": "alert rules",
    "response_cache": "stored answers",
    "outbox": "mails that were waiting",
    "mails": "mails that were kept",
}
"""Tables by the names that people know them by, in the order of the receipt; others follow."""

_SUBJECT: Final = "Your Metrion account is deleted"
_TEXT: Final = """\
Your Metrion account and everything that belonged to it is deleted.

Asked for:  {requested_at}
Deleted:    {purged_at}
Region:     {region}
Receipt:    {id}

What was deleted, in rows:

{counts}
A subscription, if there was one, was cancelled first. The keys that you stored here are deleted,
but still work at the providers: revoke them there if nothing else uses them.

Of this mail's address only a keyed fingerprint is kept, for {days} days and with the numbers above,
to show that it was done. Nothing else is left; backups that the operator made before end as the
operator has told you. You can sign in again whenever you like: that makes a new, empty account.
"""


def write_receipt(
    *,
    erasure_id: UUID,
    region: str,
    requested_at: datetime,
    purged_at: datetime,
    deleted: Mapping[str, int],
    kept_days: int,
) -> tuple[str, str]:
    """Return the subject and the text of a receipt; `deleted` has a number of rows by table."""
    order = [*KINDS, *sorted(deleted.keys() - KINDS.keys())]
    counts = [(deleted[kind], _kind(kind)) for kind in order if deleted.get(kind)]
    width = max((len(f"{count:,}") for count, _ in counts), default=0)
    text = _TEXT.format(
        requested_at=_moment(requested_at),
        purged_at=_moment(purged_at),
        region=region,
        id=erasure_id,
        counts="".join(f"  {count:>{width},}  {kind}\n" for count, kind in counts),
        days=kept_days,
    )
    return _SUBJECT, text


def _kind(table: str) -> str:
    return KINDS.get(table, table.replace("_", " "))


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
