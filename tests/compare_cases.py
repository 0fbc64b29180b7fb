"""A study of tiny transfers, and comparisons with known numbers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from tiny import transfer_words, write_images

from genkt.report.compare.compare_data import ComparedArm, CompareData, ComparedCell, Sweep
from genkt.types import Cost, StudentResult, StudentScores

STUDY: dict[str, Any] = {
    "name": "tiny",
    "title": "Tiny",
    "words": ["method=logit_kd", "train.labelled_per_batch=0"],
    "baseline": "stl",
    "reference": None,
    "arms": {
        "stl": ["method=stl", "transfer_set=labelled"],
        "real": ["transfer_set=unlabelled"],
    },
    "names": {"stl": "Plain fine-tuning"},
    "product": {},
    "sweeps": [],
    "pairs": [["real", "stl"]],
}


def compare_words(home: Path, *more: str, **changes: Any) -> list[str]:
    """``genkt compare`` of a study of two arms, two draws, a few steps, in this process."""
    write_study(home, **changes)
    if not (home / "images").is_dir():
        write_images(home / "images")
    own = ("transfer", "out=", "draws=", "train.labelled_per_batch=")
    told = [word for word in transfer_words(home) if not word.startswith(own)]
    return [
        "compare", f"--config-dir={home / 'configs'}", "study=tiny", "executor=inline", "draws=2",
        f"out={home / 'comparison'}", *told, *more,
    ]  # fmt: skip


def write_study(home: Path, **changes: Any) -> None:
    """``home/configs/study/tiny.yaml``, with some of its keys replaced."""
    path = home / "configs" / "study" / "tiny.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({**STUDY, **changes}, sort_keys=False), encoding="utf-8")


NUM_IMAGES = 200


def right(share: float, draw: int, num_images: int = NUM_IMAGES) -> NDArray[np.float32]:
    """Scores with this share of ones; of one draw, who knows more knows all that others know."""
    found = np.zeros(num_images, np.float32)
    order = np.random.default_rng(draw).permutation(num_images)
    found[order[: round(share * num_images)]] = 1
    return found


def arm(
    name: str, after: Sequence[float], before: Sequence[float] | None = None,
    seconds: float = 2.0, validation: float | None = 0.5, scored: bool = True,
    num_images: int = NUM_IMAGES, judged_by: str = "validation_accuracy", **changes: Any,
) -> ComparedArm:  # fmt: skip
    """An arm with these shares of right answers, draw by draw."""
    extras = {} if validation is None else {judged_by: validation}
    cells = [
        ComparedCell(
            StudentResult(
                name, draw, accuracy, None if before is None else before[draw],
                cost=Cost(seconds, 100, 10, 5), extras=dict(extras),
            ),
            {"distil": Cost(1.5, 80, 8, 5), "finetune": Cost(0.5, 20, 2, 4)},
            StudentScores(
                right(accuracy, draw, num_images),
                None if before is None else right(before[draw], draw, num_images),
            ) if scored else None,
            f"weights of {name}, draw {draw}",
        )
        for draw, accuracy in enumerate(after)
    ]  # fmt: skip
    settings: dict[str, Any] = {"title": name, "words": [f"method={name}"], **changes}
    return ComparedArm(name, cells=cells, **settings)


BASE = (0.70, 0.74, 0.78)
GAIN = (0.79, 0.84, 0.89)  # 9, 10, 11 points more
BEFORE_GAIN = (0.60, 0.75, 0.80)


def comparison(**changes: Any) -> CompareData:
    """A baseline, an established gain, and an arm that says nothing."""
    values: dict[str, Any] = {
        "title": "three insects",
        "study": "insects",
        "arms": [
            arm("stl", BASE, title="Plain"),
            arm("good", GAIN, BEFORE_GAIN, title="Good"),
            arm("same", (0.71, 0.72, 0.79), (0.5, 0.55, 0.58), title="Same"),
            arm("good-9", (0.8, 0.85, 0.9), (0.7, 0.75, 0.8), title="Good, 9", listed=False),
        ],
        "baseline": "stl",
        "reference": "same",
        "pairs": [("good", "same"), ("good", "gone")],
        "sweeps": [Sweep("Line", "transfer_set.num_images", [3, 9], ["good", "good-9"])],
        "command": "genkt compare",
        "versions": {"genkt": "0.1", "date": "2026-01-01", "hardware": "a core"},
        "num_draws": 3,
        "test_ids": [f"{index}#{index:x}" for index in range(NUM_IMAGES)],
    }
    return CompareData(**{**values, **changes})
