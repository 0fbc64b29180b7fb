"""``plan=auto``: derived once, written down, followed, and behind the user's own words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from refusals import refused
from tiny import DATA, model_words, run, tree, write_images

from genkt.cli.auto import Decided, decided
from genkt.config.read_config import read_config
from genkt.config.transfer_settings import TransferConfig
from genkt.data.builtin.digits import digits
from genkt.transfers import auto_method
from genkt.transfers.plan_file import read_plan, write_plan

FEW = (
    "device=cpu", "train.steps=4", "draws=1", "train.batch_size=12", "train.log_every=1",
    "train.num_workers=0", "adapt.steps=2", "plan=auto",
)  # fmt: skip


def words(home: Path, *more: str) -> list[str]:
    """Without a method, so that the plan chooses one."""
    if not (home / "images").is_dir():
        write_images(home / "images")
    models = [*model_words("student"), *model_words("teacher")]
    places = [f"data.root={home / 'images'}", f"cache={home / 'cache'}", f"out={home / 'run'}"]
    return [*DATA, *models, *FEW, *places, *more]


def test_a_run_writes_its_plan_and_follows_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = run("transfer", *words(tmp_path))
    assert ran.code == 0, ran.err
    plan = tmp_path / "run" / "plan.yaml"
    found = {each.key: each.value for each in read_plan(plan)}
    assert found["method"] == "logit_kd" and found["transfer_set"] == "unlabelled"
    assert found["train.labelled_per_batch"] == "3" and found["finetune.steps"] == "0"
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["config"]["train"]["lr"] == float(found["train.lr"])
    assert any("plan.yaml" in note for note in report["notes"])
    monkeypatch.setattr(auto_method, "plan_facts_of", None)  # the facts are not asked again
    assert run("transfer", *words(tmp_path)).code == 0
    given = ("plan=" + str(plan), f"out={tmp_path / 'other'}")
    other = decided(words(tmp_path, *given))
    assert other.words[: len(found)] == [f"{key}={value}" for key, value in found.items()]


def test_data_of_your_own_have_a_plan_unless_you_say_otherwise(tmp_path: Path) -> None:
    own = [word for word in words(tmp_path) if word != "plan=auto"]
    found = decided(own)
    assert found.plan == decided(words(tmp_path)).plan and found.words[-len(own) :] == own
    assert len(found.told) == 1 and "plan.yaml" in found.told[0]
    for without in (["plan=off"], ["smoke=true"], ["-m", "seed=1,2"]):
        assert decided([*own, *without]) == Decided([*own, *without])
    assert decided(["data=digits"]) == Decided(["data=digits"])
    assert decided([*own, "method=stl"]).told == ()  # nothing to derive, and nobody has asked


def test_a_run_that_was_begun_without_a_plan_goes_on_without(tmp_path: Path) -> None:
    own = [word for word in words(tmp_path, "method=logit_kd", "train.labelled_per_batch=3")
           if word != "plan=auto"]  # fmt: skip
    assert run("transfer", *own, "plan=off").code == 0
    before = tree(tmp_path / "run" / "student")
    again = run("transfer", *own)
    assert again.code == 0 and "plan=auto" not in again.err
    assert tree(tmp_path / "run" / "student") == before
    assert not (tmp_path / "run" / "plan.yaml").exists()
    assert decided([*own, "overwrite=true"]).plan


def test_an_edited_plan_is_run(tmp_path: Path) -> None:
    plan = tmp_path / "mine.yaml"
    plan.write_text("train.lr: {value: 1e-3}\ndraws: {value: 2, why: two are enough}\n")
    found = decided(words(tmp_path, f"plan={plan}"))
    assert found.words[0] == "train.lr=1e-3" and "draws=2" not in found.words  # draws=1 is given
    plan.write_text("train.lr: 1e-3\n")
    with refused("value"):
        decided(words(tmp_path, f"plan={plan}"))
    with refused("plan.yaml"):
        decided(words(tmp_path, "plan=nowhere.yaml"))


def test_an_estimate_gives_every_reason(tmp_path: Path) -> None:
    found = decided(words(tmp_path, "dry_run=true"))
    lines = [line for line in found.told if line.startswith("  ")]
    assert len(lines) == len(found.plan) > 5
    assert all(
        each.word in line and each.why in line for each, line in zip(found.plan, lines, strict=True)
    )


@pytest.mark.parametrize(
    ("student", "is_there"),
    [("resnet18", True), ("convnext_atto", False), ("vit_tiny_patch16_224", False)],
)
def test_batch_norm_is_seen_whatever_the_size_of_the_map(student: str, is_there: bool) -> None:
    given = ["data=digits", f"student={student}", "student.pretrained=false"]
    config = read_config(TransferConfig, "transfer", given)
    facts = auto_method.plan_facts_of(config, digits())
    assert (facts.batch_norm, facts.pretrained) == (is_there, False)
    assert facts.labelled == 20 and facts.transfer > 500


def test_built_in_data_and_experiments_keep_their_settings(tmp_path: Path) -> None:
    for given in (["data=digits", "plan=auto"], words(tmp_path, "experiment=quick")):
        found = decided(given)
        assert found.words == given and found.plan == () and "nothing to derive" in found.told[0]


def test_without_it_nothing_is_read() -> None:
    assert decided(["data=nowhere", "plan=off"]).splits is None


def test_a_plan_in_a_file_comes_before_the_one_in_the_folder(tmp_path: Path) -> None:
    planned = decided(words(tmp_path)).plan
    write_plan(tmp_path / "run", planned)
    mine = tmp_path / "mine.yaml"
    mine.write_text("train.lr: {value: 1e-3}\n")
    assert decided(words(tmp_path, f"plan={mine}")).words[0] == "train.lr=1e-3"
    assert decided(words(tmp_path)).words[: len(planned)] == [each.word for each in planned]


def test_of_a_plan_for_another_method_the_rest_is_followed(tmp_path: Path) -> None:
    planned = decided(words(tmp_path)).plan
    write_plan(tmp_path / "run", planned)
    found = decided(words(tmp_path, "method=aft"))
    keys = {each.key for each in planned} - {"method", "method.temperature"}
    assert {each.key for each in found.plan} == keys and len(keys) > 3
    assert read_config(TransferConfig, "transfer", found.words).main_arm == "aft"
    assert any("method.temperature" in line for line in found.told)
    same = decided(words(tmp_path, "method=logit_kd"))
    assert "method.temperature=2" in same.words


def test_a_mistake_in_a_plan_is_no_matter_of_the_method(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("train.lrr: {value: 1e-3}\n")
    with refused("train.lrr"):
        decided(words(tmp_path, "method=aft", f"plan={mine}"))


def test_a_written_plan_is_told_with_its_reasons(tmp_path: Path) -> None:
    planned = decided(words(tmp_path)).plan
    write_plan(tmp_path / "run", planned)
    told = decided(words(tmp_path, "dry_run=true")).told
    assert all(any(each.why in line for line in told) for each in planned)


def test_a_smoke_run_follows_a_written_plan_and_derives_none(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("train.lr: {value: 1e-3}\n")
    assert "train.lr=1e-3" in decided(words(tmp_path, "smoke=true", f"plan={mine}")).words
    with refused("smoke=true"):
        decided(words(tmp_path, "smoke=true"))
