import itertools
import json
import uuid
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from addons.credentials import (
    ERROR_MAX_CHARS,
    KeyGuard,
    choose_mode,
    label,
    mask,
    plain,
    redact,
    scrub,
    take_credentials,
)
from addons.exchange import Exchange, Header, Marks, Mode
from addons.outcome import Refused

TOKEN = "sk-metrion-" + "0123456789abcdef" * 2
OTHER_TOKEN = "sk-metrion-" + "fedcba9876543210" * 2
OWN = "sk-proj-own-KEY_0123456789"
OTHER_OWN = "AIzaSy-another-KEY_0123456789"

# Every place for a credential: its header (or None) and its query, given the credential.
PLACES = {
    "Authorization": lambda key: ([(b"Authorization", b"Bearer " + key.encode())], ""),
    "x-api-key": lambda key: ([(b"X-Api-Key", key.encode())], ""),
    "x-goog-api-key": lambda key: ([(b"x-goog-api-key", key.encode())], ""),
    "api-key": lambda key: ([(b"Api-Key", key.encode())], ""),
    "?key=": lambda key: ([], f"key={quote(key)}"),
}


def exchange(headers: list[Header], query: str = "") -> Exchange:
    at = datetime.now(UTC)
    path = "/api/proxy/openai/v1/models"
    return Exchange(
        str(uuid.uuid4()), at, "GET", path, query, headers, "::1", http2=False, marks=Marks(0.0)
    )


def placed(places: dict[str, str], *more: Header) -> Exchange:
    """An exchange with credentials in some places."""
    headers: list[Header] = [(b"Accept", b"*/*")]
    queries = ["alt=sse"]
    for place, credential in places.items():
        header, query = PLACES[place](credential)
        headers += header
        queries += [query] if query else []
    return exchange([*headers, *more], "&".join(queries))


def decide(made: Exchange) -> Exchange:
    choose_mode(made, take_credentials(made), allow_anonymous=False)
    return made


def refusal(made: Exchange) -> tuple[int, str, str]:
    with pytest.raises(Refused) as caught:
        decide(made)
    return caught.value.status, caught.value.code, caught.value.message


def token_header(token: str = TOKEN) -> Header:
    return (b"X-Metrion-Token", token.encode())


class TestStoredMode:
    @pytest.mark.parametrize("place", PLACES)
    def test_token_in_every_place(self, place: str) -> None:
        made = decide(placed({place: TOKEN}))
        assert (made.mode, made.token, made.own_key) == (Mode.STORED, TOKEN, None)
        assert (made.headers, made.query) == ([(b"Accept", b"*/*")], "alt=sse")

    @pytest.mark.parametrize("place", PLACES)
    def test_its_place_is_known(self, place: str) -> None:
        made = placed({place: TOKEN}, (b"X-Goog-Api-Key", b" "))
        assert take_credentials(made).places == [place.lower()]

    def test_the_same_token_in_all_places_is_one(self) -> None:
        made = decide(placed(dict.fromkeys(PLACES, TOKEN), token_header()))
        assert (made.mode, made.token) == (Mode.STORED, TOKEN)
        assert (made.headers, made.query) == ([(b"Accept", b"*/*")], "alt=sse")

    @pytest.mark.parametrize(
        "token",
        [
            TOKEN + "0",
            TOKEN[:-1],
            TOKEN.upper().replace("SK-METRION", "sk-metrion"),
            "sk-metrion-",
            "sk-metrion-" + "g" * 32,
            TOKEN + "%00",
            TOKEN + " x",
            "sk-metrion-' OR 1=1--",
            TOKEN + "é",
        ],
    )
    def test_malformed_is_refused_by_its_form(self, token: str) -> None:
        status, code, message = refusal(exchange([(b"x-api-key", token.encode())]))
        assert (status, code) == (401, "invalid_token")
        assert token[11:] not in message or token == "sk-metrion-"
        assert "malformed" in message

    @pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER   "])
    def test_scheme_in_any_case(self, scheme: bytes) -> None:
        assert decide(exchange([(b"authorization", scheme + TOKEN.encode())])).token == TOKEN

    def test_spaces_around_are_not_part_of_it(self) -> None:
        assert decide(exchange([(b"x-api-key", b" " + TOKEN.encode() + b"\t")])).token == TOKEN


