"""E-mail addresses: what can be one, and when two are the same.

Upper and lower case are the same for ASCII letters, and for no others: what is an upper case, of
which letter, differs between Python, locales of PostgreSQL and mail servers, and a letter that only
looks like another (`İ`, the Kelvin sign) leads to somebody else's mailbox. The index
`accounts_email` compares in the same way.
"""

import re
from string import ascii_lowercase, ascii_uppercase
from typing import Final

from storage.errors import InvalidValue

# Only the form: whether mail arrives is found out by sending some.  RFC 5321 bounds the length.
# What would mean something in a mail's header or in SMTP is left out: RFC 5322 takes it in quotes.
_FORM: Final = re.compile(
    r"""[^@\s\x00-\x20\x7f<>()\[\],;:"\\]+@[^@\s\x00-\x20\x7f<>()\[\],;:"\\]+"""
)
_LONGEST: Final = 254
_ENCODED_WORD: Final = "=?"
"""What begins one, in a header (RFC 2047): a mail's reader would find another address there."""
_LOWER: Final = str.maketrans(ascii_uppercase, ascii_lowercase)


def checked_email(email: str) -> str:
    """Return an address without the spaces around it.

    Raises:
        InvalidValue: it cannot be one, by its form.
    """
    email = email.strip()
    is_one = len(email) <= _LONGEST and _FORM.fullmatch(email) and _ENCODED_WORD not in email
    if not is_one:
        raise InvalidValue("this is not an e-mail address")
    return email


def folded(email: str) -> str:
    """Return what all ways to write an address have in common; not to be mailed to."""
    return email.translate(_LOWER)
