"""Secrets where none may be: tables, files, command lines and environments of processes.

Searched for are Metrion tokens by their form, the tokens and provider keys that are stored (they
were opened in memory), and the deployment's own passwords and master keys. The places that are
meant to hold one are left out: key and password files, the ready file of `scripts/run` as long as
nobody else can read it, and what a process gets of its own settings by its environment.
"""

import json
import os
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from scripts.doctor.result import Result, finding, ok, skipped
from storage import private_files, roles
from storage.diagnostics import Diagnosis
from storage.secret_search import SecretFinder, search_database
from storage.settings import Settings

MOST_BYTES: Final = 1024**3
"""So much of all files is searched, the small ones first."""
_LONGEST_READY_FILE: Final = 10_000
_ADVICE = "delete it there, then `metrion token regenerate` and new provider keys for whom it is"
_PROC = Path("/proc")
_MODULES = (b"scripts.proxy", b"scripts.serve_api", b"scripts.jobs", b"scripts.supervisor")


def check_columns(diagnosis: Diagnosis, secrets: set[bytes]) -> Generator[Result]:
    """Search every text, bytes and JSON column of every table."""
    if not diagnosis.server.sees_all:
        yield skipped(
            "columns", "the database's administrator is bound by row-level security: run it with "
            "a superuser's or BYPASSRLS role's METRION_DATABASE_URL"
        )  # fmt: skip
        return
    finder, count, samples = SecretFinder(secrets), 0, 0
    for searched in search_database(diagnosis.connection, finder):
        count += 1
        samples += searched.is_sample
        for column in searched.columns:
            yield finding("columns", f"a secret stands in {searched.table}.{column}", _ADVICE)
    yield ok("columns", f"{count} tables searched{f', {samples} by a sample' if samples else ''}")


def check_files(
    settings: Settings, secrets: set[bytes], more: Iterable[Path] = ()
) -> Generator[Result]:
    """Search the data directory's files (logs, journal, mails, PostgreSQL's own), and `more`."""
    finder = SecretFinder(secrets | own_secrets(settings))
    meant = {settings.master_key_path, settings.data_dir / "postgres/administrator.password"}
    meant |= {roles.password_path(settings.data_dir / "roles", role) for role in roles.LOGIN_ROLES}
    files = sorted(_files(settings.data_dir, *more), key=lambda file: file[1])
    searched = left_out = total = 0
    for path, size in files:
        total += size
        if path in meant or _is_ready_file(path, size):
            continue
        if total > MOST_BYTES:
            left_out += 1
            continue
        try:
            if finder.is_in_file(path):
                yield finding("logs", f"a secret stands in {path}", _ADVICE)
            searched += 1
        except OSError:
            left_out += 1
    yield ok("logs", f"{searched} files searched{f', {left_out} left out' if left_out else ''}")


def _is_ready_file(path: Path, size: int) -> bool:
    """Whether it is what `scripts/run --ready-file` writes: it has secrets, for its owner only."""
    if path.suffix != ".json" or size > _LONGEST_READY_FILE:
        return False
    try:
        document: Any = json.loads(private_files.read(path))
    except (OSError, ValueError):  # others can read it, or it is something else
        return False
    return isinstance(document, dict) and document.keys() >= {"proxy_url", "database_url", "pids"}


def _files(*roots: Path) -> Generator[tuple[Path, int]]:
    for root in roots:
        for path in root.rglob("*") if root.is_dir() else [root]:
            try:
                if path.is_file() and not path.is_symlink():
                    yield path, path.stat().st_size
            except OSError:
                continue


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    name: str
    command_line: bytes
    environment: bytes


def check_processes(settings: Settings, secrets: set[bytes]) -> Generator[Result]:
    """Search what every user of the machine sees of a process, and what each process was given."""
    if not _PROC.is_dir():
        yield skipped("processes", "this system has no /proc")
        return
    processes = list(_processes(settings))
    if not processes:
        yield skipped("processes", "none runs here with this data directory")
        return
    anywhere = SecretFinder(secrets)
    on_command_lines = SecretFinder(secrets | own_secrets(settings))
    administrator = SecretFinder(_administrator_password(settings))
    found = 0
    for process in processes:
        if on_command_lines.is_in(process.command_line):
            found += 1
            yield finding(
                "processes",
                f"a secret stands in the command line of {process.name} ({process.pid})",
                "everybody on this machine can read it: pass it by a file or the environment",
            )
        if anywhere.is_in(process.environment):
            found += 1
            yield finding(
                "processes",
                f"a token or provider key stands in the environment of {process.name} "
                f"({process.pid})",
                "take it out of there and start it again",
            )
        if process.name != "supervisor" and administrator.is_in(process.environment):
            found += 1
            yield finding(
                "processes",
                f"{process.name} ({process.pid}) was given the administrator's password",
                "give it METRION_DATABASE_URL with its own role: see scripts/deploy",
            )
    if not found:
        yield ok("processes", f"{len(processes)} of them searched")


def _processes(settings: Settings) -> Generator[_Process]:
    """All of Metrion's that were given this data directory."""
    marks = {b"METRION_DATA_DIR=" + os.fsencode(settings.data_dir)}
    for folder in _PROC.iterdir():
        if not folder.name.isdigit():
            continue
        try:
            command_line = (folder / "cmdline").read_bytes()
            name = next((module for module in _MODULES if module in command_line), None)
            if name is None:
                continue
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue  # ended meanwhile, or somebody else's
        is_ours = marks & set(environment.split(b"\0")) or os.fsencode(settings.data_dir) in (
            command_line.split(b"\0")
        )
        if is_ours:
            short = name.decode().removeprefix("scripts.").removeprefix("serve_")
            yield _Process(int(folder.name), short, command_line, environment)


def own_secrets(settings: Settings) -> set[bytes]:
    """Return the deployment's passwords and master keys, in the form in which they are written."""
    found = _administrator_password(settings)
    for role in roles.LOGIN_ROLES:
        found |= _content(roles.password_path(settings.data_dir / "roles", role))
    if settings.master_keys_are_in_a_file:
        found |= _master_keys(b"".join(_content(settings.master_key_path)))
    elif settings.master_keys is not None:
        found |= _master_keys(settings.master_keys.get_secret_value().encode())
    for url in (settings.smtp_url, settings.valkey_url):
        if url is not None and (password := urlsplit(url.get_secret_value()).password):
            found.add(unquote(password).encode())
    for secret in (settings.stripe_secret_key, settings.stripe_webhook_secret):
        if secret is not None:
            found.add(secret.get_secret_value().encode())
    return found


def _administrator_password(settings: Settings) -> set[bytes]:
    found = _content(settings.data_dir / "postgres" / "administrator.password")
    if settings.database_url is not None:
        password = urlsplit(settings.database_url.get_secret_value()).password
        found |= {unquote(password).encode()} if password else set()
    return found


def _content(path: Path) -> set[bytes]:
    try:
        return {private_files.read(path).strip().encode()}
    except (OSError, UnicodeDecodeError):
        return set()


def _master_keys(text: bytes) -> set[bytes]:
    try:
        document: Any = json.loads(text)
        return {key.encode() for key in document["keys"].values()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return set()
