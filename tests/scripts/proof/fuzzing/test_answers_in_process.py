import os

import pytest

from addons.direct.client import ClientConnection
from scripts.proof.fuzzing.answers_in_process import as_client, try_answers, unlike_bytes

WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
OWN = b"HTTP/1.1 502 x\r\nx-metrion-error: provider_error\r\ncontent-length: 2\r\n\r\n{}"


async def test_all_is_well(tally, callers):
    tally.planned = 45
    await try_answers(tally, callers, os.getpid())
    assert not tally.failures
    assert tally.forwarded == 45


async def test_a_byte_that_is_lost_is_seen(tally, callers, monkeypatch):
    send = ClientConnection.send_data
    monkeypatch.setattr(
        ClientConnection,
        "send_data",
        lambda self, data: send(self, data.replace(b"model", b"modem")),
    )
    tally.planned = 30
    await try_answers(tally, callers, os.getpid())
    assert tally.faults["wrong"] > 3


@pytest.mark.parametrize(
    ("heard", "told"),
    [
        (WHOLE, WHOLE), (WHOLE[:-2], WHOLE), (WHOLE[:-2], WHOLE[:-1]), (OWN, b"nonsense"),
        (b"", b"nonsense"), (OWN, WHOLE),
    ],
)  # fmt: skip
def test_the_same_bytes_and_a_clean_break_are_good(heard, told):
    assert unlike_bytes(heard, told) is None


@pytest.mark.parametrize(
    ("heard", "told"),
    [
        (WHOLE.replace(b"hello", b"hallo"), WHOLE), (WHOLE.replace(b"200", b"201"), WHOLE),
        (WHOLE, WHOLE[:-1]), (WHOLE, b"nonsense"), (b"", WHOLE), (b"nonsense", WHOLE),
        (OWN.replace(b"502", b"500"), b"nonsense"), (OWN[:-1], b"nonsense"),
        (WHOLE.replace(b"hello", b"hallo")[:-1], WHOLE),
    ],
)  # fmt: skip
def test_anything_else_is_not(heard, told):
    assert unlike_bytes(heard, told) is not None


def test_a_client_knows_whether_it_was_whole():
    assert as_client(WHOLE) == (200, frozenset({b"content-length"}), b"hello", True)
    broken = as_client(WHOLE[:-1])
    assert broken is not None
    assert not broken.is_whole
    assert as_client(b"\0") is None
