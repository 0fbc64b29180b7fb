"""Transfer sets that a run makes itself, or that ``genkt synthesize`` made: end to end."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import run, transfer_words, tree
from tiny_generator import save_tiny_generator, tiny_vqgan

import genkt.transfers.synthesized_sets as generated
from genkt.cli.app import read_config
from genkt.config.synthesis_settings import FilterSettings, IrfSettings, SynthesisSettings
from genkt.config.transfer_settings import TransferConfig
from genkt.data.images import concat
from genkt.generative.generator import load_generator
from genkt.readers.folders import read_folder
from genkt.runs.pool import Draw, build_pool, load_splits
from genkt.synthesis.synthesize_set import run_synthesis
from genkt.transfer_set.composition import TransferSet, read_transfer_set
from genkt.transfer_set.set_files import ImageFiles

NUM_MADE = 26
"""Images a draw makes: six labelled ones, four completions each, and a second round begins."""


def digg_words(home: Path, *more: str) -> list[str]:
    """``genkt transfer transfer_set=digg`` on two draws with a set each."""
    generator = home / "generator"
    if not generator.is_dir():
        save_tiny_generator(generator)
    words = ["transfer_set=digg", f"transfer_set.generator={generator}", "draws=2"]
    return transfer_words(home, *words, f"transfer_set.num_images={NUM_MADE}", *more)


def report_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return found


def draws_of(words: list[str]) -> tuple[Draw, ...]:
    """The label draws of a command."""
    config = read_config(TransferConfig, "transfer", words[1:])
    return build_pool(config, load_splits(config.data, config.seed)).draws


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the finished run ``run``; only read."""
    home = tmp_path_factory.mktemp("digg home")
    ran = run(*digg_words(home))
    assert ran.code == 0, ran.err
    return home


def test_a_draw_knows_nothing_but_its_own_labelled_images(made: Path) -> None:
    for draw in draws_of(digg_words(made)):
        labelled = {draw.images.ids[row] for row in draw.labelled}
        found = read_transfer_set(made / "run" / "transfer_sets" / str(draw.index))
        assert {record.parent for record in found.records()} == labelled
        assert len(found) == NUM_MADE and (found.images.labels == -1).all()


def test_the_report_shows_sources_beside_what_was_made_of_them(made: Path) -> None:
    report = report_of(made / "run")
    samples = report["transfer_set"]["samples"]
    starts = [row for row, sample in enumerate(samples) if sample["source"] == "real"]
    assert starts[0] == 0 and len(starts) == 3
    for start, stop in zip(starts, [*starts[1:], len(samples)], strict=True):
        source, *completions = samples[start:stop]
        assert source["label"] in report["classes"] and completions
        for sample in completions:
            assert sample["source"] == "synthesized" and sample["label"] is None
            assert f"digg, of {source['detail']}" in sample["detail"]
            assert "mask bottom" in sample["detail"] and "seed" in sample["detail"]
    assert report["transfer_set"]["composition"] == {
        "real, labelled": 6,
        "synthesized (DIGG)": NUM_MADE,
    }
    assert any("its own labelled images alone" in note for note in report["notes"])
    sheet = report["transfer_set"]["sheet"]
    assert (made / "run" / sheet).is_file()
    page = (made / "run" / "report.html").read_text(encoding="utf-8")
    assert f'href="{sheet}"' in page
    assert [f"sheet-transfer{row}" in page for row in range(4)] == [True, True, True, False]


def test_synthesis_is_a_stage_of_the_method_alone(made: Path) -> None:
    report = report_of(made / "run")
    assert list(report["stages"]) == ["synthesize", "teachers", "distil", "finetune"]
    assert report["stages"]["synthesize"]["seconds"] > 0
    cost = {arm["arm"]: arm["cost"] for arm in report["arms"]}
    assert cost["stl"]["steps"] == cost["logit_kd"]["steps"] == 12
    total = sum(stage["seconds"] for stage in report["stages"].values())
    assert cost["logit_kd"]["seconds"] == pytest.approx(total)
    budgets = {arm["arm"]: arm["budget"] for arm in report["arms"] if arm["role"] == "student"}
    making = {arm: budget["making_seconds"] for arm, budget in budgets.items()}
    assert making == {"stl": 0, "logit_kd": report["stages"]["synthesize"]["seconds"]}


