"""Transfer sets in a run: of any places, alone or mixed, by settings or as an object."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from composition_cases import drawn, plain, retrieved
from refusals import refused
from tiny import run, transfer_words, write_images

import genkt
from genkt.api.objects import given_settings
from genkt.config.read_config import read_config
from genkt.config.set_settings import MixSet
from genkt.config.transfer_settings import TransferConfig
from genkt.data.images import ImageSet, content_of
from genkt.io import derive_seed
from genkt.runs.pool import Pool, build_pool, load_splits, stored_views
from genkt.settings.words import Words
from genkt.transfer_set.composition import TransferSet
from genkt.transfer_set.set_files import ImageFiles
from genkt.types import UserError


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``images`` (labelled), ``pool`` (a folder), ``found`` and ``made`` (saved sets)."""
    home = tmp_path_factory.mktemp("a mix, home")
    write_images(home / "images")
    (home / "pool").mkdir()
    for row, image in enumerate(map(drawn("pool", 9).load, range(9))):
        image.save(home / "pool" / f"{row}.png")
    retrieved("found", 7).save(home / "found", files=ImageFiles("png", container="tar"))
    plain("made", 8, "synthesized").save(home / "made", shard_size=3)
    return home


def mix_words(home: Path, out: Path, *more: str) -> list[str]:
    places = f"['{home / 'pool'}','{home / 'found'}','{home / 'made'}',labelled]"
    words = ["transfer_set=mix", f"transfer_set.parts={places}", "finetune.steps=1"]
    return transfer_words(home, *words, "train.steps=2", f"out={out}", *more)


def pool_of(words: list[str]) -> Pool:
    config = read_config(TransferConfig, "transfer", words[1:])
    return build_pool(config, load_splits(config.data, config.seed))


@pytest.mark.parametrize("name", Words().choices("method"))
def test_every_method_takes_a_mix(name: str, home: Path, tmp_path: Path) -> None:
    shares = "transfer_set.shares=[0.4,0.3,0.2,0.1]"
    ran = run(*mix_words(home, tmp_path / "run", f"method={name}", shares, "baseline=false"))
    assert ran.code == 0, ran.err
    report: dict[str, Any] = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["transfer_set"]["composition"] == {
        "real, labelled": 6, "real, elsewhere": 9, "retrieved (saved)": 7, "synthesized (saved)": 8,
    }  # fmt: skip
    samples = report["transfer_set"]["samples"]
    assert {sample["source"] for sample in samples} == {"real", "retrieved", "synthesized"}
    assert any("score 0.5" in sample["detail"] for sample in samples)
    assert any("40 % " in note and "10 % labelled" in note for note in report["notes"])


def test_shares_are_those_of_the_batches(home: Path, tmp_path: Path) -> None:
    shares = "transfer_set.shares=[4,3,2,1]"
    pool = pool_of(mix_words(home, tmp_path, shares, "draws=2"))
    for draw in pool.draws:
        assert [len(part.rows) for part in draw.parts] == [9, 7, 8, 6]
        assert [part.share for part in draw.parts] == [4, 3, 2, 1]
        assert np.array_equal(np.concatenate([p.rows for p in draw.parts]), draw.transfer)
        assert np.array_equal(draw.parts[3].rows, draw.labelled)
        assert (draw.labels[np.setdiff1d(draw.transfer, draw.labelled)] == -1).all()
        found = pool.elsewhere(draw.parts[1].rows)
        assert found is not None and found.counts() == {"retrieved": 7}
        names = {draw.images.ids[row] for row in draw.parts[1].rows}
        assert names == {record.id for record in found.records()}
    assert pool.draws[0].labelled.tolist() != pool.draws[1].labelled.tolist()
    assert pool.elsewhere(pool.draws[0].labelled) is None


def test_without_shares_all_images_come_equally_often(home: Path, tmp_path: Path) -> None:
    words = mix_words(home, tmp_path, "transfer_set.max_images=[2,null,3,null]")
    draw = pool_of(words).draws[0]
    assert draw.parts == () and len(draw.transfer) == 2 + 7 + 3 + 6
    draw = pool_of(mix_words(home, tmp_path, "transfer_set.max_images=1")).draws[0]
    assert len(draw.transfer) == 4


