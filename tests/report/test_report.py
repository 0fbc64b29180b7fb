"""The report: honest sentences, complete JSON, a page that is whole, safe and light."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from refusals import refused
from report_cases import BASELINE, CLASSES, NUM_IMAGES, cells, prediction, report, scores

from genkt.report.kit.axes import spread, ticks
from genkt.report.kit.lines import over_draws, stage_ends, unroll
from genkt.report.kit.sheets import Tile, contact_sheet, pick_samples, sample_groups
from genkt.report.transfer.report_data import NearCopyRow
from genkt.report.transfer.report_page import render
from genkt.report.transfer.write_report import (
    SCHEMA_VERSION,
    ModelSummary,
    ReportData,
    SplitSummary,
    TransferSample,
    build_report,
    report_dict,
)
from genkt.types import Cost, StudentResult

VOID = {"meta", "br", "img", "input", "link"}


def test_near_copies_of_test_images_are_listed_and_shown_in_pairs(tmp_path: Path) -> None:
    both = (Image.new("L", (8, 8), 90), Image.new("L", (8, 8), 91))
    rows = [
        NearCopyRow(
            f"test/{n}.png", part, f"{part}/<{n}>.png", 1 - n / 1000, both if n < 2 else None
        )
        for n, part in enumerate(["train", "unlabelled", "train"])
    ]
    data = report(near_copies=[*rows, replace(rows[0], part="validation")])
    found = report_dict(data)["near_copies"]
    assert found["num_test_images"] == 3
    assert found["parts"] == {"train": 2, "unlabelled": 1, "validation": 1}
    assert found["pairs"][1] == {
        "test": "test/1.png", "part": "unlabelled", "image": "unlabelled/<1>.png",
        "likeness": 0.999,
    }  # fmt: skip
    build_report(data, tmp_path)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "unlabelled/&lt;1&gt;.png" in text and "99.9" in text and "3 of 4 pairs" in text
    assert report_dict(report())["near_copies"] is None
    assert report_dict(report(near_copies=()))["near_copies"]["pairs"] == []
    for nothing in (report(), report(near_copies=())):
        build_report(nothing, tmp_path)
        assert 'id="near"' not in (tmp_path / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Checks that tags nest and collects what a browser would fetch or run."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not [name for name, _ in attrs if name.startswith("on")]
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_json_is_strict_complete_and_has_stable_keys(tmp_path: Path) -> None:
    json_path, _ = build_report(report((0.1,)), tmp_path)

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    found = json.loads(json_path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert found["schema_version"] == SCHEMA_VERSION
    bare = ReportData("bare", cells("aft", scores((0.5,))), CLASSES, "aft")
    assert found.keys() == report_dict(bare).keys()
    arm = found["arms"][1]
    assert arm["arm"] == "aft" and arm["accuracy"]["num_draws"] == 1
    assert arm["difference"]["mean_points"] == pytest.approx(10)
    assert found["cells"][0]["curve"][0]["validation_accuracy"] == 0.1
    answers = found["predictions"]["arms"]["aft"]
    assert sum(answers["confusion_count"]) == NUM_IMAGES
    assert found["skipped"] == [{"path": "a/broken.jpg", "reason": "truncated"}]
    assert found["artifacts"]["teacher"]["values"] == [0.2, 0.6, 0.9, 0.7]


def test_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    _, html_path = build_report(report(), tmp_path)
    text = html_path.read_text(encoding="utf-8")
    page = Page(text)
    assert "script" not in page.tags and "link" not in page.tags
    assert all(target.startswith("#") for target in page.fetched)
    assert not re.search(r"url\((?!data:image/webp;base64,)", text)
    for target in page.fetched:
        assert f'id="{target[1:]}"' in text
    words = " ".join(page.texts)
    for expected in ("Learning curves", "Gained and lost", "Teacher features", "a/broken.jpg",
                     "method.betas=[3, 10]", "genkt transfer data=insects", "import timm",
                     "75 %"):  # fmt: skip
        assert expected in words


def test_hostile_text_stays_text() -> None:
    evil = '<script>alert("x")</script>\u202e\x00\udcff'
    image = Image.new("RGB", (8, 8))
    data = report(
        title=evil,
        classes=(evil, evil + "'", "</style><b>"),
        arm_names={"aft": evil, "stl": evil},
        artifacts={evil: np.array([0.1, 0.9])},
        transfer_samples=[TransferSample(image, evil, evil, '" onmouseover="x')],
        transfer_composition={evil: 3},
        models=[ModelSummary("teacher", evil, 3, accuracy=0.9)],
        stages={evil: Cost(1.0)},
        splits=[SplitSummary(evil, 3)],
        skipped=[(evil, evil)],
        command=evil,
        versions={evil: evil, "date": evil, "genkt": evil},
        config={evil: {evil: evil}},
        snippet=evil,
        notes=[evil],
        curves={"total": evil},
    )
    text = render(data)
    page = Page(text)
    assert "script" not in page.tags
    assert "\u202e" not in text and "\x00" not in text
    assert "".join(page.texts).count("<script>") > 10


def test_hostile_names_can_be_written(tmp_path: Path) -> None:
    for path in build_report(report(skipped=[("bad\udcff.jpg", "bad\udcff")]), tmp_path):
        assert "bad" in path.read_text(encoding="utf-8")


def test_many_classes_and_large_pictures_stay_light() -> None:
    generator = np.random.default_rng(0)
    pictures = [
        Image.fromarray(generator.integers(0, 255, (300, 400, 3), dtype=np.uint8))
        for _ in range(60)
    ]
    one = prediction(0, 4000, 1000)
    data = report(
        classes=[f"class number {index}" for index in range(1000)],
        predictions={"stl": one, "aft": prediction(1, 4000, 1000)},
        scores={},
        sample_images=dict(zip(one.ids, pictures, strict=False)),
        transfer_samples=[TransferSample(picture, "synthesized") for picture in pictures],
        artifacts={"teacher": generator.random(50_000)},
        skipped=[(f"broken/{index}.jpg", "truncated") for index in range(5000)],
    )
    text = render(data)
    assert len(text.encode()) < 3_000_000
    assert "4,900 more" in text
    Page(text)


def test_sheet_shows_the_pictures_it_was_given() -> None:
    shades = (10, 120, 250)
    images = [Image.new("RGB", (32, 32), (shade, 0, 0)) for shade in shades]
    html = contact_sheet([Tile(image, f"no {index}") for index, image in enumerate(images)], "x")
    match = re.search(r"base64,([A-Za-z0-9+/=]+)", html)
    assert match is not None
    with Image.open(io.BytesIO(base64.b64decode(match[1]))) as sheet:
        assert sheet.size == (96, 32)
        seen = [sheet.convert("RGB").getpixel((16 + 32 * index, 16)) for index in range(3)]
    assert seen == [(shade, 0, 0) for shade in shades]
    assert re.findall(r"background-position:([\d.]+)%", html) == ["0.000", "50.000", "100.000"]


def test_picked_samples_are_flips_and_confident_errors() -> None:
    student, baseline = prediction(1, 30), prediction(0, 30)
    groups = sample_groups(student, baseline)
    assert sorted(np.concatenate(list(groups.values())).tolist()) == list(range(30))
    right = (student.predicted == student.labels).numpy()
    assert right[groups["gained"]].all() and not right[groups["lost"]].any()
    picked = pick_samples(student, baseline, num_each=1)
    assert picked == pick_samples(student, baseline, num_each=1)
    assert len(picked) == sum(1 for rows in groups.values() if len(rows))
    confidence = student.probabilities.max(dim=1).values.numpy()
    worst = groups["wrong"][confidence[groups["wrong"]].argmax()]
    assert worst in picked


def test_stages_that_count_from_zero_are_chained() -> None:
    curve = [
        {"step": 10, "stage": "distil"},
        {"step": 20, "stage": "distil"},
        {"step": 10, "stage": "finetune"},
    ]
    assert [step for step, _, _ in unroll(curve)] == [10, 20, 30]
    assert stage_ends([StudentResult("aft", 0, 0.5, curve=curve)]) == [(20, "distil", "finetune")]
    running = [{"step": step, "stage": "distil"} for step in (10, 20, 20, 30)]
    assert [step for step, _, _ in unroll(running)] == [10, 20, 20, 30]


def test_curves_average_over_the_steps_all_draws_have() -> None:
    first = StudentResult(
        "aft", 0, 0.5, curve=[{"step": 0, "total": 0.0}, {"step": 4, "total": 4.0}]
    )
    second = StudentResult(
        "aft", 1, 0.5, curve=[{"step": 0, "total": 2.0}, {"step": 2, "total": 2.0}]
    )
    line = over_draws([first, second], "total", name="AFT", color="red", scale=1.0)
    assert line is not None
    assert line.x.tolist() == [0, 2]
    assert line.mean.tolist() == [1, 2]
    assert (line.low.tolist(), line.high.tolist()) == ([0, 2], [2, 2])
    assert over_draws([first], "absent", name="AFT", color="red", scale=1.0) is None


def test_axis_helpers() -> None:
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    placed = spread([50, 51, 52, 0], 10, 0, 100)
    assert np.diff(np.sort(placed)).min() >= 10 - 1e-9
    assert min(placed) >= 0 and max(placed) <= 100


def test_parts_that_do_not_belong_together_are_refused() -> None:
    with refused("atf"):
        report(method="atf")
    with refused(3, 2):
        report(classes=("ant", "bee"))
    with refused("report"):
        report(predictions={"stl": prediction(0), "aft": prediction(1, 27)})
    with refused("report"):
        report(cells=cells("aft", scores(BASELINE)) * 2)
    with refused("report", NUM_IMAGES, 27):
        report(scores={"aft": scores(BASELINE, num_images=27)})
