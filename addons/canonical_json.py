r"""A digest of JSON that is the same for texts that surely mean the same, and for no others.

Of no meaning are the order of members, spacing, and how a character is written (`é` or `\u00e9`).
Everything else counts:

- A number is what is written: `1` and `1.0` are one value to a mathematician, and to a provider
  perhaps a valid and an invalid `max_tokens`. The price is a miss where there could be a hit.
- The order of members counts in an object that is called `properties`: a JSON Schema. OpenAI
  documents that a structured output has its fields in the order of the schema's, and what a model
  is asked to write first (its reasoning, its verdict) changes what it says.

The text has been checked (`addons.validation`): it is valid UTF-8 and JSON, has no half of a
character, repeats no key, is not nested deeply. No function of Python's is called for a number: a
body may hold millions.
"""

import hashlib
import json
import math
from typing import Any, Final, cast

DIGEST_BYTES: Final = 32
_ORDERED = "properties"
_ORDER_MARK = math.inf  # as `Infinity`, which no JSON text has
# A number is kept as it was written: as a text that begins with half of a character, as no other
# text can.
_number = "\ud800".__add__


def canonical_digest(body: bytes) -> bytes:
    """The SHA-256 of what a checked body means."""
    value = json.loads(
        body.decode(), parse_int=_number, parse_float=_number, object_hook=_keep_order
    )
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).digest()


def _keep_order(made: dict[str, Any]) -> dict[str, Any]:
    """An object; with the order of the members of its `properties`, if it has any."""
    if isinstance(schema := made.get(_ORDERED), dict):
        made[_ORDERED] = [_ORDER_MARK, list(cast("dict[str, Any]", schema)), schema]
    return made
