from datetime import UTC, datetime

from storage import roles, usage
from storage.database import Database
from storage.example_data import Example, fill
from storage.filters import DAY, Filter, Window
from storage.latency import latencies
from storage.logs import count_logs, list_logs


async def test_what_is_made_up_is_in_the_log_and_in_the_records(api, database, new_account):
    account = await new_account("pro")
    models = [("openai", "gpt-5"), ("grok", "g"), ("mistral", "m")]
    example = Example(4, 6000, models, ["ann", "bob"], unpriced=1)
    owner = Database(database.administrator_url, act_as=roles.DEFINER, pool_size=1)
    counts = [count async for count in fill(owner, account.id, example)]
    await owner.close()
    assert len(counts) == 4
    assert 5_900 < counts[-1] < 6_100
    window = Window.last(7 * DAY, datetime.now(UTC))
    async with api.account(account.id) as connection:
        total = await usage.total(connection, window, Filter())
        names = await usage.list_names(connection, window)
        found = await latencies(connection, window, Filter())
        assert total.requests == await count_logs(connection, window=window) == counts[-1]
        page = await list_logs(connection, limit=1000)
    assert len(page.rows) == 1000
    assert all(row.created_at <= datetime.now(UTC) for row in page.rows)
    assert set(names["models"]) == {(model, provider) for provider, model in models}
    assert set(names["requesters"]) == {"ann", "bob"}
    assert total.unpriced > 0 < total.unreported
    assert 0 < total.errors < total.requests / 4
    assert sum(found.overall("latency").values()) > 400
