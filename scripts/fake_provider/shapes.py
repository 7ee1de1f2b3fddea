"""Reading what may be anything: parsed JSON whose sender need not keep to a shape."""

from typing import Any, cast


def object_of(value: object) -> dict[str, Any]:
    """Return the JSON object, or an empty one where there is something else."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def items_of(value: object) -> list[Any]:
    """Return the JSON array, or an empty one where there is something else."""
    return cast("list[Any]", value) if isinstance(value, list) else []


def objects_of(value: object) -> list[dict[str, Any]]:
    """Return the objects in a JSON array that have anything in them."""
    return [each for each in map(object_of, items_of(value)) if each]
