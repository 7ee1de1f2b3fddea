"""Programs that are kept running: started, watched, started again, stopped."""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol, cast
from urllib.parse import urlsplit

from scripts.console import Voice

FIRST_DELAY_SECONDS: Final = 0.2
LONGEST_DELAY_SECONDS: Final = 10.0
STEADY_SECONDS: Final = 30.0
"""Who has run this long starts again at once: what killed it is not its start."""
NOTE_AGAIN_SECONDS: Final = 5.0

_PROBE_SECONDS = 0.05
_PROBE_TIMEOUT_SECONDS = 5.0
_LONGEST_LINE_BYTES = 16_384
_LAST_WORDS_SECONDS = 0.2
_TOLD_TO_END = "status 0"


class StartError(Exception):
    """A program cannot be started; the message is a sentence."""


class Program(Protocol):
    """What can be kept running."""

    name: str

    @property
    def pid(self) -> int | None:
        """The process that runs now; None: none does."""
        ...

    async def start(self) -> None:
        """Start it and return when it is on its way.

        Raises:
            StartError: it cannot be started.
        """
        ...

    async def wait_until_ready(self, seconds: float) -> None:
        """Wait until it does its work.

        Raises:
            StartError: it ended before, or took longer than `seconds`.
        """
        ...

    async def ended(self) -> str:
        """Wait until it ends by itself; return how."""
        ...

    async def stop(self) -> None:
        """End it, by force if it takes too long; returns when nothing of it is left."""
        ...

    def hurry(self) -> None:
        """Make a `stop` that is under way use force now."""
        ...


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A child process to keep running."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] | None
    """None: this process's own."""
    folder: Path
    is_ready: Callable[[], Awaitable[bool]] | None = None
    """Asked until it says yes, once, after the first start; None: running is enough."""
    stop_seconds: float = 20.0
    """From SIGTERM to SIGKILL."""
    open_files: Sequence[int] = ()
    """Descriptors that it inherits, by the same numbers."""
    shares_output: bool = False
    """It writes where this process writes, instead of to the console."""


class ChildProcess:
    """A child process whose output goes to the console, under its name."""

    def __init__(self, spec: ChildSpec, console: Voice) -> None:
        self.name = spec.name
        self.spec = spec
        self._console = console
        self._transport: asyncio.SubprocessTransport | None = None
        self._output: _Output | None = None

    @property
    def pid(self) -> int | None:
        """The child's process; None: it has ended or was never started."""
        if self._transport is None or self._transport.get_returncode() is not None:
            return None
        return self._transport.get_pid()

    async def start(self) -> None:
        """Start the child, in a session of its own: Ctrl-C reaches the supervisor only.

        Raises:
            StartError: there is no such program, or no memory for it.
        """
        if self._transport is not None:
            self._transport.close()  # somebody may have inherited its pipes
        try:
            self._transport, self._output = await asyncio.get_running_loop().subprocess_exec(
                lambda: _Output(self.name, self._console),
                *self.spec.command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=None if self.spec.shares_output else asyncio.subprocess.PIPE,
                stderr=None if self.spec.shares_output else asyncio.subprocess.PIPE,
                env=None if self.spec.environment is None else dict(self.spec.environment),
                cwd=self.spec.folder,
                start_new_session=True,
                pass_fds=tuple(self.spec.open_files),
            )
        except OSError as error:
            raise StartError(f"{self.name} cannot be started: {error.strerror}") from error

    async def ended(self) -> str:
        """Wait until the child ends by itself; return how."""
        if self._output is None:
            return "not started"
        return _describe(await asyncio.shield(self._output.ended))

    async def wait_until_ready(self, seconds: float) -> None:
        """Wait until the child says that it is ready.

        Raises:
            StartError: it ended before, or did not say so in time.
        """
        if self._output is None or self.spec.is_ready is None:
            return
        deadline = asyncio.get_running_loop().time() + seconds
        while not await self.spec.is_ready():
            if self._output.ended.done():
                how, said = _describe(self._output.ended.result()), self._output.last_words
                raise StartError(f"{self.name} ended at its start ({how}): {said or 'silently'}")
            if asyncio.get_running_loop().time() > deadline:
                raise StartError(
                    f"{self.name} was not ready within {seconds:.0f} s; see what it said above"
                )
            await asyncio.sleep(_PROBE_SECONDS)

    async def stop(self) -> None:
        """Send SIGTERM, then SIGKILL when `stop_seconds` are over."""
        # of its own: whoever keeps it running may have started the next one when this has ended
        transport, output = self._transport, self._output
        if transport is None or output is None:
            return
        with contextlib.suppress(ProcessLookupError):
            transport.terminate()
        try:
            await asyncio.wait_for(asyncio.shield(output.ended), self.spec.stop_seconds)
        except TimeoutError:
            self._console.complain(f"{self.name} does not stop and is killed")
            with contextlib.suppress(ProcessLookupError):
                transport.kill()
            await output.ended
        transport.close()

    async def wait_for_successor(self, seconds: float) -> None:
        """Wait until the next one is ready, which is started by whoever keeps this running.

        Raises:
            StartError: it was not ready in time.
        """
        try:
            async with asyncio.timeout(seconds):
                while self.pid is None:  # noqa: ASYNC110 - nobody tells of its start
                    await asyncio.sleep(_PROBE_SECONDS)
        except TimeoutError:
            raise StartError(f"{self.name} was not started again") from None
        await self.wait_until_ready(seconds)

    def hurry(self) -> None:
        """Kill it now."""
        if self._transport is not None:
            with contextlib.suppress(ProcessLookupError):
                self._transport.kill()


