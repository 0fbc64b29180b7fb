"""What the report shows beyond accuracy: figures by arm and by class, and a reliability curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genkt.metrics.arm_metrics import METRICS, NLL, ArmMetrics, arm_metrics
from genkt.metrics.calibration import NUM_BINS, Reliability
from genkt.metrics.classification import ClassMetrics, Majority, majority
from genkt.report.kit.entries import loss_entry, share_entry
from genkt.report.kit.reliability import reliability_chart
from genkt.report.kit.table_cells import Content, Row, TableCell
from genkt.report.transfer.arm_charts import arm_colors
from genkt.report.transfer.headline import span_text
from genkt.report.transfer.report_data import ReportData
from genkt.report.transfer.text_table import NONE

_MOST_CLASSES = 30
"""So many have a row; with more, those that the method's students find least often."""


def metrics_entry(data: ReportData, arm: str) -> dict[str, Any]:
    """The figures of an arm for report.json; null without probabilities of its students."""
    found = _of_arm(data, arm)
    return {"metrics": None if found is None else figures_entry(found)}


def figures_entry(found: ArmMetrics) -> dict[str, Any]:
    """Means with their intervals; by class in the order of the classes; the reliability curve."""
    singles = {
        name: None if mean is None else
        (loss_entry if name == NLL else share_entry)(mean, found.intervals.get(name))
        for name, mean in found.means.items()
    }  # fmt: skip
    by_class = {
        "precision": _known(found.precision),
        "recall": _known(found.recall),
        "f1": _known(found.f1),
    }
    return singles | {"by_class": by_class, "reliability": reliability_entry(found.reliability)}


def reliability_entry(found: Reliability) -> dict[str, Any]:
    """Of equal bins of confidence from 0 to 1; null where a bin has no answer."""
    return {
        "count": found.count.tolist(),
        "confidence": _known(found.confidence),
        "accuracy": _known(found.accuracy),
    }


def _known(values: NDArray[np.float64]) -> list[float | None]:
    """None in place of NaN, which is no JSON."""
    return [None if np.isnan(value) else float(value) for value in values]


def majority_entry(data: ReportData) -> dict[str, Any] | None:
    """The most common class of the test images as the answer to all of them."""
    found = _majority(data)
    return None if found is None else one_answer_entry(found, data.classes)


def one_answer_entry(found: Majority, classes: Sequence[str]) -> dict[str, Any]:
    """Its class and its figures, shares 0..1."""
    return {"class": classes[found.label], **_answered(found.by_class)}


def beyond_accuracy(data: ReportData) -> dict[str, Any] | None:
    """Values of ``templates/transfer/metrics.html``; None without probabilities."""
    arms = {arm: found for arm in data.arms if (found := _of_arm(data, arm)) is not None}
    common = _majority(data)
    if not arms or common is None:
        return None
    colors = arm_colors(data.arms, data.baseline, data.method)
    names = [
        name for name in METRICS if any(each.means[name] is not None for each in arms.values())
    ]
    rows = [
        [TableCell(data.name_of(arm), dot=colors[arm]), *(_cell(found, name) for name in names)]
        for arm, found in arms.items()
    ]
    shares = _answered(common.by_class)
    always = TableCell(f"always “{data.classes[common.label]}”", dim="most common class")
    rows.append([always, *(f"{100 * shares[n]:.1f}" if n in shares else NONE for n in names)])
    shown = [arm for arm in (data.baseline, data.method) if arm in arms]
    shown = list(dict.fromkeys(shown)) or list(arms)[-1:]
    curves = [(data.name_of(arm), colors[arm], arms[arm].reliability) for arm in shown]
    return {
        "head": ["In %", *(METRICS[name] for name in names)],
        "rows": rows,
        "num_bins": NUM_BINS,
        "chart": reliability_chart(curves),
        "several": len(data.cells) > len(data.arms),
        "num_classes": len(data.classes),
        **_class_table(data, common.by_class.images, {arm: arms[arm] for arm in shown}),
    }


def _of_arm(data: ReportData, arm: str) -> ArmMetrics | None:
    labels, students = _labels(data), data.probabilities.get(arm)
    if labels is None or not students:
        return None
    return arm_metrics(labels, students, data.design)


def _majority(data: ReportData) -> Majority | None:
    labels = _labels(data)
    return None if labels is None else majority(labels, len(data.classes))


def _labels(data: ReportData) -> NDArray[np.int64] | None:
    """[N] of the test images; None where there are no predictions."""
    first = next(iter(data.predictions.values()), None)
    if first is None or not first.ids:
        return None
    return np.asarray(first.labels.cpu().numpy(), np.int64)


def _answered(found: ClassMetrics) -> dict[str, float]:
    return {
        "accuracy": found.accuracy,
        "balanced_accuracy": found.balanced_accuracy,
        "macro_f1": found.macro_f1,
    }


def _cell(found: ArmMetrics, name: str) -> Content:
    mean, interval = found.means[name], found.intervals.get(name)
    if mean is None:
        return NONE
    return TableCell(metric_text(name, mean), dim=span_text(interval))


def metric_text(name: str, mean: float) -> str:
    """ "93.9" in percent, of the NLL "0.21"."""
    return f"{mean:.2f}" if name == NLL else f"{100 * mean:.1f}"


def _class_table(
    data: ReportData, images: NDArray[np.int64], arms: Mapping[str, ArmMetrics]
) -> dict[str, Any]:
    """Recall and precision of each class, the baseline beside the method."""
    order = np.arange(len(data.classes))
    if len(order) > _MOST_CLASSES:
        found = list(arms.values())[-1].recall
        order = np.sort(np.argsort(np.nan_to_num(found, nan=np.inf), kind="stable")[:_MOST_CLASSES])
    head = ["class", "test images"]
    for kind in ("recall", "precision"):
        head += [f"{kind}, {data.name_of(arm)}" for arm in arms]
    rows: list[Row] = []
    for label in map(int, order):
        row: list[Content] = [data.classes[label], f"{images[label]:,}"]
        for kind in ("recall", "precision"):
            row += [_share(getattr(found, kind)[label]) for found in arms.values()]
        rows.append(row)
    return {"class_head": head, "class_rows": rows}


def _share(value: float) -> str:
    return NONE if np.isnan(value) else f"{100 * value:.1f}"
