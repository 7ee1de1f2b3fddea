"""All checks, in their order."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

from scripts.doctor.configuration import check_settings
from scripts.doctor.database import check_rights, check_server
from scripts.doctor.disk import check_disk
from scripts.doctor.files import check_files
from scripts.doctor.journals import check_journal
from scripts.doctor.leaks import check_columns, check_processes
from scripts.doctor.leaks import check_files as check_contents
from scripts.doctor.result import Result, finding, skipped
from scripts.doctor.sealing import check_sealing
from scripts.doctor.services import check_mail, check_stripe, check_valkey
from scripts.doctor.upkeep import check_upkeep
from storage.database_url import administrator_url
from storage.diagnostics import Diagnosis, open_diagnosis
from storage.errors import StorageError
from storage.settings import Settings

type Check = Callable[[], Iterable[Result]]
_NEED_THE_DATABASE = ("schema", "clock", "rights", "sealing", "columns", "jobs")


def examine(settings: Settings, more: Sequence[Path] = ()) -> Generator[Result]:
    """Make all checks; a check that cannot be made is a result, too.

    Args:
        settings: of the deployment.
        more: files and folders to search for secrets beside the data directory.
    """
    secrets: set[bytes] = set()
    yield from _made("settings", lambda: check_settings(settings))
    yield from _made("files", lambda: check_files(settings))
    with ExitStack() as stack:
        try:
            diagnosis = stack.enter_context(open_diagnosis(administrator_url(settings)))
        except StorageError as error:
            yield finding("database", str(error), "start it; the rest was not looked at")
            yield from (skipped(check, "no database") for check in _NEED_THE_DATABASE)
        else:
            yield from _about_the_database(settings, diagnosis, secrets)
    for name, check in {
        "logs": lambda: check_contents(settings, secrets, more),
        "processes": lambda: check_processes(settings, secrets),
        "journal": lambda: check_journal(settings),
        "mail": lambda: check_mail(settings),
        "stripe": lambda: check_stripe(settings),
        "valkey": lambda: check_valkey(settings),
        "disk": lambda: check_disk(settings),
    }.items():
        yield from _made(name, check)


def _about_the_database(
    settings: Settings, diagnosis: Diagnosis, secrets: set[bytes]
) -> Generator[Result]:
    for name, check in {
        "database": lambda: check_server(settings, diagnosis),
        "rights": lambda: check_rights(settings, diagnosis),
        "sealing": lambda: check_sealing(settings, diagnosis, secrets),
        "columns": lambda: check_columns(diagnosis, secrets),
        "jobs": lambda: check_upkeep(diagnosis),
    }.items():
        yield from _made(name, check)


def _made(name: str, check: Check) -> Generator[Result]:
    """Make a check; what stops it is named by its kind: its words may hold anything."""
    try:
        yield from check()
    except StorageError as error:
        yield finding(name, f"it could not be looked at: {error}", "see the findings before")
    except Exception as error:  # noqa: BLE001 - one check must not hide the others
        kind = type(error).__name__
        yield finding(name, f"it could not be looked at: {kind}", "see the findings before")