def test_a_picture_in_two_parts_is_one_row(home: Path, tmp_path: Path) -> None:
    """A teacher sees it once, and each part has it."""
    places = f"transfer_set.parts=['{home / 'found'}','{home / 'again'}',unlabelled]"
    found = TransferSet.open(home / "found")
    if not (home / "again").exists():
        found.concat(plain("new", 2).without_labels()).save(home / "again", files=ImageFiles("png"))
    words = mix_words(home, tmp_path, places, "transfer_set.shares=[1,1,1]")
    pool = pool_of(words)
    draw = pool.draws[0]
    sizes = [len(part.rows) for part in draw.parts]
    assert sizes[:2] == [7, 9] and set(draw.parts[0].rows) < set(draw.parts[1].rows)
    assert len(pool.images) == 6 + 9 + sizes[2]


def test_parts_may_have_classes_of_their_own(home: Path, tmp_path: Path) -> None:
    images = drawn("others", 4)
    named = ImageSet(images.ids, images.labels, ("hat", "bag"), images.items, images.open_item)
    TransferSet.of(named).save(tmp_path / "others", progress=False)
    places = f"transfer_set.parts=['{home / 'made'}','{tmp_path / 'others'}']"
    draw = pool_of(mix_words(home, tmp_path, places)).draws[0]
    assert len(draw.transfer) == 8 + 4 and (draw.labels[draw.transfer] == -1).all()


def test_held_out_labels_leave_a_labelled_part(home: Path, tmp_path: Path) -> None:
    draw = pool_of(mix_words(home, tmp_path, "transfer_set.shares=[1,1,1,1]")).draws[0]
    fewer = draw.without_transfer(draw.labelled[:2])
    assert fewer.parts[3].rows.tolist() == draw.labelled[2:].tolist()
    assert not np.isin(draw.labelled[:2], fewer.transfer).any()
    assert len(fewer.transfer) == len(draw.transfer) - 2
    none = draw.without_transfer(draw.labelled)
    assert len(none.parts) == 3
    search = ["method=aft", "method.beta=search", "method.beta_grid=[1,2]"]
    ran = run(*mix_words(home, tmp_path / "run", "transfer_set.shares=[1,1,1,1]", *search))
    assert ran.code == 0, ran.err


def test_one_kind_of_images_has_the_rows_it_always_had(home: Path, tmp_path: Path) -> None:
    for words in (
        ["transfer_set=unlabelled", f"data.unlabelled=['{home / 'pool'}']"],
        ["transfer_set=folder", f"transfer_set.root={home / 'pool'}"],
        ["transfer_set=saved", f"transfer_set.root={home / 'made'}"],
    ):
        words = transfer_words(home, f"out={tmp_path}", "draws=2", *words)
        most = pool_of([*words, "transfer_set.max_images=4"])
        for index, (draw, all_of) in enumerate(zip(most.draws, pool_of(words).draws, strict=True)):
            ids = [all_of.images.ids[row] for row in all_of.transfer.tolist()]
            seed = derive_seed(0, "draw", index)
            order = sorted(ids, key=lambda each: derive_seed(seed, each, "transfer"))
            chosen = [each for each in ids if each in order[:4]]
            assert [draw.images.ids[row] for row in draw.transfer.tolist()] == chosen
            assert draw.parts == ()


def test_places_that_are_no_folder(home: Path, tmp_path: Path) -> None:
    tars = home / "found" / "images" / "*.tar"
    draw = pool_of(transfer_words(home, "transfer_set=folder", f"transfer_set.root={tars}")).draws[
        0
    ]
    assert len(draw.transfer) == 7
    several = f"transfer_set.root=['{home / 'found'}','{home / 'made'}']"
    words = transfer_words(home, "transfer_set=saved", several, f"out={tmp_path / 'run'}")
    ran = run(*words, "train.steps=1", "finetune.steps=0", "baseline=false")
    assert ran.code == 0, ran.err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["transfer_set"]["composition"] == {
        "real, labelled": 6, "retrieved (saved)": 7, "synthesized (saved)": 8,
    }  # fmt: skip


