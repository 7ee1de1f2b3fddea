"""Sealed values: all of them sealed, all of them open, all under the active key."""

from collections.abc import Generator

from scripts.doctor.result import Result, finding, ok, skipped
from storage.diagnostics import Diagnosis, SealedValues
from storage.errors import MasterKeyError
from storage.sealing import MasterKeys
from storage.settings import Settings


def check_sealing(
    settings: Settings, diagnosis: Diagnosis, secrets: set[bytes]
) -> Generator[Result]:
    """Open what is sealed; what tokens and keys it finds is put into `secrets`, to search for."""
    if service := diagnosis.server.is_service:
        yield skipped("sealing", f"METRION_DATABASE_URL names {service}: run it as administrator")
        return
    try:
        keys = MasterKeys.load(settings)
    except MasterKeyError as error:
        yield finding("sealing", str(error), "put the right master keys back; see the README")
        return
    values = diagnosis.sealed_values(keys)
    secrets |= values.secrets
    faults = list(_faults(values, keys))
    yield from faults
    if not faults:
        total = sum(values.by_key.values())
        unused = f"; keys {keys.inactive} open nothing any more" if keys.inactive else ""
        yield ok(
            "sealing",
            f"{total} sealed values, all under key {keys.active}, {values.opened} opened{unused}",
        )


def _faults(values: SealedValues, keys: MasterKeys) -> Generator[Result]:
    for column, count in values.unsealed.items():
        yield finding(
            "sealing",
            f"{count} values of {column} are not sealed",
            "what stands there may be in clear: replace these keys at their providers, too",
        )
    for column, count in values.unreadable.items():
        yield finding(
            "sealing",
            f"{count} values of {column} do not open",
            "a master key is missing or not the right one, or a row was changed by hand",
        )
    old = {key_id: count for key_id, count in values.by_key.items() if key_id != keys.active}
    if old:
        which = ", ".join(f"{count} under key {key_id}" for key_id, count in sorted(old.items()))
        yield finding(
            "sealing",
            f"values are sealed under old master keys: {which}",
            "run `metrion rotate-master-key`: it goes on where the last rotation stopped",
        )
