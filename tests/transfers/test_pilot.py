"""A pilot decides what is open: once, without a test image, and as if its numbers were typed in."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from stage_cases import run_and_interrupt
from tiny import run, student_bits, transfer_words

from genkt.cli.app import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.images import ImageSet
from genkt.runs.run_folder import RunFolder
from genkt.stages.beta_search import best_value
from genkt.transfers import decide_run
from genkt.transfers.decide_run import provisional
from genkt.transfers.make_sets import with_sets
from genkt.transfers.open_run import open_run
from genkt.transfers.phases import RunWithSets
from genkt.transfers.pilot import PilotRun
from genkt.transfers.pilot_file import (
    HOME,
    PILOT,
    Measured,
    Measurement,
    Pilot,
    read_pilot,
    write_pilot,
)
from genkt.types import Cost

OPEN = ["train.steps=auto", "train.lr=auto", "plain.lr=auto", "draws=auto"]
ALONE = [*OPEN[:-1], "draws=1"]
SMALL = ["pilot.rates=[0.003,0.03]", "pilot.least_steps=2", "pilot.most_steps=8"]
RUN = ["transfer_set=unlabelled", "finetune.steps=1", "executor=inline", "seed=3"]


def words(home: Path, *more: str) -> list[str]:
    own = [word for word in transfer_words(home) if word not in ("draws=1", "train.steps=4")]
    return [*own, *RUN, *more]


def pilot_of(home: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((home / "run" / PILOT).read_text())
    return found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run where all but the draws was open."""
    home = tmp_path_factory.mktemp("pilot")
    ran = run(*words(home, *ALONE, *SMALL))
    assert ran.code == 0, ran.err
    return home


def piloted(home: Path, *more: str) -> tuple[RunWithSets, TransferConfig]:
    """A run that is opened for its pilot; what it reads may still be changed."""
    config = read_config(TransferConfig, "transfer", words(home, *SMALL, *more)[1:])
    folder = RunFolder(config.out, asdict(config), overwrite=False)
    return with_sets(open_run(provisional(config), folder)), config


def decided(run: RunWithSets, config: TransferConfig) -> Pilot:
    return PilotRun(run, config, 0.0).decide()


def test_a_run_on_auto_equals_the_run_with_its_numbers(finished: Path, tmp_path: Path) -> None:
    values = pilot_of(finished)["values"]
    assert values.keys() == {"train.steps", "train.lr", "plain.lr"}
    typed = ["draws=1", *(f"{key}={value}" for key, value in values.items())]
    ran = run(*words(tmp_path, *typed, f"data.root={finished / 'images'}"))
    assert ran.code == 0, ran.err
    assert student_bits(tmp_path) == student_bits(finished)


def test_the_report_has_numbers_cost_and_reasons(finished: Path) -> None:
    report = json.loads((finished / "run" / "report.json").read_text())
    pilot = pilot_of(finished)
    assert report["config"]["train"]["steps"] == pilot["values"]["train.steps"]
    assert any(note.startswith("Pilot: train.lr=") for note in report["notes"])
    budgets = {arm["arm"]: arm["budget"] for arm in report["arms"]}
    for arm, cost in (("logit_kd", "student"), ("stl", "baseline")):
        assert budgets[arm]["search_seconds"] == pytest.approx(pilot[cost]["seconds"])
        assert pilot[cost]["steps"] > 0


def test_a_pilot_that_was_killed_goes_on_to_the_same(finished: Path, tmp_path: Path) -> None:
    again = words(tmp_path, *ALONE, *SMALL, f"data.root={finished / 'images'}")
    again += ["train.save_seconds=0"]
    for stage, count in (("rate-0.03", 1), ("rate-0.003", 1)):
        assert run_and_interrupt(again, stage, count).code == 130
        assert not (tmp_path / "run" / PILOT).exists()
    assert run(*again).code == 0
    ours, theirs = pilot_of(tmp_path), pilot_of(finished)
    for key in ("rates", "curve", "held_out"):
        assert ours[key] == theirs[key]
    assert student_bits(tmp_path) == student_bits(finished)


def test_stored_values_win_over_a_new_measurement(finished: Path, tmp_path: Path) -> None:
    again = words(tmp_path, *ALONE, *SMALL, f"data.root={finished / 'images'}")
    assert run_and_interrupt(again, "finetune", 1).code == 130
    before = (tmp_path / "run" / PILOT).read_bytes()
    with patch.object(decide_run, "_new", side_effect=AssertionError("a second pilot")):
        assert run(*again).code == 0
    assert (tmp_path / "run" / PILOT).read_bytes() == before


def test_a_damaged_pilot_is_told_and_removed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pilot = Pilot(
        {"train.steps": 250, "train.lr": 0.006}, ("why",), "more", 160, ((0.006, 0.5),),
        ((250, 0.75),), Cost(1.5, 10, 5), Cost(), labels=True,
    )  # fmt: skip
    write_pilot(tmp_path, pilot)
    assert read_pilot(tmp_path) == pilot
    path = tmp_path / PILOT
    path.write_text(path.read_text().replace("250", "251"))
    assert read_pilot(tmp_path) is None and not path.exists()
    assert "the pilot is run again" in caplog.text


class Unread:
    """An opener of pictures that must not be looked at."""

    def __call__(self, sample_id: str, item: int) -> Any:
        raise AssertionError(f"{sample_id} was read")


def unread(images: ImageSet) -> ImageSet:
    return images.replaced(open_item=Unread())


