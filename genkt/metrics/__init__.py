<<<<<<< HEAD
"""Arrays in, numbers out: intervals over draws and images, flips, agreement, LogME, Frechet."""

from genkt.metrics.intervals import (
    Design,
    ScoreInterval,
    VarianceParts,
    mean_interval,
    paired_interval,
    ratio_interval,
)
from genkt.metrics.planning import Needed, needed
from genkt.metrics.pseudo_values import (
    balanced_accuracy,
    blocked_pseudo_values,
    class_counts,
    macro_f1,
    mean_iou,
    pseudo_values,
)
from genkt.metrics.verdicts import Verdict, holm, non_inferior, span, spelled, verdict

__all__ = [
    "Design",
    "Needed",
    "ScoreInterval",
    "VarianceParts",
    "Verdict",
    "balanced_accuracy",
    "blocked_pseudo_values",
    "class_counts",
    "holm",
    "macro_f1",
    "mean_interval",
    "mean_iou",
    "needed",
    "non_inferior",
    "paired_interval",
    "pseudo_values",
    "ratio_interval",
    "span",
    "spelled",
    "verdict",
]
=======
"""Metrics on arrays: statistics over draws, flips, agreement, LogME, Frechet distance."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
>>>>>>> h/parts
