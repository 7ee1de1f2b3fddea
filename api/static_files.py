"""The pages' own files: read and compressed once, and kept by browsers until they change.

Every file has two addresses: `/static/app.css`, of which a browser asks each time whether it is
still good, and `/static/v-…/app.css` with the version of all files together, which never changes
and is asked for once. Modules and styles name each other relatively, so what begins in one version
stays in it.
"""

import gzip
import hashlib
import mimetypes
from dataclasses import dataclass
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Final, Self

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

STATIC_FOLDER: Final = Path(__file__).parent.resolve() / "static"
PREFIX: Final = "/static"
_VERSION_BEGINS: Final = "v-"
_FOREVER: Final = "public, max-age=31536000, immutable"
_SMALLEST_COMPRESSED: Final = 500


@dataclass(frozen=True, slots=True)
class _File:
    """What is sent of a file."""

    media_type: str
    etag: str
    plain: bytes
    compressed: bytes

    @classmethod
    def read(cls, path: Path) -> Self:
        plain = path.read_bytes()
        # weak: it is the same whether compressed or not
        etag = f'W/"{hashlib.sha256(plain).hexdigest()[:16]}"'
        return cls(_media_type(path), etag, plain, gzip.compress(plain, mtime=0))


class StaticFiles:
    """ASGI app that serves the files of a folder from memory.

    Attributes:
        version: the part of an address that stands for all files as they are.
    """

    def __init__(self, folder: Path) -> None:
        """Read all of them."""
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        self._files = {path.relative_to(folder).as_posix(): _File.read(path) for path in paths}
        digest = hashlib.sha256()
        for name, file in self._files.items():
            digest.update(f"{name} {file.etag}\n".encode())
        self.version = f"{_VERSION_BEGINS}{digest.hexdigest()[:12]}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file that is asked for."""
        if scope["type"] != "http":
            return
        if scope["method"] not in {"GET", "HEAD"}:
            raise HTTPException(HTTPStatus.METHOD_NOT_ALLOWED, headers={"allow": "GET, HEAD"})
        name: str = scope["path"].removeprefix(scope.get("root_path", "")).removeprefix("/")
        version, slash, rest = name.partition("/")
        if slash and version.startswith(_VERSION_BEGINS):
            name = rest  # of another version, too: better than nothing for a page that is open
        file = self._files.get(name)
        if file is None:
            raise HTTPException(HTTPStatus.NOT_FOUND)
        answer = _answer(file, Headers(scope=scope), is_final=version == self.version)
        await answer(scope, receive, send)


@cache
def static_files() -> StaticFiles:
    """Return this process's files."""
    return StaticFiles(STATIC_FOLDER)


def _answer(file: _File, asked: Headers, *, is_final: bool) -> Response:
    headers = {"etag": file.etag, "cache-control": _FOREVER if is_final else "no-cache"}
    is_compressed = len(file.plain) >= _SMALLEST_COMPRESSED
    if is_compressed:
        headers["vary"] = "Accept-Encoding"
    if file.etag in asked.get("if-none-match", ""):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    if is_compressed and "gzip" in asked.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        return Response(file.compressed, headers=headers, media_type=file.media_type)
    return Response(file.plain, headers=headers, media_type=file.media_type)


def _media_type(path: Path) -> str:
    # not what the machine's own table says
    known = mimetypes.MimeTypes().guess_type(path.name)[0]
    return known or "application/octet-stream"
