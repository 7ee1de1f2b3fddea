import base64
import json
import re
import urllib.parse

import pytest

from addons.providers import load_providers
from scripts.proof.canaries import Flock, Kind, forms

PROVIDERS = load_providers()


@pytest.mark.parametrize("provider", PROVIDERS, ids=[provider.name for provider in PROVIDERS])
def test_keys_are_of_their_providers_form(provider):
    flock = Flock(1)
    keys = {flock.provider_key(provider) for _ in range(20)}
    assert len(keys) == 20
    for key in keys:
        assert re.fullmatch(provider.key_pattern, key)
        assert flock.mark.decode() in key


def test_a_seed_gives_the_same_canaries_and_another_one_others():
    prompts = [Flock(seed).prompt() for seed in (1, 1, 2)]
    assert prompts[0] == prompts[1]
    assert prompts[0].split()[0] != prompts[2].split()[0]


def test_what_was_made_is_known_by_its_mark():
    flock = Flock(3)
    made = [flock.prompt(), flock.answer(), flock.provider_key(PROVIDERS[0], Kind.OWN_KEY)]
    assert flock.count == 3
    for text in made:
        data = f"before {text} after".encode()
        canary = flock.made_at(data, data.index(flock.mark))
        assert canary is not None
        assert canary.value == text.encode()
    assert flock.made_at(flock.mark + b"000003", 0) is None
    assert flock.made_at(flock.mark + b"00000", 0) is None


def test_what_was_caught_counts():
    flock = Flock(4)
    assert flock.catch(Kind.COOKIE, "Ada's", "secret") == "secret"
    assert flock.count == 1
    assert "secret" not in repr(flock.caught.values())


VALUE = b"cnry4711abc/_?~x"
WRITTEN = {
    "as it is": VALUE,
    "JSON": json.dumps(VALUE.decode()).encode(),
    "hexadecimal": VALUE.hex().encode(),
    "Python's uuid-like hexadecimal": VALUE.hex().upper().encode(),
    "every byte in percent": "".join(f"%{byte:02X}" for byte in VALUE).encode(),
    "Windows": VALUE.decode().encode("utf-16-le"),
    "an environment's name": VALUE.upper(),
    "escaped": "".join(f"\\u{byte:04x}" for byte in VALUE).encode(),
    **{
        f"{name} after {shift} bytes": encode(b"user:"[:shift] + VALUE + b"!?"[: 5 - shift])
        for name, encode in (("base64", base64.b64encode), ("for URLs", base64.urlsafe_b64encode))
        for shift in range(6)
    },
    "in a URL": urllib.parse.quote(VALUE, safe="/?").encode(),
}


@pytest.mark.parametrize("way", WRITTEN)
def test_however_it_is_written_one_of_its_forms_is_there(way):
    assert [name for form, name in forms(VALUE).items() if form in WRITTEN[way]]


def test_a_value_is_in_none_of_other_bytes():
    other = base64.b64encode(b"y" + VALUE[1:]) + VALUE[:-1] + VALUE[:-1].hex().encode()
    assert not [name for form, name in forms(VALUE).items() if form in other]
