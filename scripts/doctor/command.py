"""The command itself: which checks, how they are printed, and the exit status."""

import asyncio
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from scripts.doctor.erasure import check_erasure
from scripts.doctor.examination import examine
from scripts.doctor.result import Result, Status, finding
from storage.errors import SettingsError
from storage.settings import Settings

_MARKS = {Status.OK: "ok", Status.FINDING: "FINDING", Status.SKIPPED: "-"}


def doctor(
    context: typer.Context,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    erased: Annotated[
        str | None,
        typer.Option(
            metavar="EMAIL", help="Instead look whether anything is left of an erased account."
        ),
    ] = None,
    search: Annotated[
        list[Path] | None,
        typer.Option(metavar="PATH", help="Also search this file or folder (of logs); repeatable."),
    ] = None,
) -> None:
    """Look for faults of this deployment, and for secrets where none may be; 1 if it finds any."""
    try:
        settings = context.find_object(Settings) or Settings.load()
    except SettingsError as error:
        results: Iterable[Result] = [finding("settings", str(error), "correct it; nothing works")]
    else:
        more = search or []
        results = (
            examine(settings, more)
            if erased is None
            else asyncio.run(check_erasure(settings, erased, more))
        )
    made = list(results) if as_json else list(map(_print, results))
    found = [result for result in made if result.status is Status.FINDING]
    if as_json:
        print(json.dumps([asdict(result) for result in made], indent=2, ensure_ascii=False))
    else:
        print(f"{len(found)} findings" if found else "nothing found")
    sys.exit(1 if found else 0)


def _print(result: Result) -> Result:
    """Print a result at once: some take a while."""
    print(f"{_MARKS[result.status]:<8} {result.check:<10} {result.message}")
    if result.advice:
        print(f"{'':<19} → {result.advice}")
    sys.stdout.flush()
    return result
