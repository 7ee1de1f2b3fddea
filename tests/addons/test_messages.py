"""Heads as they go out."""

import pytest
from mitmproxy import http

from addons.messages import framing, is_short


def request(version: str = "HTTP/1.1", **headers: str) -> http.Request:
    made = http.Request.make("POST", "http://m/", headers=headers)
    made.http_version = version
    return made


@pytest.mark.parametrize(
    ("version", "headers", "has_body", "expected"),
    [
        ("HTTP/1.1", [], True, [(b"transfer-encoding", b"chunked")]),
        ("HTTP/1.0", [], True, [(b"connection", b"close")]),
        ("HTTP/2.0", [], True, []),
        ("HTTP/1.1", [(b"content-length", b"5")], True, []),
        ("HTTP/1.1", [], False, []),
    ],
)
def test_the_end_of_a_body_is_told_in_the_clients_version(version, headers, has_body, expected):
    assert framing(request(version), headers, has_body=has_body) == expected


@pytest.mark.parametrize(
    ("length", "expected"), [("10", True), ("11", False), ("", False), ("x", False), ("-1", False)]
)
def test_a_short_body_is_one_that_says_so(length, expected):
    made = request()
    made.headers["content-length"] = length
    assert is_short(made, 10) is expected
