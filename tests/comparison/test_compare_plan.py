"""An arm with ``plan=auto``: derived before it starts, written beside it, followed afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from compare_cases import STUDY
from tiny import DATA, model_words, run, write_images

from genkt.cli.compare import read_comparison
from genkt.transfers import auto_method
from genkt.transfers.plan_file import read_plan

FEW = (
    "device=cpu", "train.steps=4", "draws=1", "train.batch_size=12", "train.log_every=1",
    "train.num_workers=0", "adapt.steps=2", "finetune.steps=1", "executor=inline",
)  # fmt: skip


def words(home: Path) -> list[str]:
    if not (home / "images").is_dir():
        write_images(home / "images")
    arms = {
        "stl": ["method=stl", "train.labelled_per_batch=4"],
        "fixed": ["train.labelled_per_batch=4"],
        "bare": ["plan=auto"],
    }
    study = {**STUDY, "arms": arms, "reference": "stl", "pairs": [], "words": []}
    (home / "conf" / "study").mkdir(parents=True, exist_ok=True)
    (home / "conf" / "study" / "planned.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    places = [f"data.root={home / 'images'}", f"cache={home / 'cache'}", f"out={home / 'out'}"]
    models = [*model_words("student"), *model_words("teacher")]
    return ["--config-dir", str(home / "conf"), "study=planned", *DATA, *models, *FEW, *places]


def test_an_arm_takes_the_plan_of_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stl, fixed, bare = read_comparison(words(tmp_path)).arms
    assert not stl.plan and not fixed.plan and bare.plan
    assert bare.config.train.labelled_per_batch == 3 != fixed.config.train.labelled_per_batch
    assert "train.labelled_per_batch=3" in bare.command  # repeats the arm without looking at data
    ran = run("compare", *words(tmp_path))
    assert ran.code == 0, ran.err
    folder = tmp_path / "out" / "arms" / "bare"
    assert {each.key for each in read_plan(folder / "plan.yaml")} == {p.key for p in bare.plan}
    report = json.loads((folder / "report.json").read_text())
    assert report["config"]["train"]["labelled_per_batch"] == 3
    monkeypatch.setattr(auto_method, "plan_facts_of", None)  # the facts are not asked again
    again = read_comparison(words(tmp_path)).arms[2]
    assert again.config == bare.config
