"""`metrion doctor --erased EMAIL`: whether anything is left of an account or an address."""

import contextlib
from collections.abc import AsyncGenerator, Generator, Iterable
from pathlib import Path

from scripts.doctor.result import Result, finding, ok
from storage import roles
from storage.database import Database
from storage.database_url import administrator_url
from storage.erasure_search import Trace, search_for_erased
from storage.errors import MasterKeyError, StorageError
from storage.sealing import MasterKeys
from storage.settings import Settings

_SEARCH_SECONDS = 600.0
_CHECK = "erasure"
_IN_A_FILE = "delete it there; Metrion itself writes no address and no account into logs"
_IN_STORE = "`metrion account delete` erases it; if that was done, this is a defect: report it"


async def check_erasure(
    settings: Settings, subject: str, more: Iterable[Path] = ()
) -> list[Result]:
    """Search tables, journal, mails and log files for an address or an account's id.

    Args:
        settings: of the deployment.
        subject: an e-mail address, or an account's id.
        more: files and folders to search beside the data directory.
    """
    try:
        async with _database(settings) as database:
            traces = await search_for_erased(database, settings, _keys(settings), subject)
    except (StorageError, OSError) as error:
        reason = str(error) if isinstance(error, StorageError) else error.strerror
        return [finding(_CHECK, f"it could not be searched: {reason}", "then search again")]
    results = [_told(trace) for trace in traces]
    results += _search_files(settings, subject, more)
    if not any(result.advice for result in results):
        results.append(ok(_CHECK, "nothing is left"))
    return results


@contextlib.asynccontextmanager
async def _database(settings: Settings) -> AsyncGenerator[Database]:
    database = Database(
        administrator_url(settings),
        act_as=roles.DEFINER,
        pool_size=1,
        statement_seconds=_SEARCH_SECONDS,
    )
    try:
        yield database
    finally:
        await database.close()


def _keys(settings: Settings) -> MasterKeys | None:
    try:
        return MasterKeys.load(settings)
    except MasterKeyError:
        return None


def _told(trace: Trace) -> Result:
    message = f"{trace.place}: {trace.note}" + (f" ({trace.count})" if trace.count > 1 else "")
    return finding(_CHECK, message, _IN_STORE) if trace.is_left else ok(_CHECK, message)


def _search_files(settings: Settings, subject: str, more: Iterable[Path]) -> Generator[Result]:
    """Search what the search of stored things leaves out: logs, whoever writes them."""
    places = [
        path
        for path in settings.data_dir.glob("**/*.log")
        if "cluster" not in path.relative_to(settings.data_dir).parts
    ]
    for root in (*places, *more):
        for path in root.rglob("*") if root.is_dir() else [root]:
            try:
                is_in = path.is_file() and _is_in(path, subject)
            except OSError as error:
                yield finding(_CHECK, f"{path} cannot be read: {error.strerror}", "search again")
                continue
            if is_in:
                yield finding(_CHECK, f"{path}: it is in this file", _IN_A_FILE)


def _is_in(path: Path, subject: str) -> bool:
    needle = subject.strip().lower().encode()
    with path.open("rb") as file:
        before = b""
        while chunk := file.read(1024 * 1024):
            if needle in (before + chunk).lower():
                return True
            before = chunk[-len(needle) :]
    return False
