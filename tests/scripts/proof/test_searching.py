import base64
import gzip
import zlib
from email.message import EmailMessage

import pytest
import zstandard

from scripts.proof.canaries import Flock, Kind
from scripts.proof.searching import CHUNK_BYTES, Find, Searched, Searcher

TOKEN = "sk-metrion-" + "0123456789abcdef" * 2


@pytest.fixture
def flock() -> Flock:
    made = Flock(1)
    made.prompt()
    made.catch(Kind.TOKEN, "a token", TOKEN)
    made.catch(Kind.CODE, "a code", "123456")
    return made


@pytest.fixture
def secret(flock) -> bytes:
    """What one would not want to find."""
    return flock._made[0].value


WAYS = {
    "plain": lambda secret: b"a " + secret + b" b",
    "upper case": lambda secret: secret.upper(),
    "hex": lambda secret: secret.hex().encode(),
    "base64": base64.b64encode,
    "in a mail": lambda secret: mail_of(secret, "base64"),
    "in a quoted mail": lambda secret: mail_of(secret, "quoted-printable"),
    "gzip": lambda secret: b"head " + gzip.compress(secret) + b" more",
    "zlib": zlib.compress,
    "zstd": lambda secret: b"x" + zstandard.compress(secret),
    "gzip in base64": lambda secret: gzip.compress(base64.b64encode(secret)),
    "gzip in gzip": lambda secret: gzip.compress(gzip.compress(secret)),
}


def mail_of(secret: bytes, encoding: str) -> bytes:
    mail = EmailMessage()
    mail.set_content("ä" * 33 + secret.decode("latin-1") + "ö" * 80, cte=encoding)
    return mail.as_bytes()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("which", ["made", "caught"])
def test_it_is_found_in_whatever_form(way, which, flock, secret):
    planted = secret if which == "made" else TOKEN.encode()
    finds = Searcher(flock).search(WAYS[way](planted))
    assert finds
    if which == "caught":
        assert {find.kind for find in finds} == {Kind.TOKEN}
    assert not Searcher(flock).search(WAYS[way](b"x" + planted[:9] + b"y" * 30))


def test_what_was_made_is_named_where_it_is_plain(flock, secret):
    assert Searcher(flock).search(secret) == {Find(Kind.PROMPT, secret.decode(), "plain")}
    assert Searcher(flock).search(flock.mark) == {Find(None, "part of one", "plain")}
    assert Searcher(flock).search(gzip.compress(secret)) == {
        Find(Kind.PROMPT, secret.decode(), "packed")
    }


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (b"123456", True),
        (b'"123456"', True),
        (b"code=123456&x", True),
        (b"(123456, 1)", True),
        (b"1123456", False),
        (b"1234567", False),
        (b"12:00:00.123456", False),
        (b"a123456", False),
        (b"0199-123456", False),
        (b"123456ab", False),
    ],
)
def test_a_code_stands_alone(flock, text, is_one):
    assert bool(Searcher(flock).search(text)) is is_one


def test_a_large_file_is_searched_across_its_borders(flock, tmp_path):
    path = tmp_path / "large"
    at = CHUNK_BYTES - 20
    path.write_bytes(b"x" * at + TOKEN.encode() + bytes(100_000))
    found = Searcher(flock).search_file(path)
    assert found == Searched(at + len(TOKEN) + 100_000, {Find(Kind.TOKEN, "a token", "plain")})
    assert Searcher(flock).search_file(tmp_path / "gone") == Searched()


def test_results_add_up(flock):
    sum_ = Searcher(flock).search_pieces([b"one", b"two"])
    sum_.add(Searcher(flock).search_pieces([TOKEN.encode()]))
    assert sum_.bytes_read == 6 + len(TOKEN)
    assert len(sum_.finds) == 1
