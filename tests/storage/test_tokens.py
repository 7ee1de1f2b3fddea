import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.tokens import TOKEN_PATTERN, is_token, mask, new_token


def test_a_new_token_has_the_form_and_is_new():
    tokens = {new_token() for _ in range(100)}
    assert len(tokens) == 100
    assert all(is_token(token) and len(token) == 43 for token in tokens)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sk-metrion-",
        "sk-metrion-" + "a" * 31,
        "sk-metrion-" + "a" * 33,
        "sk-metrion-" + "A" * 32,
        "sk-metrion-" + "g" * 32,
        "sk-metrion-" + "a" * 32 + "\n",
        " sk-metrion-" + "a" * 32,
        "sk-metrion-" + "\u0661" * 32,  # digits, but not these
        "SK-METRION-" + "a" * 32,
    ],
)
def test_anything_else_is_none(text: str):
    assert not is_token(text)
    assert mask(text) == "…"


@given(st.text(), st.text())
def test_a_token_is_found_inside_other_text(before: str, after: str):
    token = new_token()
    assert token in TOKEN_PATTERN.findall(before + token + after)


def test_the_mask_shows_the_last_four():
    assert mask("sk-metrion-" + "0" * 28 + "beef") == "sk-metrion-…beef"
