from addons.direct.client import ClientConnection
from scripts.proof.fuzzing.closed_room import ClosedRoom, Pipe
from scripts.proof.fuzzing.valid_requests import Parts

BODY = b'{"model":"m","messages":[]}'


def request(token: str) -> bytes:
    lines = [b"Host: a", b"Authorization: Bearer " + token.encode()]
    path = b"/api/proxy/openai/v1/chat/completions"
    return Parts(b"POST", path, b"HTTP/1.1", lines, BODY).joined()


async def test_a_request_goes_all_the_way(callers):
    room = ClosedRoom(callers)
    data = request(callers.admitted[0].token)
    with room.open():
        happened = await room.offer([data[:50], data[50:] + data])
    assert [each.body for each in happened.forwarded] == [BODY, BODY]
    assert [row["outcome"] for row in happened.rows] == ["ok", "ok"]
    assert happened.said.startswith(b"HTTP/1.1 200 ")
    assert not happened.crashes
    assert not happened.hung
    assert not room.open_requests
    key = callers.admitted[0].keys["openai"].encode()
    assert b"Bearer " + key in happened.forwarded[0].head


async def test_those_who_may_not_are_refused(callers):
    room = ClosedRoom(callers)
    with room.open():
        for token, status in ((callers.refused[0], b"429"), (callers.refused[1], b"401")):
            happened = await room.offer([request(token)])
            assert not happened.forwarded
            assert happened.said.startswith(b"HTTP/1.1 " + status)


async def test_a_crash_and_a_client_that_stays_are_seen(callers, monkeypatch):
    room = ClosedRoom(callers)
    with room.open():
        monkeypatch.setattr(room.policy, "_identify", None)
        happened = await room.offer([request(callers.admitted[0].token)])
        assert "Metrion failed" in happened.crashes[0]
        assert not happened.forwarded
        monkeypatch.setattr(ClientConnection, "_leave", lambda _: None)
        assert (await room.offer([b"GET / HTT"])).hung


async def test_two_requests_in_one_are_seen(callers, monkeypatch):
    """A gateway that writes another request behind the one that was admitted."""
    room = ClosedRoom(callers)
    write = Pipe.write

    def smuggle(self, data):
        write(self, data + (b"GET /x HTTP/1.1\r\nhost: a\r\n\r\nmore" if b"POST" in data else b""))

    monkeypatch.setattr(Pipe, "write", smuggle)
    with room.open():
        happened = await room.offer([request(callers.admitted[0].token)])
    assert len(happened.forwarded) == 2
    assert happened.violations


async def test_the_provider_may_break_off(callers):
    said = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab"
    room = ClosedRoom(callers, lambda _: [said, b""])
    with room.open():
        happened = await room.offer([request(callers.admitted[0].token)])
        assert happened.rows[0]["outcome"] == "upstream_closed"
        assert not happened.hung
        room.answer = lambda _: [said]  # and never the rest
        assert (await room.offer([request(callers.admitted[0].token)])).hung