def test_a_saved_mix_keeps_its_shares(home: Path, tmp_path: Path) -> None:
    members = {name: (TransferSet.open(home / name), share) for name, share in
               (("found", 0.75), ("made", 0.25))}  # fmt: skip
    TransferSet.mix({n: (s.without_labels(), w) for n, (s, w) in members.items()}).save(
        tmp_path / "mixed"
    )
    words = transfer_words(home, "transfer_set=saved", f"transfer_set.root={tmp_path / 'mixed'}")
    draw = pool_of(words).draws[0]
    assert [(len(p.rows), p.share) for p in draw.parts] == [(7, 0.75), (8, 0.25)]
    draw = pool_of([*words, "transfer_set.max_images=10"]).draws[0]
    assert sum(len(part.rows) for part in draw.parts) == len(draw.transfer) == 10
    inside = f"transfer_set.parts=['{tmp_path / 'mixed'}',labelled]"
    shared = mix_words(home, tmp_path, inside, "transfer_set.shares=[0.8,0.2]")
    assert [part.share for part in pool_of(shared).draws[0].parts] == [0.6, 0.2, 0.2]
    with refused("transfer_set.shares"):
        pool_of(mix_words(home, tmp_path, inside))


def test_a_set_in_python(home: Path, tmp_path: Path) -> None:
    found = TransferSet.open(home / "found").without_labels()
    mixed = found.with_labelled(plain("few", 3).images, 0.25)
    words = transfer_words(
        home, "transfer_set.num_views=1", "method=l2_feature", "baseline=false", "train.steps=2",
        "finetune.steps=0", "draws=1", f"out={tmp_path / 'run'}",
    )[1:]  # fmt: skip
    result = genkt.transfer(*words, transfer_set=mixed)
    assert result.report.transfer_composition["retrieved (saved)"] == 7
    (note,) = [note for note in result.report.notes if "given in Python" in note]
    assert "75 % (7 images), 25 % (3 images)" in note
    assert genkt.transfer(*words, transfer_set=mixed).accuracy == result.accuracy
    other = found.with_labelled(plain("few", 3).images, 0.5)
    with refused("run"):
        genkt.transfer(*words, transfer_set=other)


def test_a_mix_has_views_of_its_own(home: Path, tmp_path: Path) -> None:
    for word, expected in (("null", 2), ("3", 3)):
        words = mix_words(home, tmp_path, f"transfer_set.num_views={word}")
        assert (
            stored_views(read_config(TransferConfig, "transfer", words[1:])).num_views == expected
        )


def test_genkt_cache_takes_a_mix(home: Path, tmp_path: Path) -> None:
    kept = ("data", "teacher", "transfer_set", "draws", "device")
    words = [word for word in mix_words(home, tmp_path) if word.startswith(kept)]
    ran = run("cache", *words, f"cache={tmp_path / 'cache'}")
    assert ran.code == 0, ran.err
    assert f": {2 * (6 + 9 + 7 + 8)} rows" in ran.out


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["transfer_set.shares=[1,2]"], "transfer_set.shares: expected 4 values, one per part"),
        (["transfer_set.shares=[1,2,0,1]"], "transfer_set.shares: expected numbers above 0"),
        (["transfer_set.max_images=[1]"], "transfer_set.max_images: expected 4 values"),
        (["transfer_set.max_images=0"], "transfer_set.max_images"),
        (["transfer_set.parts=[]"], "transfer_set.parts: expected different places"),
        (["transfer_set.parts=[labelled,labelled]"], "transfer_set.parts: expected different"),
        (["transfer_set.parts=[labelled,nowhere]"], "transfer_set.parts: no such folder: nowhere"),
        (["transfer_set.parts=[labeled]"], "Did you mean labelled?"),
        (["transfer_set.share=[1]"], "Did you mean transfer_set.shares"),
    ],
)
def test_faults_are_told_before_anything_is_written(
    words: list[str], fault: str, home: Path, tmp_path: Path
) -> None:
    ran = run(*mix_words(home, tmp_path / "run", *words))
    assert ran.code == 2 and fault in ran.err and not (tmp_path / "run").exists(), ran.err
    assert len(ran.lines) == 1


def test_all_faults_of_a_mix_come_at_once() -> None:
    with pytest.raises(UserError) as caught:
        MixSet("mix", ["a", "a"], [1.0], [1], None)
    assert len(str(caught.value).splitlines()) == 3


