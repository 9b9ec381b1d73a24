"""Which name was probably meant, for errors that say what would be right."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str:
    """Suggest the known name that this one was probably meant to be, else list them all."""
    import difflib  # noqa: PLC0415  nobody waits for it who has made no mistake

    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else f"known here: {', '.join(known)}"
