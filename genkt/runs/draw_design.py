"""What varies between the students of a run: their labels, or only their seeds."""

from __future__ import annotations

import numpy as np

from genkt.config.data_settings import DataSettings
from genkt.data.splits import Splits
from genkt.metrics.scored_arms import DrawDesign
from genkt.runs.pool import Draw


def draw_design(data: DataSettings, splits: Splits, draw: Draw) -> DrawDesign:
    """How the labels of a run's draws were chosen, for the intervals of its report.

    The share of the pool is the mean over the classes of how much of a class a draw takes. Where
    every draw has the same labels, because all are used or a list names them, none is told.

    Args:
        draw: any of the run.
    """
    counts = splits.train.class_counts()
    taken = np.bincount(draw.labels[draw.labelled], minlength=len(counts))
    shares = [
        number / available
        for number, available in zip(taken.tolist(), counts.values(), strict=True)
        if available
    ]
    if data.label_list is not None or min(shares) == 1:
        return DrawDesign(labels_vary=False)
    return DrawDesign(pool_share=float(np.mean(shares)))