def test_a_finished_run_makes_nothing_again(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(made / "run")
    ran = run(*digg_words(made))
    assert ran.code == 0, ran.err
    after = tree(made / "run")
    assert {path for path in after if after[path] != before.get(path)} <= {
        "train.log", "config.yaml",
        *(f"transfer_sets/{draw}/config.yaml" for draw in (0, 1)),
    }  # fmt: skip


def test_interrupted_between_two_sets_it_ends_with_the_same_bits(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = digg_words(made, f"out={tmp_path / 'run'}", f"cache={tmp_path / 'cache'}")
    calls = []

    def interrupted(*args: Any, **kwargs: Any) -> TransferSet:
        if calls:
            raise KeyboardInterrupt
        calls.append(args)
        return run_synthesis(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(generated, "run_synthesis", interrupted)
        assert run(*words).code == 130
    assert not (tmp_path / "run" / "draws").exists()
    ran = run(*words)
    assert ran.code == 0, ran.err
    one, other = tree(made / "run"), tree(tmp_path / "run")
    images = [path for path in one if path.startswith("transfer_sets") and "/images/" in path]
    assert len(images) == 2 * NUM_MADE
    for path in [*images, "student/model.safetensors"]:
        assert one[path] == other[path]


def test_another_generator_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    words = digg_words(tmp_path)
    assert run(*words, "dry_run=true").code == 0
    assert run(*words).code == 0
    generator = load_generator(tmp_path / "generator")
    generator.vqgan.codebook.data.mul_(2)
    generator.vqgan.save(tmp_path / "generator" / "vqgan")
    ran = run(*words)
    assert ran.code == 2 and "started with other generator" in ran.err


def test_all_images_may_be_sources(made: Path, tmp_path: Path) -> None:
    words = digg_words(made, "transfer_set.sources=all", "transfer_set.num_images=30", "draws=1")
    ran = run(*words, f"out={tmp_path / 'run'}")
    assert ran.code == 0, ran.err
    found = read_transfer_set(tmp_path / "run" / "transfer_sets" / "0")
    assert len({record.parent for record in found.records()}) > 6
    assert any("no labels" in note for note in report_of(tmp_path / "run")["notes"])


def test_plain_fine_tuning_makes_no_set(made: Path, tmp_path: Path) -> None:
    ran = run(*digg_words(made, "method=stl", f"out={tmp_path / 'run'}"))
    assert ran.code == 0, ran.err
    assert not (tmp_path / "run" / "transfer_sets").exists()


@pytest.mark.parametrize(
    "more",
    [
        ["method=aft", "method.beta=search", "method.beta_grid=[1,2]"],
        ["teacher.outputs=online"],
        ["teacher.adapt=fine_tune"],
        ["method=kl_dp"],
        ["recipe=ota", "irf.generator=GENERATOR"],
        [
            "recipe=composed",
            "recipe.stages.consolidate.steps=2",
            "recipe.stages.pseudo_label.steps=2",
        ],
    ],
    ids=str,
)
def test_every_way_to_teach_reads_the_set(more: list[str], made: Path, tmp_path: Path) -> None:
    words = [word.replace("GENERATOR", str(made / "generator")) for word in more]
    ran = run(*digg_words(made, *words, f"out={tmp_path / 'run'}"))
    assert ran.code == 0, ran.err


def test_what_a_dry_run_says(made: Path, tmp_path: Path) -> None:
    ran = run(*digg_words(made, "dry_run=true", f"out={tmp_path / 'run'}"))
    assert ran.code == 0, ran.err
    assert f"6 labelled, {NUM_MADE} transfer per draw, {NUM_MADE} of them synthesized" in ran.out
    told = re.search(r"([\d,]+) views to answer", ran.out)
    stores = (made / "cache").glob("*.rows/checks.npy")  # one of them is of the run itself
    answered = {int((np.load(store) != 0).sum()) for store in stores}
    assert told and int(told[1].replace(",", "")) in answered
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["transfer_set.generator=genkt:nothing"], "generator genkt:nothing"),
        (["transfer_set.generator=BARE"], "has no latent transformer"),
        (
            ["transfer_set.masks.kinds=[botom]"],
            "transfer_set.masks.kinds[0]: expected one of bottom",
        ),
        (["transfer_set.num_images=0"], "transfer_set.num_images"),
        (
            ["transfer_set.masks.min_share=0.3", "transfer_set.masks.max_share=0.3"],
            "no bottom mask of whole tokens",
        ),
    ],
)
def test_faults_are_told_before_anything_is_written(
    words: list[str], fault: str, made: Path, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    tiny_vqgan().save(bare / "vqgan")
    words = [word.replace("BARE", str(bare)) for word in words]
    ran = run(*digg_words(made, *words, f"out={tmp_path / 'run'}"))
    assert ran.code == 2 and fault in ran.err, ran.err
    assert not (tmp_path / "run").exists()


def test_a_saved_set(made: Path, tmp_path: Path) -> None:
    root = made / "run" / "transfer_sets" / "0"
    more = ["transfer_set=saved", f"transfer_set.root={root}", "transfer_set.max_images=7"]
    ran = run(*transfer_words(made, *more, f"out={tmp_path / 'run'}"))
    assert ran.code == 0, ran.err
    report = report_of(tmp_path / "run")
    assert report["transfer_set"]["composition"] == {"real, labelled": 6, "synthesized (saved)": 7}
    (untimed,) = [note for note in report["notes"] if note.startswith("Made before this run")]
    assert "7 synthesized" in untimed
    sources = [sample["source"] for sample in report["transfer_set"]["samples"]]
    assert sources == ["real"] * 6 + ["synthesized"] * 7
    assert any(str(root) in note for note in report["notes"])
    ran = run(
        *transfer_words(made, *more[:1], f"transfer_set.root={made}", f"out={tmp_path / 'x'}")
    )
    assert ran.code == 2 and "expected a transfer set" in ran.err


def test_labels_of_a_saved_set_are_not_read_and_what_test_images_made_is_left_out(
    made: Path, tmp_path: Path
) -> None:
    config = read_config(TransferConfig, "transfer", digg_words(made)[1:])
    splits = load_splits(config.data, config.seed)
    test = splits.test
    assert test is not None
    sources = concat(test, splits.train)
    settings = SynthesisSettings(
        synthesis=IrfSettings("irf"), files=ImageFiles(),
        filters=FilterSettings(None, False, None, False), shard_size=64,
        max_sources=None, seed=0, batch_size=8, num_threads=1,
    )  # fmt: skip
    generator = load_generator(made / "generator")
    saved = run_synthesis(settings, sources, tmp_path / "set", generator=generator)
    assert (saved.images.labels >= 0).all()
    more = ["transfer_set=saved", f"transfer_set.root={tmp_path / 'set'}"]
    ran = run(*transfer_words(made, *more, f"out={tmp_path / 'run'}"))
    assert ran.code == 0, ran.err
    notes = report_of(tmp_path / "run")["notes"]
    assert any(note.startswith(f"{len(test)} test images are what images of") for note in notes)
    config = read_config(TransferConfig, "transfer", transfer_words(made, *more)[1:])
    draw = build_pool(config, read_folder(made / "images", test_fraction=0.2)).draws[0]
    assert (draw.labels[draw.transfer] == -1).all()
    of_test = [record.parent in test.ids for record in saved.records()]
    assert np.array_equal(np.isin(saved.images.ids, draw.images.ids), ~np.array(of_test))
    assert sum(of_test) == len(test)


def test_genkt_cache_takes_a_saved_set(made: Path, tmp_path: Path) -> None:
    root = made / "run" / "transfer_sets" / "0"
    words = transfer_words(made, "transfer_set=saved", f"transfer_set.root={root}")
    kept = ("data", "teacher", "transfer_set", "draws", "device")
    words = [word for word in words if word.startswith(kept)]
    ran = run("cache", *words, f"cache={tmp_path / 'cache'}")
    assert ran.code == 0, ran.err
    assert f": {2 * (6 + NUM_MADE)} rows" in ran.out
