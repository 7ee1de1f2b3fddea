"""Checks bodies without holding up other requests: large ones in a process of their own.

Parsing 16 MB of small objects takes half a second in which Python runs nothing else. So a body
over `LARGE_BODY_BYTES`, or `LARGE_TO_DIGEST_BYTES` if it is digested, goes through a pipe to a
child that checks one after the other; it is started with the first such body and ends with its
parent, whose end of the pipe it watches.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncGenerator
from dataclasses import asdict, replace
from typing import Any

from addons.outcome import Refused
from addons.providers.base import Endpoint
from addons.validation import BodyFacts, Splice, check_body

LARGE_BODY_BYTES = 512 * 1024
LARGE_TO_DIGEST_BYTES = 128 * 1024  # a digest takes up to four times as long as a check
_CHUNK_BYTES = 256 * 1024
# 32 MiB of small objects, digested, are 8 seconds of work.
_TURN_SECONDS = 20.0
_ANSWER_SECONDS = 20.0
# Of an endpoint, what a check needs.
_ENDPOINT_FIELDS = ("name", "required", "streams", "usage_on_request")
_ANY_ENDPOINT = Endpoint(name="", client_paths=(), path="", flavour="")


class BodyChecker:
    """`check_body` for an event loop."""

    def __init__(self) -> None:
        self._child: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def check(
        self, body: bytes, endpoint: Endpoint, *, with_digest: bool = False
    ) -> BodyFacts:
        """Check a body, here or in the child.

        Raises:
            Refused: as `check_body`; 503 if the child has too much to do.
            OSError: the child failed; the next body gets a new one.
        """
        if len(body) <= LARGE_TO_DIGEST_BYTES or (
            len(body) <= LARGE_BODY_BYTES and not with_digest
        ):
            return check_body(body, endpoint, with_digest=with_digest)
        async with self._in_turn():
            try:
                async with asyncio.timeout(_ANSWER_SECONDS):
                    answer = await self._ask(body, endpoint, with_digest=with_digest)
            except TimeoutError:
                await self.close()
                raise _busy() from None
            except BaseException:
                await self.close()
                raise
        if "refused" in answer:
            raise Refused(400, "invalid_request", answer["refused"])
        wish = answer.pop("usage_wish")
        return BodyFacts(usage_wish=Splice(*wish) if wish else None, **answer)

    @contextlib.asynccontextmanager
    async def _in_turn(self) -> AsyncGenerator[None]:
        """Have the child for oneself; those before may be many, so it is not waited for long."""
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await self._turn.acquire()
        except TimeoutError:
            raise _busy() from None
        try:
            yield
        finally:
            self._turn.release()

    def kill(self) -> None:
        """End the child, if there is one; for those who cannot wait."""
        if self._child is not None:
            with contextlib.suppress(ProcessLookupError):
                self._child.kill()

    async def close(self) -> None:
        """End the child, if there is one, and wait until it has ended."""
        self.kill()
        child, self._child = self._child, None
        if child is not None:
            if child.stdin is not None:
                child.stdin.close()
            await child.wait()

    async def _ask(self, body: bytes, endpoint: Endpoint, *, with_digest: bool) -> dict[str, Any]:
        child = self._child
        if child is None or child.returncode is not None:
            child = self._child = await self._start()
        pipe, answers = child.stdin, child.stdout
        if pipe is None or answers is None:
            raise OSError("the body checker has no pipes")
        facts = asdict(endpoint)
        head = {field: facts[field] for field in _ENDPOINT_FIELDS}
        head |= {"bytes": len(body), "with_digest": with_digest}
        pipe.write(json.dumps(head).encode() + b"\n")
        view = memoryview(body)
        for start in range(0, len(body), _CHUNK_BYTES):
            pipe.write(view[start : start + _CHUNK_BYTES])
            await pipe.drain()
        line = await answers.readline()
        if not line:
            raise OSError("the body checker ended")
        return json.loads(line)

    async def _start(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-m", "addons.body_checker"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={},  # it has no use for settings, and none for secrets
            start_new_session=True,  # Ctrl-C is for the parent
        )


def _busy() -> Refused:
    message = "Too many large requests are being checked. Try again shortly."
    return Refused(503, "unavailable", message, retry_after=1)


def serve() -> None:
    """Check what comes on standard input until it ends: the child's whole life."""
    while line := sys.stdin.buffer.readline():
        head: dict[str, Any] = json.loads(line)
        body = sys.stdin.buffer.read(head.pop("bytes"))
        with_digest = head.pop("with_digest")
        endpoint = replace(_ANY_ENDPOINT, **head | {"required": tuple(head["required"])})
        try:
            answer: dict[str, Any] = asdict(check_body(body, endpoint, with_digest=with_digest))
        except Refused as refused:
            answer = {"refused": refused.message}
        del body
        sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
