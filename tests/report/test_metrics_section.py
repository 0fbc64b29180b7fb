"""Beyond accuracy: in report.json with intervals, and on the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refused
from report_cases import CLASSES, prediction, probabilities, report
from sklearn.metrics import balanced_accuracy_score, log_loss, recall_score

from genkt.metrics import DrawDesign, reliability
from genkt.report.kit.reliability import reliability_chart
from genkt.report.transfer.metrics_section import beyond_accuracy
from genkt.report.transfer.report_page import render
from genkt.report.transfer.write_report import build_report, report_dict
from genkt.types import Prediction


def test_an_arm_has_the_means_of_its_students(tmp_path: Path) -> None:
    shares = probabilities()
    path, _ = build_report(report(probabilities=shares), tmp_path)
    found = json.loads(path.read_text(encoding="utf-8"))
    (arm,) = (each["metrics"] for each in found["arms"] if each["arm"] == "aft")
    labels, students = np.arange(200) % 3, list(shares["aft"].values())
    answers = [each.argmax(axis=1) for each in students]
    balanced = [balanced_accuracy_score(labels, each) for each in answers]
    entry = arm["balanced_accuracy"]
    assert entry["mean_percent"] == pytest.approx(100 * np.mean(balanced))
    assert entry["low_percent"] < entry["mean_percent"] < entry["high_percent"]
    assert entry["num_draws"] == 3 and entry["varied"] == ["labels", "seeds", "images"]
    rows = [each.astype(np.float64) for each in students]
    losses = [log_loss(labels, each / each.sum(axis=1, keepdims=True)) for each in rows]
    assert arm["nll"]["mean"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert arm["nll"]["low"] < arm["nll"]["mean"] < arm["nll"]["high"]
    assert arm["auroc"] is None and arm["ece"]["low_percent"] is None  # three classes; no interval
    recalls = [recall_score(labels, each, average=None) for each in answers]
    np.testing.assert_allclose(arm["by_class"]["recall"], np.mean(recalls, axis=0))
    assert sum(arm["reliability"]["count"]) == 600
    assert arm["reliability"]["confidence"][0] is None  # less than a third: no such answer
    assert found["majority"]["class"] == "ant"
    assert found["majority"]["accuracy"] == pytest.approx(67 / 200)


def test_without_probabilities_there_are_no_other_figures() -> None:
    found = report_dict(report())
    assert {each["metrics"] for each in found["arms"]} == {None}
    assert found["majority"]["accuracy"] == pytest.approx(67 / 200)
    assert report_dict(report(predictions={}, sample_images={}))["majority"] is None
    assert 'id="metrics"' not in render(report())


def test_two_draws_have_no_interval() -> None:
    found = report_dict(report((0.1, 0.1), probabilities=probabilities(2)))
    metrics = found["arms"][1]["metrics"]
    assert metrics["macro_f1"]["low_percent"] is None and metrics["macro_f1"]["num_draws"] == 2
    assert metrics["nll"]["low"] is None and metrics["nll"]["mean"] > 0


def test_groups_of_images_widen_the_intervals() -> None:
    """Every image eight times."""
    labels, rows = np.tile(np.arange(60) % 3, 8), prediction(1, 60).probabilities
    one = Prediction(tuple(map(str, range(480))), torch.from_numpy(labels), rows.repeat(8, 1))
    widths = []
    for groups in None, [str(index % 60) for index in range(480)]:
        data = report(
            (0.1,), num_images=480, predictions={"aft": one}, design=DrawDesign(groups=groups),
            probabilities={"aft": {(0, 0): one.probabilities.numpy()}},
        )  # fmt: skip
        entry = report_dict(data)["arms"][1]["metrics"]["balanced_accuracy"]
        widths.append(entry["high_percent"] - entry["low_percent"])
    assert widths[1] == pytest.approx(widths[0] * 8**0.5, rel=0.15)


def test_the_page_has_the_figures_of_each_arm_and_of_the_most_common_class() -> None:
    data = report(probabilities=probabilities())
    text = render(data)
    assert 'id="metrics"' in text and "always “ant”" in text and "33.5" in text
    shown = beyond_accuracy(data)
    assert shown is not None and len(shown["rows"]) == 3
    assert [len(row) for row in shown["rows"]] == [len(shown["head"])] * 3
    found = report_dict(data)["arms"][1]["metrics"]
    cells = dict(zip(shown["head"], shown["rows"][1], strict=True))
    entry, loss = found["balanced_accuracy"], found["nll"]
    assert cells["balanced accuracy"].text == f"{entry['mean_percent']:.1f}"
    assert cells["balanced accuracy"].dim.startswith(f"{entry['low_percent']:.1f} to ")
    assert cells["NLL"].text == f"{loss['mean']:.2f}"
    assert cells["NLL"].dim == f"{loss['low']:.2f} to {loss['high']:.2f}"
    assert cells["ECE"].dim == ""
    recalls = [f"{100 * value:.1f}" for value in found["by_class"]["recall"]]
    assert [row[3] for row in shown["class_rows"]] == recalls
    assert [row[0] for row in shown["class_rows"]] == list(CLASSES)
    assert {len(row) for row in shown["class_rows"]} == {len(shown["class_head"])} == {6}


def test_of_many_classes_those_are_listed_that_are_found_least() -> None:
    one = prediction(1, 400, 40)
    rows = one.probabilities.numpy().copy()
    rows[:, 7] = 0  # this class is never answered
    shares = {"aft": {(0, 0): rows}}
    names = [f"c{index}" for index in range(40)]
    data = report(
        (0.1,), num_images=400, classes=names, predictions={"aft": one}, probabilities=shares
    )
    shown = beyond_accuracy(data)
    assert shown is not None and len(shown["class_rows"]) == 30
    (row,) = (row for row in shown["class_rows"] if row[0] == "c7")
    assert row[2:] == ["0.0", "–"]  # no precision of what is never answered
    assert "30 of 40 classes" in render(data)


def test_probabilities_of_other_images_are_refused() -> None:
    with refused("report", 100, 200):
        report(probabilities=probabilities(num_samples=100))


def test_the_chart_has_a_dot_for_every_bin_that_has_answers() -> None:
    curve = reliability([0.35, 0.65, 0.7, 1.0], [0, 1, 1, 1])
    text = reliability_chart([("a<b", "red", curve), ("sure", "blue", reliability([1.0], [1]))])
    assert text.count("<circle") == 4 + 1 and "a&lt;b" in text
    assert not re.search(r"nan|inf", text)
