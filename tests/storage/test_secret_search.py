import secrets as random

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage import secret_search
from storage.secret_search import SecretFinder, search_database

TOKEN = b"sk-metrion-" + b"0123456789abcdef" * 2
KEY = b"sk-proj-0123456789abcdefghij"


@pytest.fixture(params=["few", "many"])
def finder(request) -> SecretFinder:
    """Few secrets are looked for one by one, of many what could be one is looked up."""
    others = [b"sk-" + random.token_hex(24).encode() for _ in range(300)]
    return SecretFinder([KEY, b"short", *(others if request.param == "many" else [])])


@pytest.mark.parametrize(
    "data",
    [
        KEY,
        b"key=" + KEY + b"&a",
        b'{"a":"' + KEY + b'"}',
        b"\xff" + KEY + b"\0",
        b"xx" + KEY + b"yy",
    ],
    ids=["alone", "query", "json", "bytes", "inside a word"],
)
def test_a_known_secret_is_found_wherever_it_stands(finder, data):
    assert finder.is_in(data)


def test_a_token_is_found_by_its_form(finder):
    assert finder.is_in(b"x" + TOKEN)
    assert not finder.is_in(TOKEN[:-1])
    assert not finder.is_in("sk-metrion-…".encode())


def test_what_is_none_is_not_found(finder):
    assert not finder.is_in(KEY[:-1] + b" " + KEY[1:])
    assert not finder.is_in(b"a short word")
    assert not finder.is_in(b"a" * 5000)


def test_a_secret_with_odd_characters_is_found_by_its_longest_part():
    assert SecretFinder([b"p!" + KEY]).is_in(b"... p!" + KEY)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_both_ways_find_the_same(before, after):
    many = SecretFinder([KEY, *(b"%032d" % number for number in range(300))])
    data = before + KEY + after
    assert many.is_in(data)
    assert SecretFinder([KEY]).is_in(before + after) == many.is_in(before + after)


def test_a_file_is_searched_across_its_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr(secret_search, "CHUNK_BYTES", 1000)
    path = tmp_path / "log"
    path.write_bytes(b"." * 990 + KEY + b"." * 3000)
    assert SecretFinder([KEY]).is_in_file(path)
    assert not SecretFinder([KEY[::-1]]).is_in_file(path)


def test_a_finder_shows_nothing():
    assert repr(SecretFinder([KEY])) == "SecretFinder(1 known)"


@pytest.fixture
def administrator(database):
    url = database.administrator_url.get_secret_value()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.notes (id int, note text, raw bytea, list text[])")
        yield connection


def search(administrator, table="public.notes"):
    found = {each.table: each for each in search_database(administrator, SecretFinder([KEY]))}
    return found[table]


def test_columns_of_every_kind(administrator):
    assert search(administrator).columns == ()
    administrator.execute(
        "INSERT INTO public.notes VALUES (1, 'none', NULL, NULL), (2, %s, %s, %s)",
        [KEY.decode(), KEY, ["a", KEY.decode()]],
    )
    assert search(administrator).columns == ("list", "note", "raw")
    assert search(administrator, "metrion.tokens").columns == ()


def test_a_large_table_is_searched_by_a_sample(administrator, monkeypatch):
    monkeypatch.setattr(secret_search, "MOST_ROWS", 100)
    administrator.execute(
        "INSERT INTO public.notes SELECT n, 'x', %s FROM generate_series(1, 20000) AS n", [KEY]
    )
    administrator.execute("ANALYZE public.notes")
    assert search(administrator).is_sample
