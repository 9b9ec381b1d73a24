"""Points of minutes that have not begun, which a collector with a fast clock has written: kept back until they have."""

from __future__ import annotations

from services.core.model import Points
from services.core.telemetry import EvaluationMetrics


class EarlyPoints:
    """Those that are kept back, at first these."""

    def __init__(self, points: Points, metrics: EvaluationMetrics) -> None:
        self._points = points
        self._metrics = metrics

    def due(self, points: Points, end: int) -> Points:
        """Return what lies before the slot `end`, of these points and those kept back; keep the others back."""
        self._metrics.refused_points.inc(int((points.slots >= end).sum()))
        if len(self._points):
            points = Points.concatenate([self._points, points])
        self._points = points.select(points.slots >= end)
        return points.select(points.slots < end) if len(self._points) else points
