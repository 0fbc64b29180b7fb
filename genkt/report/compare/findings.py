"""A comparison with all that its figures say, worked out once for every place that tells it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from genkt.report.compare.compare_data import ComparedArm, CompareData
from genkt.report.compare.contrasts import Comparison, Contrasts, compare_arms, contrasts
from genkt.report.compare.leading_arm import LeadingArm, leading_arm
from genkt.report.compare.merge_arms import merge_identical


@dataclass(frozen=True)
class Findings:
    """A comparison, the differences that it asks for, and which arm leads.

    Args:
        study: as it was run.
        data: the same with identical arms as one row (``merge_identical``).
    """

    study: CompareData
    data: CompareData
    contrasts: Contrasts
    leading: LeadingArm

    def minus(self, arm: ComparedArm, other: ComparedArm) -> Comparison | None:
        """A row minus the baseline or the reference; None for themselves.

        An arm of a sweep alone is no contrast: nothing is said of it, so its p-value is NaN.
        """
        if arm is other:
            return None
        asked = self.contrasts.against(self.data, other)
        found = (comparison for comparison in asked if comparison.a is arm)
        return next(found, None) or compare_arms(self.data, arm, other)


def findings(data: CompareData) -> Findings:
    """Work out every difference of a comparison."""
    rows = replace(data, arms=merge_identical(data.arms))
    return Findings(data, rows, contrasts(rows), leading_arm(rows))