def test_pictures_found_by_test_images_are_told(home: Path, tmp_path: Path) -> None:
    words = transfer_words(home, f"out={tmp_path / 'run'}")
    config = read_config(TransferConfig, "transfer", words[1:])
    splits = load_splits(config.data, config.seed)
    assert splits.test is not None
    source = TransferSet.open(home / "found")
    queries = splits.test.ids[:3]

    def record(row: int) -> Any:
        from dataclasses import replace

        return replace(source.record(row), parent=queries[row % 3])

    told = TransferSet.of(source.images, "retrieved", records=record)
    own = given_settings({"transfer_set": told})
    pool = build_pool(read_config(TransferConfig, "transfer", [*words[1:], *own]), splits)
    assert any("retrieved by 3 of the test images" in note for note in pool.notes)


def test_what_was_made_of_held_out_images_is_found(home: Path, tmp_path: Path) -> None:
    """A beta is chosen on images that no transfer image of its candidates comes of."""
    words = transfer_words(home, "transfer_set=saved", f"transfer_set.root={tmp_path / 'set'}")
    config = read_config(TransferConfig, "transfer", [*words[1:-1], "transfer_set=unlabelled"])
    train = load_splits(config.data, config.seed).train
    TransferSet.of(train).without_labels().save(tmp_path / "set", progress=False)
    pool = pool_of(words)
    draw = pool.draws[0]
    held = [draw.images.ids[row] for row in draw.labelled[:2]]
    made = pool.made_of(draw.transfer, held)
    assert pool.from_elsewhere is not None
    originals = [
        (pool.from_elsewhere.record(row - pool.first).detail or {})["original"] for row in made
    ]
    assert sorted(originals) == sorted(held) and np.isin(made, draw.transfer).all()
    assert not len(pool.made_of(draw.labelled, held))


def test_saved_copies_of_test_images_are_left_out(home: Path, tmp_path: Path) -> None:
    """A saved picture has another content hash: what it was first is in its record."""
    words = transfer_words(home, "transfer_set=saved", f"transfer_set.root={tmp_path / 'set'}")
    config = read_config(TransferConfig, "transfer", [*words[1:-1], "transfer_set=unlabelled"])
    splits = load_splits(config.data, config.seed)
    assert splits.test is not None
    tested = set(map(content_of, splits.test.ids))
    both = TransferSet.of(splits.train).concat(TransferSet.of(splits.test)).without_labels()
    saved = both.save(tmp_path / "set", progress=False)
    assert not tested.intersection(map(content_of, saved.images.ids))
    pool = pool_of(words)
    assert (
        pool.from_elsewhere is not None
        and pool.from_elsewhere.images.ids == saved.images.ids[: -len(tested)]
    )
    told = f"{len(tested)} test images are also in transfer_set"
    assert [told in note for note in pool.notes].count(True) == 1
    shutil.rmtree(tmp_path / "set")
    TransferSet.of(splits.test).without_labels().save(tmp_path / "set", progress=False)
    with refused("images/00000/000000.webp", "cat/1.png"):
        pool_of(words)


def test_a_folder_may_be_called_as_a_part_is(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pictures alone are transferred on, none of the data's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("labelled", "unlabelled"):
        shutil.copytree(home / "pool", tmp_path / name)
        words = ["transfer_set=folder", f"transfer_set.root={name}"]
        draw = pool_of(transfer_words(home, *words)).draws[0]
        assert len(draw.transfer) == 9 and not np.isin(draw.labelled, draw.transfer).any()


def test_shares_that_changed_in_a_saved_mix_are_another_run(home: Path, tmp_path: Path) -> None:
    found = {name: TransferSet.open(home / name).without_labels() for name in ("found", "made")}
    words = transfer_words(
        home, "transfer_set=saved", f"transfer_set.root={tmp_path / 'set'}", "method=l2_feature",
        f"out={tmp_path / 'run'}", "baseline=false", "train.steps=1", "finetune.steps=0",
    )  # fmt: skip
    for shares, code in (((1.0, 1.0), 0), ((1.0, 1.0), 0), ((1.0, 3.0), 2)):
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        members = {n: (s, w) for (n, s), w in zip(found.items(), shares, strict=True)}
        TransferSet.mix(members).save(tmp_path / "set", progress=False)
        ran = run(*words)
        assert ran.code == code, ran.err
    assert "started with other shares" in ran.err
