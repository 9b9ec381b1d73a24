"""The bytes of answers already given, for as long as they are right."""

from __future__ import annotations

from collections.abc import Callable, Hashable

MOST_BYTES = 128 * 1024 * 1024
"""Room for the default history of ten thousand series; beyond it everything is forgotten and begun anew."""


class _Generation:
    def __init__(self, of: Hashable) -> None:
        self.of = of
        self.answers: dict[tuple[str, bytes], bytes] = {}
        self.size_bytes = 0


class Answers:
    """Answers by method and request bytes, all of one generation.

    Threads. A thread works on the generation it found: one that computes while the generation ends puts its answer
    where nobody looks any more. Two threads that miss at once both compute, and one of the equal answers stays.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._generation = _Generation(None)

    @property
    def size_bytes(self) -> int:
        """How many bytes of requests and answers are kept."""
        return self._generation.size_bytes

    def find(self, generation: Hashable, method: str, request: bytes) -> bytes | None:
        """Return the answer if it is at hand."""
        current = self._generation
        return current.answers.get((method, request)) if current.of == generation else None

    def make(self, generation: Hashable, method: str, request: bytes, compute: Callable[[], bytes]) -> bytes:
        """Return what `compute` makes, and keep it; what it raises is not kept."""
        current = self._generation
        if current.of != generation:
            current = self._generation = _Generation(generation)
        answer = compute()
        size = len(request) + len(answer)
        if current.size_bytes + size > self._most_bytes:
            current.answers, current.size_bytes = {}, 0
        if size <= self._most_bytes:
            current.answers[method, request] = answer
            current.size_bytes += size
        return answer
