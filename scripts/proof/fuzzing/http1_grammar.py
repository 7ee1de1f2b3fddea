"""HTTP/1.1 as nobody should send it: requests that two parsers might read in two ways.

One kind of input for each way to go wrong, and valid ones in between: what is refused proves
nothing if nothing is forwarded. `http1_input` makes the input of a number.
"""

from collections.abc import Callable, Sequence
from random import Random

from scripts.proof.fuzzing.callers import OWN_KEY, Callers
from scripts.proof.fuzzing.mangling import mangle, numbered
from scripts.proof.fuzzing.valid_requests import END, valid_parts

_HUGE_BYTES = 70_000
_METHODS = (
    *(b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PATCH"),
    *(
        b"PRI",
        b"get",
        b"Post",
        b"",
        b"G ET",
        b"POST\t",
        b"P\x00ST",
        b"X" * 21,
        b"M-SEARCH",
        b"A" * 9000,
    ),
)
_VERSIONS = (
    *(b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.10", b"http/1.1"),
    *(b"HTTP/1.1 ", b"HTTP/1", b"HTTP/01.1", b"HTTP/1.1\t", b"ICY/1.1", b""),
)
_ODD_LINES = (
    *(
        b"X : y",
        b": y",
        b"X",
        b" X: y",
        b"\tX: y",
        b"X\0: y",
        b"X: \0",
        b"X: a\rb",
        b"X: a\nb",
        b"X: a\r\n b",
    ),
    *(
        b"X: a\r\n\tb",
        b"X\xff: y",
        b"X(): y",
        b"X: \x01",
        b"X: \x7f",
        b"X: \x0b",
        b"\xefX: y",
        b"X:y:z",
    ),
    *(
        b"Upgrade: h2c",
        b"Upgrade: websocket",
        b"HTTP2-Settings: AAMAAABkAAQAAP__",
        b"Host: n",
        b"Host:",
    ),
    *(b"Transfer-Encoding : chunked", b"Transfer-Encoding\t: chunked", b"Content-Length : 5"),
    *(b"Connection: Upgrade", b"Connection: authorization", b"Connection: x-api-key, host, te"),
    *(b"X: " + b"y" * _HUGE_BYTES, END.join([b"X: y"] * 300), b"X" * _HUGE_BYTES + b": y"),
)
_LENGTHS = (
    *(b"%d", b"%d", b" %d ", b"+%d", b"-%d", b"0%d", b"%d, %d", b"%d,%d", b"0x%x", b"%d.0", b"%d;"),
    *(b"%d\0", b"%d\x0b", b"", b"\xc2\xb2", b"99999999999999999999", b"1e1", b"\xd9\xa1", b"%d %d"),
)
_CODINGS = (
    *(
        b"chunked",
        b"chunked",
        b"Chunked",
        b"xchunked",
        b"chunked, chunked",
        b"identity",
        b"gzip, chunked",
    ),
    *(
        b"chunked, identity",
        b"\x0bchunked",
        b"chunked\0",
        b'"chunked"',
        b"chunked;q=1",
        b"",
        b"chunk",
        b" chunked ",
    ),
)
_SIZES = (
    *(
        b"%x",
        b"%x",
        b"%x",
        b"%X",
        b"0%x",
        b"00000000%x",
        b"0x%x",
        b"+%x",
        b"-%x",
        b" %x",
        b"%x ",
        b"%x\t",
    ),
    *(
        b"%x;a=b",
        b'%x;a="b;c"',
        b"%x;" + b"a" * 5000,
        b"%x;a\r",
        b"%x\0",
        b"%x,",
        b"%xg",
        b"",
        b"\xff%x",
    ),
    *(b"fffffffffffffffff%x", b"7fffffffffffffff", b"100000000%x", b"%x;\n"),
)
_CHUNK_ENDS = (END, END, END, END, b"\n", b"\r", b"", b"\r\r\n", b"\0\r\n", b"\r\n\r\n")
_PATHS = (
    *(b"/", b"*", b"", b"/api/proxy", b"/api/proxy/openai", b"/metrics", b"/healthz", b"/readyz"),
    *(b"/api/proxy/openai/../openai/v1/models", b"/api/proxy/openai/v1/%6dodels", b"//v1/models"),
    *(b"/api/proxy/openai/v1/models#x", b"/api/proxy/openai/v1\\models"),
    *(b"/api/proxy/openai@e.example/v1/models", b"/api/proxy/openai/v1/models?a=b?c#d"),
    *(b"/api/proxy/gemini/v1beta/models/a/b:generateContent",),
    *(b"/api/proxy/gemini/v1/models/..:countTokens",),
    *(b"/api/proxy/gemini/v1beta/models/a%0d%0aX:generateContent",),
    *(b"/api/proxy/openai/v1/models\xff", b"/api/proxy/openai/v1/models;a=b", b"/" + b"a" * 9000),
    *(b"/api/proxy/openai/v1/models?" + b"&".join([b"a=b"] * 2000), b"/api/proxy//v1/messages"),
    *(b"http://evil.example/api/proxy/openai/v1/models", b"https://127.0.0.1:1/api/proxy/openai/v1/models"),
    *(b"evil.example:443", b"http://a@b:c/", b"/api/proxy/openai/v1/models HTTP/1.1\r\nX: y"),
)  # fmt: skip


def chunked(random: Random, body: bytes, sizes: Sequence[bytes], ends: Sequence[bytes]) -> bytes:
    """A body in chunks, whose sizes and line ends are of those given."""
    pieces: list[bytes] = []
    place = 0
    while place < len(body):
        piece = body[place : place + random.randint(1, 60)]
        place += len(piece)
        pieces += [_filled(random.choice(sizes), len(piece)), random.choice(ends), piece]
        pieces.append(random.choice(ends))
    trailers = random.choice(
        (b"", b"", b"X-Trailer: y\r\n", b"Host: n\r\n", b"x\r\n", b"X: a\r\n b\r\n")
    )
    return b"".join(pieces) + b"0" + random.choice(ends) + trailers + random.choice(ends)


def _filled(form: bytes, number: int) -> bytes:
    return form % ((number,) * form.count(b"%")) if b"%" in form else form


# ---- kinds --------------------------------------------------------------------------------------


def _valid(random: Random, callers: Callers) -> bytes:
    parts = valid_parts(random, callers)
    if parts.body and random.random() < 0.3:  # noqa: PLR2004 - some chunked
        body = chunked(random, parts.body, (b"%x", b"%X", b"0%x", b"%x;a=b"), (END,))
        return parts.framed([*parts.lines, b"Transfer-Encoding: chunked"], body)
    return parts.joined()


def _pipelined(random: Random, callers: Callers) -> bytes:
    requests = [_valid(random, callers) for _ in range(random.randint(2, 6))]
    if random.random() < 0.5:  # noqa: PLR2004 - the last one goes wrong
        requests.append(random.choice((_mangled, _framing, _chunks))(random, callers))
    return random.choice((b"", b"", END, END + END)).join(requests)


def _request_line(random: Random, callers: Callers) -> bytes:
    parts = valid_parts(random, callers)
    changes = {
        "method": random.choice(_METHODS),
        "target": random.choice(_PATHS),
        "version": random.choice(_VERSIONS),
    }
    chosen = random.sample(sorted(changes), random.choice((1, 1, 2)))
    return parts._replace(**{name: changes[name] for name in chosen}).joined()


def _framing(random: Random, callers: Callers) -> bytes:
    """Lengths that contradict each other, with a request hidden behind the shorter one."""
    parts = valid_parts(random, callers)
    hidden = valid_parts(random, callers).joined()
    said = len(parts.body) + random.choice((0, 0, 0, 1, -1, len(hidden), 7))
    lengths, codings = random.choice((0, 1, 1, 2)), random.choice((0, 1, 1, 2))
    lines = [
        b"Content-Length: " + _filled(form, max(0, said))
        for form in random.choices(_LENGTHS, k=lengths)
    ]
    lines += [b"Transfer-Encoding: " + coding for coding in random.choices(_CODINGS, k=codings)]
    random.shuffle(lines)
    body = random.choice((parts.body, chunked(random, parts.body, (b"%x",), (END,)), b"0\r\n\r\n"))
    return parts.framed([*parts.lines, *lines], body + random.choice((b"", hidden)))


def _chunks(random: Random, callers: Callers) -> bytes:
    parts = valid_parts(random, callers)
    sizes = (b"%x", random.choice(_SIZES))  # one oddity, or nothing would ever come to its end
    body = chunked(random, parts.body or b"{}", sizes, (END, END, END, random.choice(_CHUNK_ENDS)))
    return parts.framed([*parts.lines, b"Transfer-Encoding: chunked"], body)


def _header_lines(random: Random, callers: Callers) -> bytes:
    parts = valid_parts(random, callers)
    lines = [*parts.lines, random.choice(_ODD_LINES)]
    if random.random() < 0.3:  # noqa: PLR2004 - without its host, or twice
        lines = [line for line in lines if not line.startswith(b"Host")]
    random.shuffle(lines)
    return parts._replace(lines=lines).joined()


def _credentials(random: Random, callers: Callers) -> bytes:
    """Credentials everywhere: too many, too few, in odd places and forms."""
    parts = valid_parts(random, callers)
    good = callers.token(random)
    values = (
        *(good, good, callers.token(random), good.upper(), good + b"0", good[:-1]),
        *(OWN_KEY.encode(), b"sk-metrion-", b"\xff" + good, b"Bearer " + good, b""),
        *(good + b" " + good, b"'" + good + b"'"),
    )
    forms = (
        *(b"Authorization: Bearer %s", b"authorization: bearer   %s", b"Authorization: Basic %s"),
        *(
            b"Authorization: %s",
            b"x-api-key: %s",
            b"X-Goog-Api-Key: %s",
            b"api-key: %s",
            b"Cookie: k=%s",
        ),
        *(b"x-metrion-token: %s", b"x-other: %s", b"Proxy-Authorization: Bearer %s", b"x-%s: y"),
        *(
            b"Connection: %s",
            b"X-Metrion-User: %s",
            b"Authorization: Bearer\t%s",
            b"x-metrion-key: %s",
        ),
    )
    lines = [b"Host: metrion"]
    lines += [
        random.choice(forms) % random.choice(values) for _ in range(random.choice((0, 1, 2, 2, 3)))
    ]
    target = parts.target.partition(b"?")[0]
    if random.random() < 0.4:  # noqa: PLR2004 - in the query, too
        asked = (
            b"key=%s",
            b"KEY=%s",
            b"k%%65y=%s",
            b"a=b&key=%s",
            b"key=%s&key=x",
            b"x=%s",
            b"key=%s&",
            b"%s",
        )
        target += b"?" + random.choice(asked) % random.choice(values)
    if random.random() < 0.05:  # noqa: PLR2004 - and in the path
        target = b"/api/proxy/" + good
    return parts._replace(target=target.replace(b" ", b"+"), lines=lines).joined()


def _mangled(random: Random, callers: Callers) -> bytes:
    one, other = _valid(random, callers), _valid(random, callers)
    return mangle(random, one, (one, other))


def _mangled_again(random: Random, callers: Callers) -> bytes:
    made = random.choice((_pipelined, _framing, _chunks, _header_lines, _credentials))
    return mangle(random, made(random, callers), (_valid(random, callers),))


def _noise(random: Random, callers: Callers) -> bytes:
    noise = random.randbytes(random.randint(1, 300))
    ends = random.choice((b"", END + END, b"\n\n"))
    return noise + ends + (_valid(random, callers) if random.random() < 0.3 else b"")  # noqa: PLR2004


KINDS: dict[str, Callable[[Random, Callers], bytes]] = {
    "valid": _valid,
    "pipelined": _pipelined,
    "request line": _request_line,
    "framing": _framing,
    "chunks": _chunks,
    "header lines": _header_lines,
    "credentials": _credentials,
    "mangled": _mangled,
    "mangled again": _mangled_again,
    "noise": _noise,
}
_NAMES = tuple(KINDS)


def http1_input(seed: int, number: int, callers: Callers) -> tuple[str, bytes, Random]:
    """An input: its kind, its bytes, and the chance that goes on to cut it."""
    kind = _NAMES[number % len(_NAMES)]
    random = numbered(seed, "http1", number)
    return kind, KINDS[kind](random, callers), random
