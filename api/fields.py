"""Values that requests carry, checked for what would break further inside."""

from typing import Annotated

from pydantic import AfterValidator, Field


def _storable(value: str) -> str:
    # JSON can say both, PostgreSQL's text can hold neither
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("must not hold a NUL character or half a surrogate pair")
    return value


PlainText = Annotated[str, AfterValidator(_storable)]
"""Text that PostgreSQL can hold."""

Email = Annotated[
    PlainText,
    Field(
        min_length=3,
        max_length=254,
        description="An e-mail address; upper and lower case of ASCII letters are the same.",
        examples=["ada@example.com"],
    ),
]
