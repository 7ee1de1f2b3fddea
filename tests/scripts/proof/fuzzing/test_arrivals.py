import pytest

from scripts.fake_provider.records import RecordedRequest
from scripts.proof.fuzzing.arrivals import OWN, Arrivals, Whose
from scripts.proof.fuzzing.callers import OWN_KEY

HOST = "h"


def arrived(
    *lines: str, target: str = "/v1/models", method: str = "GET", **more
) -> RecordedRequest:
    head = "\r\n".join([f"{method} {target} HTTP/1.1", f"host: {HOST}", *lines]).encode()
    return RecordedRequest(method, target, head, b"", 1, 0.0, **more)


@pytest.fixture
def arrivals(callers) -> Arrivals:
    return Arrivals(callers, HOST)


@pytest.fixture
def bearer(callers) -> str:
    return f"authorization: Bearer {callers.admitted[0].keys['openai']}"


def test_what_was_admitted_is_counted(arrivals, callers, bearer):
    assert arrivals.judge(arrived(bearer)) == []
    assert arrivals.judge(arrived(f"authorization: Bearer {OWN_KEY}")) == []
    token = callers.admitted[0].token
    assert arrivals.seen == {Whose(token, "openai", "models"): 1, Whose(OWN, "", "models"): 1}


def test_each_fault_is_seen(arrivals, callers, bearer):
    forbidden = f"authorization: Bearer {callers.forbidden_keys[0]}"
    for request, why in (
        (arrived(bearer, "x-metrion-user: a"), "x-metrion-"),
        (arrived(bearer, "x: sk-metrion-0"), "sk-metrion"),
        (arrived(bearer, pipelined=True), "before the answer"),
        (arrived(bearer, "host: evil"), "its host"),
        (arrived(bearer, "connection: close"), "connection"),
        (arrived(bearer, "transfer-encoding: chunked"), "transfer-encoding"),
        (arrived(bearer, "x-api-key: a"), "its credentials"),
        (arrived(), "its credentials"),
        (arrived(bearer, target="/v1/models?KEY=a"), "in its query"),
        (arrived(bearer, target="/v1/files"), "no route"),
        (arrived(bearer, method="POST"), "no route"),
        (arrived(forbidden), "may not call"),
        (arrived(f"x-api-key: {callers.admitted[0].keys['openai']}"), "no route"),
    ):
        complaints = arrivals.judge(request)
        assert any(why in complaint for complaint in complaints), (why, complaints)


def test_what_no_row_accounts_for_is_told(arrivals, callers, bearer):
    row = {
        "account_id": "7", "provider": "openai", "endpoint": "models", "mode": "stored",
        "overhead_ms": 1.0,
    }  # fmt: skip
    tokens = {"7": callers.admitted[0].token}
    arrivals.judge(arrived(bearer))
    assert not arrivals.without_row([row], tokens)
    for other in ({"overhead_ms": None}, {"endpoint": "embeddings"}, {"mode": "pass-through"}):
        assert arrivals.without_row([row | other], tokens).total() == 1
    arrivals.judge(arrived(bearer))
    assert arrivals.without_row([row], tokens).total() == 1
    arrivals.judge(arrived(f"authorization: Bearer {OWN_KEY}"))
    assert arrivals.without_row([row] * 2, tokens) == {Whose(OWN, "", "models"): 1}
