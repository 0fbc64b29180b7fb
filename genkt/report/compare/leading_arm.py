"""Which arm to take, without a winner's curse."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

from genkt.metrics.verdicts import BETTER, WORSE, holm
from genkt.report.compare.compare_data import AFTER, ComparedArm, CompareData
from genkt.report.compare.contrasts import Comparison, compare_arms


@dataclass(frozen=True)
class LeadingArm:
    """The arm that a comparison names first, and the rows that cannot be told from it.

    An arm that was best on some test images looks better there than it is. So the leading arm is
    the one with the best mean *validation* accuracy (or another ``task.metric``), of equal ones the
    first of the study, and its test accuracy is what is reported. Where validation images did not
    judge all arms, by the same metric, no winner is named: then it is the row with the highest mean
    test accuracy, with which the others are compared.

    Either way its students were chosen by how well they did, and the luck of their draws counts in
    both parts of the data. Which two rows are compared is thus open until the figures are there, so
    a difference from it is adjusted by Holm's procedure over *all pairs of rows*, not over those
    with the leading one: with arms that are all equal, a comparison claims any difference in at
    most 5 % of cases.

    Args:
        arm: the leading one.  validated: whether validation images chose it.
        compared: every other row minus it, at the end, with p-values adjusted in this way.
        num_pairs: pairs of rows.
    """

    arm: ComparedArm
    validated: bool
    compared: Sequence[Comparison]
    num_pairs: int

    def _rows(self, *words: str) -> list[ComparedArm]:
        return [each.a for each in self.compared if each.after.verdict.word in words]

    @property
    def worse(self) -> list[ComparedArm]:
        """The rows that are worse than it beyond chance."""
        return self._rows(WORSE)

    @property
    def better(self) -> list[ComparedArm]:
        """The rows that are better than it beyond chance; only where validation misleads."""
        return self._rows(BETTER)

    @property
    def alike(self) -> list[ComparedArm]:
        """The rows that cannot be told from it, the highest mean first."""
        told = self._rows(BETTER, WORSE)
        rows = [each.a for each in self.compared if each.a not in told]
        return sorted(rows, key=lambda arm: -arm.mean(AFTER))


def leading_arm(data: CompareData) -> LeadingArm:
    """The row that leads, compared with every other one; see ``LeadingArm``."""
    rows = data.listed or list(data.arms)
    scores = [arm.validation for arm in rows]
    known = [score for score in scores if score is not None]
    validated = len(known) == len(rows) and len({arm.validated_by for arm in rows}) == 1
    judged = known if validated else [arm.mean(AFTER) for arm in rows]
    best = rows[judged.index(max(judged))]
    pairs = [
        found
        for a, b in itertools.combinations(rows, 2)
        if (found := compare_arms(data, *((b, a) if a is best else (a, b)))) is not None
    ]
    adjusted = holm([found.after.p_value for found in pairs])
    compared = [
        replace(found, before=None, after=replace(found.after, p_adjusted=p))
        for found, p in zip(pairs, adjusted, strict=True)
        if found.b is best
    ]
    return LeadingArm(best, validated, compared, len(pairs))