class _Output(asyncio.SubprocessProtocol):
    """Passes a child's lines on and notes how it ends."""

    def __init__(self, name: str, console: Voice) -> None:
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.last_words = ""
        """The last line on standard error."""
        self._name = name
        self._console = console
        self._transport: asyncio.SubprocessTransport | None = None
        self._parts = {1: b"", 2: b""}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, rest = (self._parts[fd] + data).split(b"\n")
        if len(rest) > _LONGEST_LINE_BYTES:
            lines, rest = [*lines, rest], b""
        self._parts[fd] = rest
        for line in lines:
            self._pass_on(fd, line)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if self._parts.get(fd):
            self._pass_on(fd, self._parts[fd])
            self._parts[fd] = b""

    def process_exited(self) -> None:
        # a moment for its last words; whoever inherited its pipes may keep them open for ever
        asyncio.get_running_loop().call_later(_LAST_WORDS_SECONDS, self._end)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()  # it has ended, and all it said was read

    def _end(self) -> None:
        status = self._transport.get_returncode() if self._transport is not None else None
        if status is not None and not self.ended.done():
            self.ended.set_result(status)

    def _pass_on(self, fd: int, line: bytes) -> None:
        text = line[:_LONGEST_LINE_BYTES].decode(errors="replace").rstrip("\r")
        if fd == 2 and text.strip():  # noqa: PLR2004 - standard error
            self.last_words = text.strip()
        self._console.line(self._name, text, error=fd == 2)  # noqa: PLR2004


class Fleet:
    """Programs that need each other, started in groups; the last group is stopped first."""

    def __init__(self, console: Voice) -> None:
        self._console = console
        self._groups: list[tuple[Program, ...]] = []

    @property
    def pids(self) -> dict[str, int]:
        """Name → process of everything that runs now."""
        programs = [program for group in self._groups for program in group]
        return {program.name: pid for program in programs if (pid := program.pid) is not None}

    async def start(self, *group: Program, seconds: float) -> None:
        """Start some programs at once and wait, at most `seconds`, until all of them are ready.

        Raises:
            StartError: one of them did not get there; `stop()` ends the others.
        """
        self._groups.append(group)
        try:
            async with asyncio.TaskGroup() as tasks:
                for program in group:
                    await program.start()
                    tasks.create_task(program.wait_until_ready(seconds))
        except* StartError as errors:
            raise _first(errors) from None

    async def keep_running(self, when_started: Callable[[], None]) -> None:
        """Start again whatever ends, until cancelled.

        `when_started` is called soon after each start, to note what runs now; if it raises OSError
        (the disk is full) nobody is stopped for that, and it is called again until it has worked.
        """
        started = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._note(started, when_started))
            for group in self._groups:
                for program in group:
                    tasks.create_task(keep_running(program, self._console, started.set))

    async def _note(self, started: asyncio.Event, when_started: Callable[[], None]) -> None:
        has_complained = False
        while True:
            await started.wait()
            started.clear()
            try:
                when_started()
                has_complained = False
            except OSError as error:
                if not has_complained:
                    reason = error.strerror or error
                    self._console.complain(
                        f"what runs now cannot be noted ({reason}); that is tried until it works"
                    )
                has_complained = True
                started.set()
                await asyncio.sleep(NOTE_AGAIN_SECONDS)

    async def stop(self) -> None:
        """Stop everything, the last group first."""
        for group in reversed(self._groups):
            async with asyncio.TaskGroup() as tasks:
                for program in group:
                    tasks.create_task(program.stop())

    def hurry(self) -> None:
        """Make a `stop` that is under way use force now."""
        for group in self._groups:
            for program in group:
                program.hurry()


def _first(errors: ExceptionGroup[StartError]) -> StartError:
    """Return one error out of a group, which may hold groups."""
    error = errors.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error


async def keep_running(program: Program, console: Voice, when_started: Callable[[], None]) -> None:
    """Start `program` again whenever it ends, with growing delays; runs until cancelled.

    `when_started` is called after every start but the first, which is the caller's.
    """
    clock = asyncio.get_running_loop().time
    delay = FIRST_DELAY_SECONDS
    started_at = clock()
    while True:
        how = await program.ended()
        if clock() - started_at >= STEADY_SECONDS or how == _TOLD_TO_END:
            delay = FIRST_DELAY_SECONDS
        console.complain(f"{program.name} has ended ({how}); it starts again in {delay:.1f} s")
        await asyncio.sleep(delay)
        delay = min(2 * delay, LONGEST_DELAY_SECONDS)
        started_at = clock()
        try:
            await program.start()
        except StartError as error:
            console.complain(str(error))
        else:
            when_started()


async def answers(url: str) -> bool:
    """Say whether `GET url` is answered with status 200."""
    parts = urlsplit(url)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_SECONDS):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            try:
                writer.write(request.encode())
                status_line = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return status_line.split()[1:2] == [b"200"]


def _describe(status: int) -> str:
    """Say how a process ended, from its exit status as `subprocess` has it."""
    if status >= 0:
        return f"status {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"
