"""Reports of made-up runs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from genkt.report.transfer.report_data import (
    ModelSummary,
    ReportData,
    SplitSummary,
    TransferSample,
)
from genkt.types import Cost, Prediction, StudentResult

BASELINE = (0.70, 0.74, 0.78)
CLASSES = ("ant", "bee", "cat")
NUM_IMAGES = 200

Scores = dict[tuple[int, int], NDArray[np.float32]]


def prediction(seed: int, num_samples: int = NUM_IMAGES, num_classes: int = 3) -> Prediction:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(num_samples) % num_classes
    logits = torch.randn(num_samples, num_classes, generator=generator)
    logits[torch.arange(num_samples), labels] += 1.0
    ids = tuple(f"test/{index}" for index in range(num_samples))
    return Prediction(ids, labels, logits.softmax(dim=1))


def scores(
    shares: tuple[float, ...], *, num_images: int = NUM_IMAGES, seeds: int = 1, seed: int = 0
) -> Scores:
    """Students, one a draw and seed, that have these shares of the images right.

    Easy images are right more often, so that students agree on many.
    """
    rng = np.random.default_rng(seed)
    found = {}
    ease = np.linspace(0, 1, num_images)
    for draw, share in enumerate(shares):
        for number in range(seeds):
            order = np.argsort(ease + rng.normal(0, 0.15, num_images))
            right = np.zeros(num_images, np.float32)
            right[order[num_images - round(share * num_images) :]] = 1
            found[draw, number] = right
    return found


def cells(arm: str, scored: Scores, *, distilled: bool = False) -> list[StudentResult]:
    curve: list[dict[str, float | int | str]] = [
        {"step": step, "stage": "distil", "total": 1 / step, "validation_accuracy": 0.1 * step}
        for step in (1, 2, 4)
    ]
    return [
        StudentResult(
            arm, draw, float(each.mean(dtype=np.float64)),
            float(each.mean(dtype=np.float64)) - 0.02 if distilled else None,
            curve, Cost(2.0, 8), seed=seed,
        )
        for (draw, seed), each in scored.items()
    ]  # fmt: skip


def two_arms(stl: Scores, aft: Scores, **changes: Any) -> ReportData:
    """A run of AFT and its baseline, with these scores."""
    picture = Image.fromarray(np.full((8, 8), 200, np.uint8))
    num_images = len(next(iter(aft.values())))
    data = ReportData(
        title="three insects",
        cells=[*cells("stl", stl), *cells("aft", aft, distilled=True)],
        classes=CLASSES,
        method="aft",
        predictions={"stl": prediction(0, num_images), "aft": prediction(1, num_images)},
        scores={"stl": stl, "aft": aft},
        artifacts={"teacher": np.array([0.2, 0.6, 0.9, 0.7])},
        sample_images={f"test/{index}": picture for index in range(30)},
        transfer_samples=[TransferSample(picture, "real"), TransferSample(picture, "real", "bee")],
        transfer_composition={"real, unlabelled": 98, "real, labelled": 2},
        models=[ModelSummary("student", "tiny", 1000, 4000), ModelSummary("teacher", "big", 9000)],
        stages={"distil": Cost(3.0, 100, 10, 5_000_000)},
        splits=[SplitSummary("test", 30, (10, 10, 10))],
        skipped=[("a/broken.jpg", "truncated")],
        command="genkt transfer data=insects",
        versions={"python": "3.11", "genkt": "0.1"},
        config={"method": {"name": "aft", "betas": [3, 10]}},
        snippet="import timm",
    )
    return dataclasses.replace(data, **changes)


def report(
    gain: tuple[float, ...] = (0.09, 0.10, 0.11), *, num_images: int = NUM_IMAGES, seeds: int = 1,
    **changes: Any,
) -> ReportData:  # fmt: skip
    """The same with these gains over ``BASELINE``, by draw."""
    before = BASELINE[: len(gain)]
    after = tuple(a + g for a, g in zip(before, gain, strict=True))
    sizes = {"num_images": num_images, "seeds": seeds}
    return two_arms(scores(before, **sizes), scores(after, seed=1, **sizes), **changes)


def probabilities(num_students: int = 3, **sizes: int) -> dict[str, Scores]:
    """Of the students of both arms on the samples of ``prediction``."""
    return {
        arm: {
            (draw, 0): prediction(first + draw, **sizes).probabilities.numpy()
            for draw in range(num_students)
        }
        for arm, first in (("stl", 0), ("aft", 10))
    }
