"""What a caller would rather have, by the weights of its Accept headers (RFC 9110, section 12.4.2)."""

from __future__ import annotations

import functools

CSV, JSON = "text/csv", "application/json"


@functools.lru_cache(maxsize=256)
def weights(header: str) -> dict[str, float]:
    """Return what a header accepts, in small letters, and how much it is wanted, from 0 to 1; 0 refuses it.

    Parameters other than the weight are left out of account, as are elements whose weight is none.
    """
    found = {}
    for element in header.lower().split(","):
        name, *parameters = (part.strip() for part in element.split(";"))
        weight = next((one[2:] for one in parameters if one.startswith("q=")), "1")
        try:
            found[name] = float(weight)
        except ValueError:
            continue
    return found


def prefers_csv(accept: str) -> bool:
    """Whether an Accept header wants CSV rather than JSON, which everybody gets who does not say so."""
    accepted = weights(accept)
    csv = _first(accepted, CSV, "text/*", "*/*")
    json = _first(accepted, JSON, "application/*", "*/*")
    by_name = CSV in accepted and JSON not in accepted
    return csv > json or (by_name and csv == json > 0)


def takes_gzip(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding header allows for gzip."""
    return _first(weights(accept_encoding), "gzip", "*") > 0


def _first(accepted: dict[str, float], *names: str) -> float:
    """Return the weight of the first of these names, from the most specific on; 0 without any."""
    return next((accepted[name] for name in names if name in accepted), 0.0)
