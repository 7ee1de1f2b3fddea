from scripts.fake_provider.answers import Answer, json_answer
from scripts.fake_provider.head import render_head
from scripts.fake_provider.knobs import NO_KNOBS, Knobs
from scripts.fake_provider.routes import Reply


def test_each_provider_has_its_own_headers():
    openai = render_head(Reply(json_answer({}), NO_KNOBS, "openai", 7), "length", 2)
    assert openai.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
    assert b"\r\ncontent-type: application/json\r\ncontent-length: 2\r\n" in openai
    assert b"\r\nx-request-id: req_000000000000000000000007\r\n" in openai
    assert b"\r\nx-ratelimit-remaining-requests: 9999\r\n" in openai
    assert openai.count(b"\r\nset-cookie: ") == 2
    assert openai.endswith(b"\r\n\r\n")
    anthropic = render_head(Reply(json_answer({}), NO_KNOBS, "anthropic", 7), "length", 2)
    assert b"\r\nrequest-id: req_000000000000000000000007\r\n" in anthropic
    assert b"\r\nanthropic-ratelimit-requests-remaining: 3999\r\n" in anthropic
    assert b"set-cookie" in anthropic
    gemini = render_head(Reply(json_answer({}), NO_KNOBS, "gemini", 7), "length", 2)
    assert b"request-id" not in gemini
    assert b"set-cookie" in gemini


def test_the_end_of_the_body_is_told_as_asked():
    knobs = Knobs(encoding="br")
    reply = Reply(json_answer({}), knobs, "openai", 1)
    chunked = render_head(reply, "chunked", 2)
    assert b"\r\ntransfer-encoding: chunked\r\n" in chunked
    assert b"\r\ncontent-encoding: br\r\n" in chunked
    assert b"content-length" not in chunked
    until_close = render_head(reply, "close", 2)
    assert b"\r\nconnection: close\r\n" in until_close
    assert b"content-length" not in until_close
    assert b"transfer-encoding" not in until_close


def test_an_answer_without_a_body_says_nothing_of_one():
    reply = Reply(Answer(204, b"", b""), NO_KNOBS, "openai", 1)
    head = render_head(reply, "chunked", 0)
    assert head.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"content-" not in head
    assert b"transfer-encoding" not in head


def test_unusual_statuses():
    reply = Reply(Answer(529, b"text/plain", b""), NO_KNOBS, "anthropic", 1)
    assert render_head(reply, "length", 0).startswith(b"HTTP/1.1 529 Unusual\r\n")
