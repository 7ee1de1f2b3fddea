import httpx


def test_alive_whatever_the_database_does(api_alone: httpx.Client):
    assert api_alone.get("/healthz").json() == {"status": "ok"}


def test_not_ready_without_a_database(api_alone: httpx.Client):
    answer = api_alone.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "The database does not answer."


def test_ready_with_a_database(api):
    assert api.get("/readyz").json() == {"status": "ready"}
