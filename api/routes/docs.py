"""`/api/docs`: the page that renders `/api/openapi.json` with our own script."""

from typing import cast

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse

from api.static_files import STATIC_FOLDER

router = APIRouter(include_in_schema=False)


@router.get("/api/docs")
async def docs() -> FileResponse:
    """Return the page; its script and style are beside it in the static folder."""
    return FileResponse(STATIC_FOLDER / "docs.html")


@router.get("/api/openapi.json")
async def openapi(request: Request) -> JSONResponse:
    """Return the OpenAPI document."""
    return JSONResponse(cast("FastAPI", request.app).openapi())
