"""The database: its schema, its clock, and who can do what in it."""

from collections.abc import Generator

from scripts.doctor.result import Result, finding, ok, skipped
from storage import roles
from storage.database_url import service_url
from storage.diagnostics import Diagnosis
from storage.errors import RightsMissing
from storage.rights import faults_of_catalogue, tried
from storage.schema import known_revisions
from storage.settings import Settings

MOST_SECONDS_APART = 2.0
_MOST_PLACES = 5


def check_server(settings: Settings, diagnosis: Diagnosis) -> Generator[Result]:
    """Look at the connection, the schema's revision and the clock."""
    server = diagnosis.server
    if server.is_far and not server.is_encrypted:
        yield finding(
            "database",
            f"the connection to PostgreSQL at {server.address} is not encrypted",
            "add ?sslmode=verify-full&sslrootcert=… to METRION_DATABASE_URL",
        )
    else:
        yield ok("database", f"PostgreSQL {server.version} answers")
    revision, newest = diagnosis.revision(), known_revisions()[0]
    if revision == newest:
        yield ok("schema", f"at revision {revision}")
    else:
        yield finding(
            "schema",
            f"at revision {revision}, this Metrion needs {newest}",
            "run `metrion migrate`, or the Metrion that fits",
        )
    apart = diagnosis.clock_difference()
    if abs(apart) <= MOST_SECONDS_APART:
        yield ok("clock", f"the database's differs from this machine's by {abs(apart):.2f} s")
    else:
        yield finding(
            "clock",
            f"the database's is {apart:+.1f} s from this machine's",
            "let both follow NTP: codes, limits and retention go by them",
        )


def check_rights(settings: Settings, diagnosis: Diagnosis) -> Generator[Result]:
    """Read the catalogue, and try as each service role to get at what is another's."""
    if service := diagnosis.server.is_service:
        yield skipped("rights", f"METRION_DATABASE_URL names {service}: run it as administrator")
        return
    faults = faults_of_catalogue(diagnosis.connection)
    for fault in faults:
        places = ", ".join(fault.places[:_MOST_PLACES])
        more = len(fault.places) - _MOST_PLACES
        yield finding(
            "rights",
            f"{fault.rule}: {places}{f' and {more} more' if more > 0 else ''}",
            "`metrion migrate` on an empty database shows how it must be; take back what was "
            "granted or changed by hand",
        )
    if not faults:
        yield ok("rights", "roles, owners, policies and grants are as they must be")
    for role in roles.LOGIN_ROLES:
        yield from _try_as(role, settings, diagnosis)


def _try_as(role: str, settings: Settings, diagnosis: Diagnosis) -> Generator[Result]:
    try:
        url = service_url(settings, role)
    except RightsMissing as error:
        yield skipped("attempts", f"not as {role}: {error}")
        return
    count, worked = tried(diagnosis.connection, url, role)
    if worked:
        yield finding(
            "attempts",
            "; ".join(worked[:_MOST_PLACES]),
            "stop the services: accounts are not apart from each other; see the rights above",
        )
    else:
        yield ok("attempts", f"{role} was refused {count} times of {count}")
