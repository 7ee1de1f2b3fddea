import pytest
from pydantic import TypeAdapter, ValidationError

from api.fields import Email, PlainText


@pytest.mark.parametrize("value", ["", "plain", "\u00fc\U0001f600\n"])
def test_text_is_text(value):
    assert TypeAdapter(PlainText).validate_python(value) == value


@pytest.mark.parametrize("value", ["a\0b", "a\ud800", "\udfff"])
def test_what_the_database_cannot_hold_is_refused(value):
    with pytest.raises(ValidationError, match="must not hold"):
        TypeAdapter(PlainText).validate_python(value)


def test_an_address_has_a_length():
    with pytest.raises(ValidationError):
        TypeAdapter(Email).validate_python("a" * 255)