class TestPassThrough:
    @pytest.mark.parametrize("place", PLACES)
    def test_own_key_in_every_place(self, place: str) -> None:
        made = decide(placed({place: OWN}, token_header()))
        assert (made.mode, made.token, made.own_key) == (Mode.PASS_THROUGH, TOKEN, OWN)
        # from now on it is kept out of labels, also of a request that is refused
        assert OWN.encode() not in made.blot(b"by " + OWN.encode())
        assert (made.headers, made.query) == ([(b"Accept", b"*/*")], "alt=sse")

    def test_without_a_token_says_which_header_to_add(self) -> None:
        status, code, message = refusal(placed({"x-api-key": OWN}))
        assert (status, code) == (401, "invalid_token")
        assert "x-metrion-token" in message
        assert OWN not in message

    @pytest.mark.parametrize("token", ["sk-metrion-zz", OWN, "x"])
    def test_with_a_malformed_token(self, token: str) -> None:
        made = placed({"x-api-key": OWN}, token_header(token))
        assert refusal(made)[:2] == (401, "invalid_token")
        assert made.own_key is None

    @pytest.mark.parametrize("key", ["with space", "a\tb", "ключ", "a\x80b", "k" * 1025])
    def test_key_that_cannot_be_one(self, key: str) -> None:
        made = exchange([(b"x-api-key", key.encode()), token_header()])
        status, code, message = refusal(made)
        assert (status, code) == (400, "invalid_request")
        assert key not in message

    @pytest.mark.parametrize("key", [f"'{TOKEN}'", f'"{TOKEN}"', TOKEN.upper(), f"x{TOKEN}"])
    def test_a_token_in_quotes_is_nobodys_own_key(self, key: str) -> None:
        made = exchange([(b"x-api-key", key.encode()), token_header()])
        status, code, message = refusal(made)
        assert (status, code) == (401, "invalid_token")
        assert "malformed" in message
        assert made.own_key is None

    def test_longest_key(self) -> None:
        key = "!~" * 512
        assert decide(exchange([(b"x-api-key", key.encode()), token_header()])).own_key == key


class TestConflicts:
    @pytest.mark.parametrize(("one", "two"), itertools.permutations(PLACES, 2))
    @pytest.mark.parametrize(
        ("first", "second"), [(TOKEN, OTHER_TOKEN), (OWN, OTHER_OWN), (TOKEN, OWN)]
    )
    def test_two_that_differ(self, one: str, two: str, first: str, second: str) -> None:
        made = placed({one: first, two: second})
        assert refusal(made)[:2] == (400, "invalid_request")
        # and none is left for anybody to see
        assert (made.headers, made.query, made.token) == ([(b"Accept", b"*/*")], "alt=sse", None)

    @pytest.mark.parametrize("place", PLACES)
    def test_two_in_one_place(self, place: str) -> None:
        first, second = PLACES[place](OWN), PLACES[place](OTHER_OWN)
        made = exchange([*first[0], *second[0], token_header()], f"{first[1]}&{second[1]}")
        assert refusal(made)[:2] == (400, "invalid_request")

    def test_two_tokens(self) -> None:
        for made in (
            placed({"x-api-key": TOKEN}, token_header(OTHER_TOKEN)),
            placed({"x-api-key": OWN}, token_header(), token_header(OTHER_TOKEN)),
        ):
            assert refusal(made)[:2] == (400, "invalid_request")

    def test_the_message_repeats_none(self) -> None:
        message = refusal(placed({"x-api-key": TOKEN, "api-key": OTHER_TOKEN}))[2]
        assert "sk-metrion-" not in message