def test_no_test_image_is_read(tmp_path: Path) -> None:
    opened, config = piloted(tmp_path, *OPEN)
    splits = opened.pool.splits
    hidden = replace(splits, test=unread(splits.parts["test"]))
    images = replace(opened.images, splits=replace(opened.images.splits, test=hidden.test))
    found = replace(
        opened,
        images=images,
        pool=replace(opened.pool, splits=hidden),
        teachers=replace(opened.teachers, images=images),
    )
    assert decided(found, config).values.keys() == {"train.steps", "train.lr", "plain.lr", "draws"}
    with pytest.raises(AssertionError, match="was read"):  # so the test would notice
        images.predictions(found.opened.fresh_student(), "test")


def test_the_students_rate_and_steps_read_no_validation_image(tmp_path: Path) -> None:
    opened, config = piloted(tmp_path, "train.steps=auto", "train.lr=auto")
    validation = opened.images.splits.validation
    assert validation is not None
    splits = replace(opened.images.splits, validation=unread(validation))
    images = replace(opened.images, splits=splits)
    found = replace(opened, images=images, teachers=replace(opened.teachers, images=images))
    pilot = decided(found, config)
    assert len(pilot.rates) == 2 and len(pilot.curve) > 1 and not pilot.labels


@pytest.mark.parametrize("validation", ["images", "none"])
def test_the_baseline_tries_as_many_rates_for_as_many_steps(
    validation: str, tmp_path: Path
) -> None:
    open_ = ["train.lr=auto", "plain.lr=auto", "train.steps=200", "draws=5"]
    bounds = ["pilot.least_steps=100", "pilot.most_steps=100", "train.batch_size=6"]
    opened, config = piloted(tmp_path, *open_, *bounds, f"validation={validation}")
    with patch("genkt.stages.arms.best_value", wraps=best_value) as search:
        pilot = decided(opened, config)
    assert search.call_args.args[1] == [rate for rate, _ in pilot.rates]
    assert pilot.student.steps == pilot.baseline.steps == 100
    assert pilot.labels == (validation == "images")


def test_the_student_does_not_learn_from_what_it_is_asked(tmp_path: Path) -> None:
    from genkt.stages.held_out import held_exam

    opened, _ = piloted(tmp_path, "train.lr=auto")
    draw = opened.pool.draws[0]
    exam = held_exam(opened.images, opened.pool, draw)
    asked = set(exam.images.splits.parts["test"].ids)
    rows = np.union1d(exam.draw.labelled, exam.draw.transfer)
    assert asked and asked.isdisjoint(exam.draw.images.ids[row] for row in rows)
    assert asked <= {draw.images.ids[row] for row in np.union1d(draw.labelled, draw.transfer)}
    assert exam.images.splits.validation is None


def test_short_runs_try_no_rates_and_say_so(tmp_path: Path) -> None:
    opened, config = piloted(tmp_path, "train.lr=auto", "train.steps=4", "draws=1")
    pilot = decided(opened, config)
    assert pilot.values == {"train.lr": 0.003} and not pilot.student.steps
    assert "no rate was tried" in pilot.reasons[0]


def test_minutes_that_no_run_fits_into_are_refused(tmp_path: Path) -> None:
    ran = run(*words(tmp_path, "minutes=0.001", "draws=3", *SMALL))
    assert ran.code == 2 and "minutes: expected at least" in ran.err


def test_a_method_without_logits_is_judged_too(tmp_path: Path) -> None:
    opened, config = piloted(tmp_path, "train.lr=auto", "train.steps=auto", "method=aft")
    pilot = decided(opened, config)
    assert len(pilot.rates) == 2 and 0 <= pilot.rates[0][1] <= 1


def test_a_dry_run_gives_the_longest_and_the_shortest_run(tmp_path: Path) -> None:
    ran = run(*words(tmp_path, *OPEN, *SMALL, "dry_run=true"))
    assert ran.code == 0, ran.err
    assert "5 draws x 2 arms, 9 steps each" in ran.out  # 8 and one of fine-tuning
    assert "3 draws of 3 steps" in ran.out
    assert not (tmp_path / "run").exists()


def test_a_comparison_needs_a_number_of_draws_and_decides_the_rest(tmp_path: Path) -> None:
    own = words(tmp_path, "train.steps=auto", *SMALL, "methods=[logit_kd]", "baseline=false")
    rest = [word for word in own[1:] if word.partition("=")[0] != "out"]
    refused_ = run("compare", *rest, "draws=auto", f"out={tmp_path / 'compared'}")
    assert refused_.code == 2 and refused_.lines == [
        "genkt compare: draws: expected a number, which all arms share, got auto"
    ]


def test_time_for_the_baselines_trials_is_kept_free(tmp_path: Path) -> None:
    opened, config = piloted(tmp_path, "plain.lr=auto", "minutes=10", "draws=3")
    pilot = PilotRun(opened, config, time.perf_counter())
    pilot.per_step = 1.0
    before = pilot._clock().left
    pilot.values["plain.lr"] = 0.003
    after = pilot._clock().left
    assert before is not None and after is not None
    assert after - before == pytest.approx(2 * pilot.length, abs=0.5)  # two rates


def test_damaged_measurements_start_the_pilot_over(tmp_path: Path) -> None:
    kept = Measured(tmp_path, enabled=True)
    kept.add("rate-0.1 4", Measurement(Cost(1.0, 8, 4), (1.0, 0.0)))
    assert Measured(tmp_path, enabled=True).known == kept.known
    state = tmp_path / HOME / "rate-0.1" / "state.pt"
    state.parent.mkdir()
    state.touch()
    (tmp_path / HOME / "measured.json").write_text("{")
    assert not Measured(tmp_path, enabled=True).known and not state.exists()
