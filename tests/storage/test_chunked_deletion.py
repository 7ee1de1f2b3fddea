import pytest
from sqlalchemy import text

from storage import roles
from storage.chunked_deletion import delete_in_chunks
from storage.database import Database

DELETE = text("""
    WITH gone AS (
      DELETE FROM metrion_test.old WHERE ctid IN (SELECT ctid FROM metrion_test.old LIMIT :chunk)
      RETURNING 1
    ), noted AS (INSERT INTO metrion_test.chunks SELECT count(*) FROM gone)
    SELECT count(*) FROM gone
""")


@pytest.mark.parametrize(
    ("rows", "chunks"), [(0, [0]), (2, [2]), (3, [0, 3]), (7, [1, 3, 3]), (9, [0, 3, 3, 3])]
)
async def test_each_chunk_is_a_transaction_until_nothing_is_left(
    rows, chunks, database, administrator
):
    administrator.execute("CREATE SCHEMA metrion_test")
    administrator.execute(f"CREATE TABLE metrion_test.old AS SELECT generate_series(1, {rows})")
    administrator.execute("CREATE TABLE metrion_test.chunks (rows bigint)")
    administrator.execute(f"GRANT USAGE ON SCHEMA metrion_test TO {roles.JOBS}")
    administrator.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA metrion_test TO {roles.JOBS}")
    as_jobs = Database(database.url(roles.JOBS))
    try:
        assert await delete_in_chunks(as_jobs, DELETE, 3) == rows
    finally:
        await as_jobs.close()
    noted = administrator.execute(
        "SELECT rows, xmin::text AS transaction FROM metrion_test.chunks ORDER BY rows"
    ).fetchall()
    assert [each["rows"] for each in noted] == chunks
    assert len({each["transaction"] for each in noted}) == len(chunks)
