"""The per-image scores of a whole study in one small file, so that statistics can be made anew."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genkt.files import discard
from genkt.io import did_you_mean, reading, write_bytes
from genkt.metrics.intervals import ScoreInterval
from genkt.metrics.scored_arms import DrawDesign, Scored, of_arm, of_pair
from genkt.report.compare.compare_data import CompareData
from genkt.types import UserError

SCORES = "scores.npz"
"""Beside compare.json. Of each of M students: ``arm`` (index into ``arms``), ``draw``, ``seed``,
``validation`` (NaN: none), ``final`` [M, N]; of those K that ``has_distilled``: ``distilled``
[K, N]. Scores that are all 0 or 1 are stored as ``numpy.packbits``, [M, ceil(N / 8)] uint8, others
as float32. ``arms``, ``ids`` and ``groups`` are JSON lists in UTF-8."""

_EXPECTED = "the scores of a study"


@dataclass(frozen=True)
class ArmScores:
    """The students of one arm, by draw and seed.

    Args:
        final, distilled: [N] scores in 0..1, at the end and before the last stage; the latter only
            of students that have such a stage.
        validation: accuracy (or the arm's ``task.metric``) in 0..1, of those that have one.
    """

    final: Scored
    distilled: Scored
    validation: Mapping[tuple[int, int], float]


@dataclass(frozen=True)
class StudyScores:
    """The scores of every student of a comparison on every test image.

    Args:
        test_ids: N sample ids, in the order of all scores.
        design: where the students come from.
        arms: by name, in the order of the study.
    """

    test_ids: tuple[str, ...]
    design: DrawDesign
    arms: Mapping[str, ArmScores]

    def interval(self, arm: str, *, distilled: bool = False) -> ScoreInterval | None:
        """Mean accuracy of an arm with its 95 % interval, as in compare.json.

        Args:
            distilled: before the last stage; an arm without one has the same figure for both.

        Returns: None where there are too few images for an interval.

        Raises: UserError for an arm that is not there.
        """
        return of_arm(self._scores(arm, distilled=distilled), self.design)

    def difference(self, a: str, b: str, *, distilled: bool = False) -> ScoreInterval | None:
        """Arm a minus arm b, paired by student and image; see ``interval``."""
        mine, theirs = (self._scores(arm, distilled=distilled) for arm in (a, b))
        return of_pair(mine, theirs, self.design)

    def _scores(self, arm: str, *, distilled: bool) -> Scored:
        if arm not in self.arms:
            near = did_you_mean(arm, self.arms) or f" Arms: {', '.join(self.arms)}."
            raise UserError.of("arm", "an arm of the study", arm, "." + near)
        found = self.arms[arm]
        return found.distilled if distilled and found.distilled else found.final


def has_scores(data: CompareData) -> bool:
    """Whether some student of a comparison kept its scores."""
    return any(cell.scores is not None for arm in data.arms for cell in arm.cells)


def write_study_scores(data: CompareData, out: Path) -> Path | None:
    """Write the scores that were kept; the same scores give the same bytes. None: there are none.

    24 arms of 5 draws on 797 images, before and after the last stage, take about 30 kB.
    """
    path = out / SCORES
    if not has_scores(data):
        discard(path)
        return None
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **_arrays(data))
    return write_bytes(path, stream.getvalue())


def scores_of_study(path: str | Path) -> StudyScores:
    """The scores that ``genkt compare`` kept beside compare.json: every interval can be made anew.

    Args:
        path: the folder of a comparison, or its ``scores.npz``.

    Raises:
        DamagedError: the file is not there, or holds something else.

    Example:
        >>> import tempfile
        >>> scores_of_study(tempfile.mkdtemp())  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        genkt.types.DamagedError: ...
    """
    path = Path(path)
    path = path / SCORES if path.is_dir() else path
    remedy = "the same genkt compare writes it again"
    with reading(path, _EXPECTED, remedy), np.load(path, allow_pickle=False) as stored:
        found = {name: stored[name] for name in stored.files}
        ids, names = _text(found["ids"]), _text(found["arms"])
        num_images = int(found["num_images"])
        final = _unpacked(found["final"], num_images)
        distilled = iter(_unpacked(found["distilled"], num_images))
        arms = {str(name): ArmScores({}, {}, {}) for name in names}
        for row, arm in enumerate(found["arm"]):
            scores, place = arms[names[arm]], (int(found["draw"][row]), int(found["seed"][row]))
            _put(scores.final, place, final[row])
            if found["has_distilled"][row]:
                _put(scores.distilled, place, next(distilled))
            if np.isfinite(found["validation"][row]):
                _put(scores.validation, place, float(found["validation"][row]))
        return StudyScores(tuple(ids), _design(found), arms)


def _put(values: Any, place: tuple[int, int], value: Any) -> None:
    values[place] = value


def _arrays(data: CompareData) -> dict[str, NDArray[Any]]:
    cells = [
        (index, cell)
        for index, arm in enumerate(data.arms)
        for cell in arm.cells
        if cell.scores is not None
    ]
    scores = [cell.scores for _, cell in cells if cell.scores is not None]
    distilled = [each.distilled for each in scores if each.distilled is not None]
    validated = [cell.result.validated for _, cell in cells]
    found: dict[str, NDArray[Any]] = {
        "num_images": np.array(len(scores[0].final)),
        "arms": _as_array([arm.name for arm in data.arms]),
        "ids": _as_array(list(data.test_ids)),
        "arm": np.array([index for index, _ in cells], np.int32),
        "draw": np.array([cell.result.draw for _, cell in cells], np.int32),
        "seed": np.array([cell.result.seed for _, cell in cells], np.int32),
        "validation": np.array([np.nan if each is None else each[1] for each in validated]),
        "has_distilled": np.array([each.distilled is not None for each in scores]),
        "final": _packed(np.array([each.final for each in scores])),
        "distilled": _packed(np.array(distilled).reshape(len(distilled), len(scores[0].final))),
        "labels_vary": np.array(data.design.labels_vary),
        "pool_share": np.array(data.design.pool_share),
        "pseudo": np.array(data.design.pseudo),
    }
    groups = data.design.groups
    return found if groups is None else {**found, "groups": _as_array(list(groups))}


def _design(found: Mapping[str, NDArray[Any]]) -> DrawDesign:
    groups = tuple(_text(found["groups"])) if "groups" in found else None
    return DrawDesign(
        bool(found["labels_vary"]), float(found["pool_share"]), groups, bool(found["pseudo"])
    )


def _packed(scores: NDArray[Any]) -> NDArray[Any]:
    if np.isin(scores, (0, 1)).all():
        return np.packbits(scores.astype(bool), axis=1)
    return scores.astype(np.float32)


def _unpacked(stored: NDArray[Any], num_images: int) -> NDArray[np.float32]:
    if stored.dtype == np.uint8:
        return np.unpackbits(stored, axis=1, count=num_images).astype(np.float32)
    return stored.astype(np.float32).reshape(len(stored), num_images)


def _as_array(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Texts as JSON in bytes: an array of text takes four bytes a letter of the longest."""
    return np.frombuffer(json.dumps(list(texts)).encode(), np.uint8)


def _text(stored: NDArray[np.uint8]) -> list[str]:
    return [str(text) for text in json.loads(stored.tobytes())]
