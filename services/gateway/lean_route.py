"""Routes that read their parameters at the price of reading them.

FastAPI looks at the type of every declared parameter anew on every request, which takes longer than all else that the
gateway does for a history. Here that is looked at once. Whatever a request has wrong is left to FastAPI's own handler,
whose words are the ones that callers know.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.responses import Response

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class LeanRoute(APIRoute):
    """A route whose parameters are of the path and the query alone; with any other it is FastAPI's own."""

    def get_route_handler(self) -> Handler:
        """Return what answers a request."""
        thorough = super().get_route_handler()
        if not _is_lean(self.dependant):
            return thorough
        endpoint, request_name = self.endpoint, self.dependant.request_param_name
        in_path = [_Parameter.of(field) for field in self.dependant.path_params]
        in_query = [_Parameter.of(field) for field in self.dependant.query_params]

        async def answer(request: Request) -> Response:
            values: dict[str, Any] = {} if request_name is None else {request_name: request}
            query = request.query_params
            if not all(one.read(request.path_params, values) for one in in_path) or not all(
                one.read(query, values) for one in in_query
            ):
                return await thorough(request)
            response: Response = await endpoint(**values)
            return response

        return answer


class _Parameter(NamedTuple):
    """A declared parameter."""

    name: str
    alias: str
    is_many: bool
    is_required: bool
    default: Any
    validate: Callable[..., tuple[Any, Any]]

    @classmethod
    def of(cls, field: Any) -> _Parameter:  # noqa: ANN401  # FastAPI does not publish the type of its fields
        return cls(
            field.name,
            field.alias,
            takes_several(field),
            field.field_info.is_required(),
            field.get_default(),
            field.validate,
        )

    def read(self, given: Mapping[str, Any], values: dict[str, Any]) -> bool:
        """Add the value that is given, or the default, to `values`; return False where it is wrong or lacks."""
        if self.alias not in given:
            values[self.name] = self.default
            return not self.is_required
        value = given.getlist(self.alias) if self.is_many else given[self.alias]  # type: ignore[attr-defined]
        values[self.name], errors = self.validate(value, values, loc=())
        return not errors


def takes_several(field: Any) -> bool:  # noqa: ANN401  # as above
    """Whether a declared parameter has a list of values."""
    return typing.get_origin(field.field_info.annotation) in (list, tuple)


def _is_lean(dependant: Dependant) -> bool:
    return not (dependant.header_params or dependant.cookie_params or dependant.body_params or dependant.dependencies)
