"""Routes that know all their parameters: what an address does not have, or takes once and is given twice, is refused.

Left out of account, `since=1h` would be answered by a day, and nobody would see it.
"""

from __future__ import annotations

from fastapi import Request
from starlette.datastructures import QueryParams
from starlette.responses import Response

from services.core.errors import InvalidInputError
from services.core.suggesting import nearest
from services.gateway.lean_route import Handler, LeanRoute, takes_several

_LONGEST_NAME = 100


class KnownRoute(LeanRoute):
    """A route whose every parameter of the query counts."""

    def get_route_handler(self) -> Handler:
        """Return what answers a request."""
        answer = super().get_route_handler()
        known = {field.alias: takes_several(field) for field in self.dependant.query_params}

        async def answer_known(request: Request) -> Response:
            if request.query_params:
                _check(request.query_params, known)
            return await answer(request)

        return answer_known


def _check(query: QueryParams, known: dict[str, bool]) -> None:
    """Raise InvalidInputError for a parameter that is not known, or is given more often than it counts."""
    given = [name for name, _ in query.multi_items()]
    for name in given:
        if name not in known:
            hint = nearest(name, known) if known else "this address has none"
            raise InvalidInputError(name[:_LONGEST_NAME] or "query", "is no parameter of this address", hint)
        if not known[name] and given.count(name) > 1:
            raise InvalidInputError(name, "is given more than once", "one value")
