"""What pydantic found wrong with a request, in words that also say what would be right."""

from __future__ import annotations

from typing import Any

from services.core.errors import InvalidInputError
from services.gateway.arguments import FORMS, shown


def input_error(errors: list[Any], content_type: str) -> InvalidInputError:
    """Return the first of pydantic's errors as ours; `content_type` is the request's."""
    first = errors[0]
    place, *steps = first["loc"]
    field = ".".join(step for step in steps if isinstance(step, str)) or str(place)
    return InvalidInputError(field, *_problem(first, content_type))


def _problem(error: dict[str, Any], content_type: str) -> tuple[str, str]:  # noqa: PLR0911 - a table by type
    """Return what is wrong, and what would be right where the first does not say it."""
    given, context = error.get("input"), error.get("ctx", {})
    match error["type"]:
        case "missing":
            return "is missing", ""
        case "json_invalid":
            return f"is not JSON: {context['error']}", "one JSON object"
        case "model_attributes_type" if "json" not in content_type:
            return "is not sent as JSON", "send the header Content-Type: application/json"
        case "model_attributes_type" | "model_type" | "dict_type":
            return "is no JSON object", ""
        case "extra_forbidden":
            return "is no field here", "/openapi.json lists what there is"
        case "string_pattern_mismatch":
            return f"{shown(given)} does not fit", _several(error) or FORMS[context["pattern"]]
        case "enum" | "literal_error":
            return f"{shown(given)} is not known here", _several(error) or context["expected"]
        case _:
            words = str(error["msg"]).removeprefix("Value error, ")
            return words[:1].lower() + words[1:], ""


def _several(error: dict[str, Any]) -> str:
    """Return how several values are given, where that is what went wrong."""
    place, name, *place_in_list = error["loc"]
    if place != "query" or not place_in_list or "," not in error["input"]:
        return ""
    return f"several are given as {name}=…&{name}=…"
