import httpx
import psycopg


def test_alive_whatever_the_database_does(api_alone: httpx.Client):
    assert api_alone.get("/healthz").json() == {"status": "ok"}


def test_not_ready_without_a_database(api_alone: httpx.Client):
    answer = api_alone.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "The database does not answer."


def test_ready_with_the_schema_it_knows_and_no_other(api, database):
    assert api.get("/readyz").json() == {"status": "ready"}
    with psycopg.connect(database.administrator_url.get_secret_value()) as administrator:
        administrator.execute("UPDATE metrion.alembic_version SET version_num = 'r9999'")
    answer = api.get("/readyz")
    assert answer.status_code == 503
    assert "r9999" in answer.json()["detail"]
    assert answer.headers["retry-after"] == "1"
