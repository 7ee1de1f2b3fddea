"""Heads as mitmproxy has them."""

import pytest

from addons.framing import RequestHead, ResponseHead
from addons.messages import IndexedHeaders, response_head, to_provider_response, to_request


def test_a_request_keeps_what_was_read():
    head = RequestHead(b"POST", b"/v1/x?y=z", b"HTTP/1.0", [(b"Host", b"m")], 5)
    made = to_request(head)
    assert (made.method, made.path, made.http_version) == ("POST", "/v1/x?y=z", "HTTP/1.0")
    assert made.headers["host"] == "m"


@pytest.mark.parametrize("keeps_alive", [True, False])
def test_an_answer_tells_mitmproxy_whether_its_connection_ends(keeps_alive):
    head = ResponseHead(404, b"Nope", [(b"A", b"1")], 0, keeps_alive=keeps_alive)
    made = to_provider_response(head)
    assert (made.status_code, made.reason, made.headers["a"]) == (404, "Nope", "1")
    assert made.is_http11 is keeps_alive


def test_an_answer_without_a_reason_gets_the_usual_one():
    assert response_head(429, b"", []).reason == "Too Many Requests"
    assert response_head(429, b"Enough", []).reason == "Enough"


def test_headers_that_are_changed_are_found_as_they_are():
    headers = IndexedHeaders([(b"A", b"1"), (b"b", b"\xff"), (b"a", b"2")])
    assert headers["a"] == headers.get("A") == "1, 2"
    assert headers["B"] == "\udcff"
    headers["a"] = "3"
    del headers["b"]
    assert (headers.get_all("A"), headers.get("b"), "b" in headers) == (["3"], None, False)
    assert headers.copy().fields == ((b"A", b"3"),)
    with pytest.raises(KeyError):
        headers["c"]
