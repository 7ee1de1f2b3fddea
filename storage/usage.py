"""What an account used, from its records."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from storage.models import this_account, usage_days


async def forwarded_this_month(connection: AsyncConnection) -> int:
    """Return how many of the account's requests count against this month's limit (UTC)."""
    first_day = func.date_trunc("month", func.timezone("UTC", func.now()))
    query = select(func.coalesce(func.sum(usage_days.c.forwarded), 0)).where(
        usage_days.c.account_id == this_account, usage_days.c.day >= first_day
    )
    return int((await connection.execute(query)).scalar_one())