class TestNone:
    @pytest.mark.parametrize(
        ("headers", "query", "hint"),
        [
            ([], "", "No credential"),
            ([token_header()], "", "`x-metrion-token` only names the account"),
            ([(b"authorization", b"Bearer ")], "", "No credential"),
            ([(b"authorization", b"Bearer")], "", "No credential"),
            ([(b"authorization", b"BearerX")], "", "Only `Authorization: Bearer`"),
            ([(b"authorization", b"  ")], "", "No credential"),
            ([(b"x-api-key", b"")], "", "No credential"),
            ([(b"authorization", b"Basic dXNlcjpwYXNz")], "", "Only `Authorization: Bearer`"),
            (
                [(b"authorization", b"Basic dXNlcjpwYXNz"), (b"authorization", b" ")],
                *("", "Only `Authorization: Bearer`"),
            ),
            ([(b"authorization", TOKEN.encode())], "", "Only `Authorization: Bearer`"),
            ([(b"proxy-authorization", b"Bearer " + TOKEN.encode())], "", "No credential"),
            ([(b"cookie", b"key=" + TOKEN.encode())], "", "No credential"),
            ([], "key=", "No credential"),
            ([], "key", "No credential"),
            ([], f"token={TOKEN}", "No credential"),
            ([], f"monkey={OWN}", "No credential"),
        ],
    )
    def test_is_refused(self, headers: list[Header], query: str, hint: str) -> None:
        status, code, message = refusal(exchange(headers, query))
        assert (status, code) == (401, "invalid_token")
        assert hint in message

    def test_an_empty_one_beside_a_real_one_is_nothing(self) -> None:
        # the Anthropic SDK sends an empty x-api-key beside its Bearer token
        made = exchange([(b"x-api-key", b""), (b"authorization", b"Bearer " + TOKEN.encode())])
        assert decide(made).token == TOKEN


class TestTaking:
    @pytest.mark.parametrize(
        "name",
        [
            *(b"authorization", b"Authorization", b"AUTHORIZATION", b"x-api-key", b"X-Api-Key"),
            *(b"x-goog-api-key", b"api-key", b"cookie", b"Cookie", b"proxy-authorization"),
            *(b"x-metrion-token", b"X-METRION-TOKEN"),
        ],
    )
    def test_takes_off_whatever_it_holds(self, name: bytes) -> None:
        for value in (b"Basic x", b"Bearer " + OWN.encode(), b"\xff\x00", b""):
            made = exchange([(b"a", b"1"), (name, value), (b"b", b"2")])
            take_credentials(made)
            assert made.headers == [(b"a", b"1"), (b"b", b"2")]

    @pytest.mark.parametrize("name", [b"x-custom", b"x-metrion-user", b"user-agent", b"accept"])
    @pytest.mark.parametrize("token", [TOKEN, OTHER_TOKEN, "sk-metrion-bad"])
    def test_a_token_leaves_in_no_header(self, name: bytes, token: str) -> None:
        made = exchange([(name, b"x " + token.encode()), (b"x-api-key", TOKEN.encode())])
        assert decide(made).headers == []

    @pytest.mark.parametrize("token", [TOKEN, TOKEN.upper()])
    def test_nor_as_the_name_of_one_or_in_capitals(self, token: str) -> None:
        odd = [(b"x-" + token.encode(), b"y"), (b"x-other", token.encode())]
        made = decide(exchange([*odd, (b"x-api-key", TOKEN.encode())], f"a=b&c={token}"))
        assert (made.headers, made.query) == ([], "a=b")

    def test_other_headers_keep_order_case_and_bytes(self) -> None:
        kept = [(b"X-B", b"\xff"), (b"x-a", b"1"), (b"X-B", b"2"), (b"x-api-keys", b"3")]
        made = exchange([*kept[:2], (b"x-api-key", TOKEN.encode()), *kept[2:]])
        take_credentials(made)
        assert made.headers == kept

    @pytest.mark.parametrize(
        ("query", "rest"),
        [
            (f"key={TOKEN}", ""),
            (f"alt=sse&key={TOKEN}", "alt=sse"),
            (f"key={TOKEN}&alt=sse", "alt=sse"),
            (f"a=1&key={TOKEN}&b=%20+&&c", "a=1&b=%20+&&c"),
            (f"%6Bey={TOKEN}", ""),
            (f"k%65%79={TOKEN}", ""),
            (f"%6b%65%79={TOKEN}", ""),
            (f"KEY={TOKEN}", ""),
            (f"+key={TOKEN}", ""),
            (f"key%20={TOKEN}", ""),
            (f"key={TOKEN}&key={TOKEN}", ""),
            (f"key=&key={TOKEN}", ""),
            ("key=" + "".join(f"%{ord(c):02x}" for c in TOKEN), ""),
            (f"key={TOKEN}&also={TOKEN}", ""),
            (f"key={TOKEN}&also=%73k-metrion-{'0' * 32}", ""),
            (f"key={TOKEN}&{TOKEN}=1", ""),
        ],
    )
    def test_query_in_every_spelling(self, query: str, rest: str) -> None:
        made = decide(exchange([], query))
        assert (made.token, made.query) == (TOKEN, rest)

    @pytest.mark.parametrize(
        "query",
        ["", "a=1", "keys=1", "monkey=1", "a=key", "key2=1", "%256Bey=1", "a=%6Bey", "&&=", "%zz"],
    )
    def test_other_queries_keep_every_byte(self, query: str) -> None:
        made = exchange([], query)
        assert take_credentials(made).credentials == []
        assert made.query == query

    @given(st.text(st.characters(max_codepoint=0xFF)))
    @example("key=\xe9&%ff=%ff&key=%ff")
    def test_any_query_is_read(self, query: str) -> None:
        made = exchange([], query)
        take_credentials(made)
        assert "key" not in [part.partition("=")[0] for part in made.query.split("&")]

    @given(st.lists(st.tuples(st.sampled_from(["key", "alt", "a"]), st.text(max_size=5))))
    def test_only_keys_are_taken(self, pairs: list[tuple[str, str]]) -> None:
        parts = [f"{name}={quote(value)}" for name, value in pairs]
        made = exchange([], "&".join(parts))
        take_credentials(made)
        assert made.query == "&".join(part for part in parts if not part.startswith("key="))

    def test_what_was_found_is_not_shown(self) -> None:
        found = take_credentials(placed({"x-api-key": OWN}, token_header()))
        assert OWN not in repr(found)
        assert TOKEN not in repr(found)


