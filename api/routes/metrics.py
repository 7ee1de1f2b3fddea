"""`/metrics`: the process's metrics for Prometheus."""

from fastapi import APIRouter, Request, Response
from prometheus_client.exposition import choose_encoder

from api.deps import ServicesHere

router = APIRouter(tags=["Operation"])


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format."}},
)
async def metrics(request: Request, services: ServicesHere) -> Response:
    """Return counts and times of this process; nothing in them names an account."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(services.metrics.registry), headers={"content-type": content_type})
