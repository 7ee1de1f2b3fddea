import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.addresses import checked_email, folded
from storage.errors import InvalidValue


@pytest.mark.parametrize(
    "email", ["a@b", "Ann+x@Example.com", " ada@example.com\n", "jürgen@münchen.de"]
)
def test_what_can_be_an_address_is_kept_as_it_is_written(email):
    assert checked_email(email) == email.strip()


@pytest.mark.parametrize(
    "email",
    [
        *("", "ann", "@", "a@", "@b", "a b@c", "a@b@c", "a\n@b", "a\0@b", "x" * 250 + "@b.org"),
        *("<a@b>", "a,b@c", '"a"@b', "a;b@c", "a:b@c", "(a)@b", "a@[b]", "a\\b@c"),
        *("=?x?q??=@b", "é@=?x?q??=c", "a=?@b"),
    ],
)
def test_what_cannot_be_one_is_refused(email):
    with pytest.raises(InvalidValue):
        checked_email(email)


def test_the_case_of_ascii_letters_does_not_count():
    assert folded("ADA.Lovelace@EXAMPLE.com") == "ada.lovelace@example.com"


@given(st.text())
def test_nothing_else_is_changed(text):
    assert len(folded(text)) == len(text)
    assert all(
        new == (old.lower() if old.isascii() else old)
        for old, new in zip(text, folded(text), strict=True)
    )
    assert folded(folded(text)) == folded(text)