# ---- the guard of what comes back ---------------------------------------------------------------

KEY = b"sk-REAL-abababab-0123456789"


def run(key: bytes, body: bytes, cuts: list[int]) -> tuple[bytes, list[bytes]]:
    """What a guard makes of a body that comes in pieces: the whole, and each piece."""
    guard = KeyGuard(key)
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    pieces = [guard.feed(body[a:b]) for a, b in itertools.pairwise(places)]
    pieces.append(guard.finish())
    return b"".join(pieces), pieces


KEYS = st.text("ab-", min_size=8, max_size=12).map(str.encode) | st.just(KEY)
CUTS = st.lists(st.integers(0, 120), max_size=12)


@st.composite
def echoes(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A key, and a body that has it, and parts of it, in odd places."""
    key = draw(KEYS)
    part = st.builds(lambda a, b: key[a:b], st.integers(0, 30), st.integers(0, 30))
    parts = draw(st.lists(st.just(key) | part | st.binary(max_size=5), max_size=8))
    return key, b"".join(parts)


class TestKeyGuard:
    @given(echoes(), CUTS)
    @example((KEY, KEY), list(range(60)))
    @example((KEY, KEY * 3), [1, 28, 29])
    @example((b"aaaaaaaa", b"a" * 20), list(range(20)))
    @example((KEY, b"x" + KEY[:-1]), [5])
    @example((KEY, KEY[:1] + KEY), [2])  # its first byte twice, and a cut
    def test_never_lets_the_key_through_and_loses_nothing(
        self, echo: tuple[bytes, bytes], cuts: list[int]
    ) -> None:
        key, body = echo
        out, _ = run(key, body, cuts)
        assert key not in out
        assert len(out) == len(body)
        # what differs is asterisks in the place of keys
        changed = [at for at, (a, b) in enumerate(zip(body, out, strict=True)) if a != b]
        assert all(out[at] == ord("*") for at in changed)
        assert out == body.replace(key, b"*" * len(key))

    @given(st.binary(), CUTS)
    def test_other_bytes_pass_as_they_are(self, body: bytes, cuts: list[int]) -> None:
        assert run(KEY, body, cuts)[0] == body.replace(KEY, b"*" * len(KEY))

    def test_holds_back_only_what_may_be_the_beginning(self) -> None:
        guard = KeyGuard(KEY)
        assert guard.feed(b"text sk-REAL") == b"text "
        assert guard.feed(b"-x") == b"sk-REAL-x"
        assert guard.feed(b"data: {}\n\n") == b"data: {}\n\n"
        assert guard.feed(b"s") == b""
        assert guard.finish() == b"s"
        assert guard.finish() == b""

    def test_the_beginning_that_is_held_is_the_longest(self) -> None:
        guard = KeyGuard(b"sk-test-s-0123456789")
        assert guard.feed(b"as sk-test-s") == b"as "
        assert guard.feed(b"-0123456789.") == b"*" * 20 + b"."

    def test_it_says_whether_it_holds_anything_and_whether_it_found_the_key(self) -> None:
        guard = KeyGuard(KEY)
        assert (guard.is_holding, guard.has_blotted) == (False, False)
        guard.feed(b"text " + KEY[:9])
        assert (guard.is_holding, guard.has_blotted) == (True, False)
        guard.feed(KEY[9:])
        assert (guard.is_holding, guard.has_blotted) == (False, True)

    def test_an_event_is_never_held(self) -> None:
        guard = KeyGuard(KEY)
        event = b'data: {"text":"sk"}\n\n'
        assert guard.feed(event) is event

    def test_whole_values(self) -> None:
        guard = KeyGuard(KEY)
        assert (
            guard.blot(b"Bearer " + KEY + b"," + KEY) == b"Bearer " + b"*" * 27 + b"," + b"*" * 27
        )
        assert guard.blot(KEY[:-1]) == KEY[:-1]
        assert guard.feed(b"") == b""

    @pytest.mark.parametrize("length", [8, 15, 16, 64])
    def test_every_key_that_can_be_stored_is_guarded(self, length: int) -> None:
        key = b"0123456789abcdef"[:length] * (1 if length < 17 else 4)
        assert key not in run(key, b"echo " + key, [])[0]

    def test_a_caller_s_own_word_is_no_secret(self) -> None:
        guard = KeyGuard(b"model")
        assert guard.feed(b'{"model":"m') == b'{"model":"m'
        assert guard.blot(b"model") == b"model"
        assert guard._key == b""

    def test_does_not_show_it(self) -> None:
        guard = KeyGuard(KEY)
        assert repr(guard) == "KeyGuard(…)"
        guard.feed(KEY[:10])
        assert "sk-" not in repr(guard)


def test_an_own_key_without_a_token_is_nobodys_where_that_is_allowed() -> None:
    made = placed({"Authorization": OWN})
    choose_mode(made, take_credentials(made), allow_anonymous=True)
    assert (made.mode, made.token, made.own_key) == (Mode.PASS_THROUGH, None, OWN)
    assert made.is_anonymous


def test_a_key_in_the_query_may_have_an_equals_sign() -> None:
    made = exchange([], "key=abc=&alt=sse")
    assert take_credentials(made).credentials == ["abc="]
    assert made.query == "alt=sse"


# ---- what may be kept ---------------------------------------------------------------------------

SECRETS = [
    TOKEN,
    TOKEN.upper(),
    "sk-proj-abcDEF0123456789_-abcdef",
    "sk-ant-api03-aB3_-aB3_-aB3_-aB3_-aB3_-",
    "sk-0123456789abcdef0123456789abcdef",
    "sk-ab12********************************wxyz",
    "xai-aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3",
    "AIzaSyaB3_-x9aB3_-x9aB3_-x9aB3_-x9aB3",
    "AQ.Ab8RN6aB3_-aB3_-aB3_-aB3_-aB3_-aB3_-",
    "sk_live_0123456789abcdef",
    "gsk_abcdEFGH0123456789",
    "pk-0123456789abcdef",
    "rk_live_0123456789abcdef",
]


class TestScrub:
    @pytest.mark.parametrize("secret", SECRETS)
    @pytest.mark.parametrize(
        "around",
        ["{}", "Incorrect API key provided: {}.", '"{}"', "k={}&", "({})", "a:{}\n", "'{}'"],
    )
    def test_leaves_no_key_form(self, secret: str, around: str) -> None:
        clean = scrub(around.format(secret))
        assert "[redacted]" in clean
        for size in (12, 8):
            assert secret[4 : 4 + size] not in clean

    @pytest.mark.parametrize(
        ("text", "clean"),
        [
            ("Bearer abcdefghijklmnopqrstuvwxyz", "Bearer [redacted]"),
            ("https://x.example/?key=s3cret&alt=sse", "https://x.example/?key=[redacted]&alt=sse"),
            ("GET /?alt=sse&key=s3cret failed", "GET /?alt=sse&key=[redacted] failed"),
        ],
    )
    def test_by_its_place(self, text: str, clean: str) -> None:
        assert scrub(text) == clean

    @pytest.mark.parametrize(
        "text",
        [
            "The model `gpt-4o` does not exist.",
            "Unsupported value: 'task-specific-something'",
            "risk-assessment-model-v2 is not available",
            "Bearer authentication is required",
            "max_tokens: 100000 > 8192",
            "key=value is not JSON",
            "Ошибка 🎉",
        ],
    )
    def test_leaves_ordinary_words(self, text: str) -> None:
        assert scrub(text) == text

    def test_one_line_and_bounded(self) -> None:
        assert scrub(" a \n\n b\tc\r\n") == "a b c"
        assert len(scrub("é" * 10_000)) == ERROR_MAX_CHARS == 500

    @pytest.mark.parametrize("at", range(ERROR_MAX_CHARS - 60, ERROR_MAX_CHARS + 1, 7))
    def test_a_key_at_the_edge(self, at: int) -> None:
        # nor its beginning, where the message is cut
        assert TOKEN[:12] not in scrub("x" * at + TOKEN)


class TestPlain:
    @given(st.text(st.characters()))
    @example("a\0b\ud800\udfff\x85\u2028\x1b[0m\x7f")
    def test_is_valid_json_for_postgresql(self, text: str) -> None:
        line = plain(text)
        assert "\\u0000" not in json.dumps(line)
        assert line.encode() is not None
        assert len(line.splitlines()) <= 1
        assert not any(ord(c) < 32 or 0x7F <= ord(c) < 0xA0 for c in line)

    @given(st.text(st.characters(categories=["L", "N", "P", "S"])))
    def test_leaves_what_can_be_read(self, text: str) -> None:
        assert plain(text) == text


class TestLabel:
    @pytest.mark.parametrize(
        ("text", "kept"),
        [
            (None, None),
            ("", None),
            ("  \n", None),
            ("alice@example.com", "alice@example.com"),
            ("Team Żółć 🎉", "Team Żółć 🎉"),
            ("a\0b", "a�b"),
            ("a\ud800", "a�"),
            ("sk-berlin-team", "sk-berlin-team"),
            ("gpt-4o-2024-08-06", "gpt-4o-2024-08-06"),
            ("ft:gpt-4o:acme:risk-model-of-2025:abc", "ft:gpt-4o:acme:risk-model-of-2025:abc"),
            (TOKEN, "[redacted]"),
            (TOKEN[:15], "[redacted]"),
            (f"me {OTHER_OWN}", "me [redacted]"),
            ("x" * 300, "x" * 200),
        ],
    )
    def test_keeps_names(self, text: str | None, kept: str | None) -> None:
        assert label(text, 200) == kept


class TestRedact:
    def test_a_log_line_stays_one_but_for_what_is_key_like(self):
        assert redact(f"got {TOKEN}, twice\n") == "got [redacted], twice\n"


class TestMask:
    PIECES = st.sampled_from(
        [
            *(
                "sk",
                "SK",
                "xai",
                "gsk",
                "pk",
                "rk",
                "-",
                "_",
                "AIza",
                "aQ",
                ".",
                "metrion",
                "bearer ",
            ),
            *(
                "Bearer ",
                "?",
                "&",
                "key=",
                "KEY=",
                " ",
                "\n",
                '"',
                "abcdef",
                "0123456789",
                "Z" * 20,
            ),
            *("ta", "é", "sk-metrion-0123", "*"),
        ]
    )

    @pytest.mark.parametrize(
        ("shown", "masked"),
        [
            (f'{{"a": "{TOKEN}"}}', f'{{"a": "{"*" * len(TOKEN)}"}}'),
            (f"two {OWN} and {OTHER_OWN}!", f"two {'*' * len(OWN)} and {'*' * len(OTHER_OWN)}!"),
            ("/x?a=b&key=s3cret&c=d", "/x?a=b&key=******&c=d"),
            ("authorization: Bearer abcdefghijklmnop", "authorization: Bearer ****************"),
            ("a task-oriented sk-learn monkey=1", "a task-oriented sk-learn monkey=1"),
        ],
    )
    def test_what_is_key_like(self, shown, masked):
        assert mask(shown.encode()).decode() == masked

    @pytest.mark.parametrize("secret", SECRETS)
    def test_every_form(self, secret):
        shown = mask(f'two: "{secret}", ({secret})'.encode()).decode()
        assert shown == f'two: "{"*" * len(secret)}", ({"*" * len(secret)})'

    @given(st.lists(PIECES, max_size=12).map("".join))
    def test_it_finds_what_redact_finds(self, text):
        shown = mask(text.encode("latin-1"))
        assert len(shown) == len(text)
        assert (shown != text.encode("latin-1")) == (
            redact(text).replace("[redacted]", "*") != text
        )

    @given(st.binary())
    def test_bytes_of_all_kinds(self, data):
        assert len(mask(data)) == len(data)
