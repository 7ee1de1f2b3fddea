"""`/healthz` and `/readyz`: for supervisors and balancers."""

import logging
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from api.deps import ServicesHere
from api.errors import RETRY_SECONDS, UnavailableError, documented
from storage.errors import DatabaseUnavailable, SchemaError
from storage.schema import check_schema

router = APIRouter(tags=["Operation"])
log = logging.getLogger("metrion.api")


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """The process can do its work."""

    status: Literal["ready"] = "ready"


@router.get("/healthz", summary="Is the process alive?")
async def health() -> Alive:
    """Answer without looking at anything else: who gets no answer should restart the process."""
    return Alive()


@router.get("/readyz", summary="Can it do its work?", responses=documented(UnavailableError))
async def ready(services: ServicesHere) -> Ready:
    """Answer 200 if the database answers and has the schema that this version expects."""
    try:
        async with services.database.system() as connection:
            await check_schema(connection)
    except DatabaseUnavailable as error:
        raise _not_ready(error, "The database does not answer.") from error
    except SchemaError as error:
        raise _not_ready(error, f"The schema does not fit: {error}.") from error
    return Ready()


def _not_ready(error: Exception, detail: str) -> UnavailableError:
    log.warning("not ready", extra={"reason": str(error)})
    return UnavailableError(detail, headers={"Retry-After": RETRY_SECONDS})
