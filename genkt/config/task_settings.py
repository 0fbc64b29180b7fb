"""Typed settings of the task: what a good student is."""

from __future__ import annotations

from dataclasses import dataclass

from genkt.metrics.choice_values import Metric


@dataclass(frozen=True)
class TaskSettings:
    """``task``: what a run's choices go by.

    Args:
        metric: on the images of ``validation``; the NLL's lowest is best, of the others the
            highest. The report has all of them on the test images, whatever choices went by.
    """

    metric: Metric
