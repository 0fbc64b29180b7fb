"""``genkt retrieve`` as a person meets it: what is found, strategies, crops, messages, resume."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from refusals import refused
from retrieval_cases import CROPS, OF_TIME, add_leaks, make_home, words
from safetensors.torch import save_file
from tiny import model_words, picture, run, tree

import genkt
from genkt.config.read_config import read_config
from genkt.config.retrieval_settings import EncoderSettings
from genkt.config.set_command_settings import RetrieveConfig
from genkt.config.set_settings import RetrievedSet
from genkt.config.transfer_settings import TransferConfig
from genkt.data.crops import make_crop
from genkt.data.images import UnreadableImage
from genkt.execution.tasks import HERE
from genkt.models.load import ModelSpec, load_model
from genkt.readers.folders import read_unlabelled
from genkt.retrieval.embed import Embedder
from genkt.retrieval.encoders import (
    BackboneEncoder,
    PixelsEncoder,
    encode_all,
    encoder_specs,
    load_encoder,
)
from genkt.settings.words import Words
from genkt.stores.embeddings import unit_rows


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path)


def details(home: Path, name: str = "set") -> list[dict[str, Any]]:
    found = genkt.read_transfer_set(home / name)
    return [dict(r.detail or {}) | {"parent": r.parent} for r in found.records()]


def settings_of(home: Path) -> EncoderSettings:
    """The encoder's settings of ``words``."""
    return read_config(RetrieveConfig, "retrieve", words(home)[1:]).encoder


def tiny_encoder(seed: int = 0) -> BackboneEncoder:
    """The encoder of ``words``."""
    spec = ModelSpec(
        "resnet18", False, None, {"layers": [1, 1, 1, 1], "channels": [8, 8, 16, 16]},
        {"input_size": [24, 24], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0,
         "interpolation": "bilinear"},
    )  # fmt: skip
    return BackboneEncoder(load_model(spec, seed=seed))


def test_it_finds_what_the_words_of_the_paper_ask_for(home: Path) -> None:
    ran = run(*words(home))
    assert ran.code == 0, ran.err
    assert "20 images asked, 20 found, 20 kept" in ran.out
    found = genkt.read_transfer_set(home / "set")
    queries = [r.parent for r in found.records()]
    assert len(found) == 20 and len(set(queries)) == 6
    assert all(r.source == "retrieved" and r.label == -1 for r in found.records())
    splits = genkt.read_folder(home / "images", validation_fraction=0.1, seed=0)
    asked = splits.train.select([splits.train.ids.index(q) for q in dict.fromkeys(queries)])
    gallery, encoder = read_unlabelled([home / "gallery"]), tiny_encoder()
    pictures = ([s.load(i) for i in range(len(s))] for s in (asked, gallery))
    x, y = (unit_rows(encode_all(encoder, each)).astype(float) for each in pictures)
    x, y = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (x, y))
    order = [sorted(range(45), key=lambda g, q=q: (-q[g], gallery.ids[g])) for q in x @ y.T]
    k = next(k for k in range(1, 46) if len({g for row in order for g in row[:k]}) >= 20)
    sure, at_most = ({gallery.ids[g] for row in order for g in row[:n]} for n in (k - 1, k))
    taken = {each["image"] for each in details(home)}
    assert len(taken) == 20 and sure <= taken <= at_most
    assert max(each["rank"] for each in details(home)) == k == found.header["k"]
    for row, each in enumerate(details(home)):
        place = gallery.ids.index(each["image"])
        query = asked.ids.index(each["parent"])
        assert each["score"] == pytest.approx(x[query] @ y[place], abs=2e-3)
        assert found.images.load(row).tobytes() == gallery.load(place).tobytes()


def test_fewer_images_are_the_first_of_more_and_another_seed_changes_the_last_rank_only(
    home: Path,
) -> None:
    sets = {}
    for name, more in (("few", ["num_images=13"]), ("more", []), ("other", ["seed=1", "draw=0"])):
        assert run(*words(home, *more, f"out={home / name}")).code == 0
        sets[name] = [each["image"] for each in details(home, name)]
    assert set(sets["few"]) < set(sets["more"])
    assert sets["few"] == sets["more"][:13]


def test_the_same_set_whatever_cuts_the_work(home: Path) -> None:
    sets = []
    for number, more in enumerate([[], ["shard_size=3", "num_threads=1"], ["shard_size=2"]]):
        out = [f"out={home / str(number)}", f"store={home / f'store{number}'}"]
        ran = run(*words(home, *more, *out))
        assert ran.code == 0, ran.err
        found = genkt.read_transfer_set(home / str(number))
        sets.append([(r.detail, r.parent, r.id.rpartition("#")[2]) for r in found.records()])
    assert sets[0] == sets[1] == sets[2]


def test_tasks_run_anywhere_in_any_order_with_the_same_bytes(home: Path) -> None:
    gallery, spec = read_unlabelled([home / "gallery"]), encoder_specs(settings_of(home))[0]
    for name in ("here", "elsewhere"):
        embedder = Embedder([tiny_encoder()], [spec], str(home / name), HERE, 7, "cpu", 2)
        tasks = embedder.tasks(gallery, CROPS)
        if name == "elsewhere":
            sent = [pickle.dumps(task) for task in reversed(tasks)]
            assert max(map(len, sent)) < 20_000
            tasks = [pickle.loads(data) for data in sent]
        for task in tasks:
            assert not task.is_done()
            task.run(lambda count: None)
            assert task.is_done()
    assert tree(home / "here") == tree(home / "elsewhere")


def test_weights_that_changed_within_a_process_are_read_again(home: Path) -> None:
    gallery, path = read_unlabelled([home / "gallery"]), home / "weights.safetensors"
    spec, found = replace(encoder_specs(settings_of(home))[0], weights=str(path)), []
    for seed in (1, 2):
        save_file(tiny_encoder(seed).backbone.model.state_dict(), path)
        encoder = load_encoder(spec)
        embedder = Embedder([encoder], [spec], str(home / "store"), HERE, 64, "cpu", 2)
        embedder.tasks(gallery)[0].run(lambda count: None)
        rows = embedder.embed(gallery, home / "work", "gallery").features(0, 4)[0]
        expected = encode_all(encoder, [gallery.load(place) for place in range(4)])
        assert np.allclose(rows, unit_rows(expected), atol=1e-3)
        found.append(rows)
    assert not np.allclose(*found, atol=1e-2)
    task = replace(embedder.tasks(gallery)[0], identity={"encoder": "another"})
    with refused("resnet18"):
        task.run(lambda count: None)


def test_a_known_gallery_is_not_embedded_again(home: Path) -> None:
    assert run(*words(home)).code == 0
    before = tree(home / "store")
    picture(2, 900).save(home / "gallery" / "new.png")
    ran = run(*words(home, f"out={home / 'again'}"))
    assert ran.code == 0, ran.err
    after = tree(home / "store")
    assert {path: data for path, data in after.items() if path in before} == before
    new = [path for path in after if path not in before and path.endswith(".npy")]
    assert len(new) == 1 and np.load(home / "store" / new[0]).shape == (1, 16)
    assert "gallery: 1 of 46 embeddings are new" in (home / "again" / "retrieve.log").read_text()


@pytest.mark.parametrize("strategy", ["best_matches", "random"])
def test_other_strategies(home: Path, strategy: str) -> None:
    ran = run(*words(home, f"strategy={strategy}", "num_images=9"))
    assert ran.code == 0, ran.err
    found = details(home)
    assert len({each["image"] for each in found}) == 9
    if strategy == "random":
        assert all(each["parent"] is None and "score" not in each for each in found)
    else:
        scores = [each["score"] for each in found]
        assert scores == sorted(scores, reverse=True)
        assert run(*words(home, f"out={home / 'all'}", "num_images=45")).code == 0
        best = sorted((each["score"] for each in details(home, "all")), reverse=True)
        assert scores[0] == best[0]
    assert "queries" in (home / "set" / "contact_sheet.html").read_text().lower()


def test_crops_are_kept_as_they_were_seen(home: Path) -> None:
    crops = [
        "crops.per_image=4", "crops.size=20", "crops.scale=[0.3,1.0]", "crops.num_ops=1",
        "n_counts=before_filters", "num_images=40",
    ]  # fmt: skip
    ran = run(*words(home, *crops))
    assert ran.code == 0, ran.err
    found, gallery = genkt.read_transfer_set(home / "set"), read_unlabelled([home / "gallery"])
    funnel = found.header["funnel"]
    assert funnel["found"] == 40 == len(found) + funnel["dropped"]["same image again"]
    images = [each["image"] for each in details(home)]
    assert len(set(images)) == len(images) < 40  # two crops of one image: the better stays
    encoder = tiny_encoder()
    for row, each in enumerate(details(home)):
        place = gallery.ids.index(each["image"])
        crop = make_crop(gallery.load(place), CROPS, each["image"], each["crop"]["index"])
        assert found.images.load(row).tobytes() == crop.picture.tobytes()
        assert tuple(each["crop"]["box"]) == crop.box
    ran = run(*words(home, *crops[:-2], "num_images=30", f"out={home / 'after'}"))
    assert ran.code == 0, ran.err
    assert len(genkt.read_transfer_set(home / "after")) == 30
    assert encoder.width == 16


def test_what_is_in_the_data_and_what_comes_twice_stays_out(home: Path) -> None:
    add_leaks(home)
    ran = run(*words(home, "num_images=100", "on_shortage=all"))
    assert ran.code == 0, ran.err
    found = genkt.read_transfer_set(home / "set")
    dropped = found.header["funnel"]["dropped"]
    assert dropped == {"same image again": 1, "image of the data": 1}
    names = {each["image"].rpartition("#")[0] for each in details(home)}
    assert "again.webp" in names and "exact.png" not in names and len(names) == 46


def test_near_copies_keep_the_one_that_was_found_first(home: Path) -> None:
    for name in ("b/01.png", "b/04.png"):
        copied = Image.open(home / "gallery" / name)
        copied.save(home / "gallery" / f"{name[2:4]}.tif")  # other bytes, the same pixels
    more = ["num_images=100", "on_shortage=all", "encoder=pixels", "encoder.duplicates=0.9999"]
    plain = [w for w in words(home) if not w.startswith("encoder")]
    ran = run(*plain, "encoder.leaks=null", *more)
    assert ran.code == 0, ran.err
    names = {each["image"].rpartition("#")[0] for each in details(home)}
    assert genkt.read_transfer_set(home / "set").header["funnel"]["dropped"] == {"near copy": 2}
    assert len(names & {"b/01.png", "01.tif"}) == 1 == len(names & {"b/04.png", "04.tif"})


def test_several_encoders_share_the_score(home: Path) -> None:
    plain = [w for w in words(home) if not w.startswith("encoder")]
    own = [w for w in model_words("encoder") if not w.startswith("encoder=")]
    more = ["encoder=[resnet18,pixels]", *own, "encoder.leaks=null", "encoder.shares=[3,1]"]
    more.append("encoder.duplicates=null")
    ran = run(*plain, *more)
    assert ran.code == 0, ran.err
    header = genkt.read_transfer_set(home / "set").header
    assert [each["share"] for each in header["encoders"]] == [0.75, 0.25]
    gallery, pixels, tiny = read_unlabelled([home / "gallery"]), PixelsEncoder(), tiny_encoder()
    splits = genkt.read_folder(home / "images", validation_fraction=0.1, seed=0)
    for each in details(home)[:5]:
        score = 0.0
        for encoder, share in ((tiny, 0.75), (pixels, 0.25)):
            pair = (
                splits.train.load(splits.train.ids.index(each["parent"])),
                gallery.load(gallery.ids.index(each["image"])),
            )
            x, y = unit_rows(encode_all(encoder, pair)).astype(float)
            score += share * float(x @ y)
        assert each["score"] == pytest.approx(score, abs=2e-3)


def test_unreadable_images_of_the_gallery_are_counted(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (home / "gallery" / "broken.png").write_bytes(b"no picture")
    found = read_unlabelled([home / "gallery"])
    assert run(*words(home)).code == 0
    assert "broken.png: not a picture" in caplog.text

    def unreadable(sample_id: str, item: int) -> Image.Image:
        if sample_id == found.ids[4]:
            raise UnreadableImage("broken since it was looked at")
        return found.open_item(sample_id, item)

    lost = genkt.ImageSet(found.ids, found.labels, (), found.items, unreadable)
    more = [word for word in words(home)[1:] if not word.startswith(("gallery", "out", "store"))]
    made = genkt.retrieve(*more, "num_images=45", "on_shortage=all", gallery=lost, out=home / "b",
                          store=str(home / "another"))  # fmt: skip
    assert len(made) == 44 and made.header["gallery"]["num_unreadable"] == 1


def test_faults_are_told_and_nothing_is_written(home: Path) -> None:
    before = tree(home)
    for more, expected in (
        (["num_images=0"], "num_images: expected a number 1 .. "),
        (["multiplier=2"], "num_images: expected a number here or in multiplier"),
        (["strategy=nearest"], "strategy: expected one of"),
        (["strategy=text"], "encoders that read words (open_clip:NAME), got resnet18"),
        (["gallery=/no/such"], "/no/such"),
        (["encoder.shares=[1,2]"], "encoder.shares: expected 1, one per model"),
        (["encoder.duplicates=0"], "encoder.duplicates: expected a similarity above 0"),
        (["crops.scale=[0,1]"], "crops.scale: expected 0 < low <= high"),
        (["decontaminate.assume=leek"], "decontaminate.assume: expected one of leak, keep or null"),
        (["encoder.model=resnet81"], "resnet81"),
    ):  # fmt: skip
        ran = run(*words(home, *more))
        assert ran.code == 2 and len(ran.lines) == 1 and expected in ran.err, (more, ran.err)
    assert tree(home) == before


@pytest.mark.parametrize("name", sorted(set(Words().choices("encoder"))))
def test_every_encoder_file_is_valid_in_both_commands(name: str) -> None:
    required = ["encoder.model=pixels"] if name == "timm" else []
    config = read_config(RetrieveConfig, "retrieve", [f"encoder={name}", *required])
    assert sum(config.encoder.mean_of) == pytest.approx(1)
    own = [f"transfer_set.{word}" for word in required]
    more = ["transfer_set=retrieved", *own, "transfer_set.encoder.shares=null"]
    changed = read_config(TransferConfig, "transfer", more)
    assert isinstance(changed.transfer_set, RetrievedSet)
    assert changed.transfer_set.decontaminate.assume == "leak"
    assert changed.transfer_set.gallery == config.gallery == "glyphs"


def test_the_help_page_shows_the_shared_settings() -> None:
    page = run("retrieve", "--help").out
    for words_shown in ("strategy: query_balanced", "per_image: 0", "executor=pool", "leaks: 0.95"):
        assert words_shown in page


def test_a_gallery_that_is_too_small(home: Path) -> None:
    for more in (["n_counts=before_filters"], ["overwrite=true"]):
        ran = run(*words(home, "num_images=46", *more))
        assert ran.code == 2 and "45" in ran.err and "on_shortage=all" in ran.err, ran.err
    ran = run(*words(home, "num_images=46", "on_shortage=all", "overwrite=true"))
    assert ran.code == 0, ran.err
    assert len(genkt.read_transfer_set(home / "set")) == 45
    ran = run(*words(home, "num_images=null", "multiplier=2", f"out={home / 'times'}"))
    assert ran.code == 0, ran.err
    assert len(genkt.read_transfer_set(home / "times")) == 6 * 3


def test_a_dry_run_writes_nothing(home: Path) -> None:
    before = tree(home)
    ran = run(*words(home, "dry_run=true", "crops.per_image=2"))
    assert ran.code == 0, ran.err
    assert "nothing was written" in ran.out and "45 images, 90 crops" in ran.out
    assert tree(home) == before


def test_a_finished_set_is_opened_and_its_config_repeats_it(home: Path) -> None:
    assert run(*words(home)).code == 0
    before = tree(home / "set")
    assert run(*words(home, "num_threads=1")).code == 0
    after = tree(home / "set")
    assert {p for p in after if after[p] != before.get(p)} <= {"config.yaml", *OF_TIME}
    assert not (home / "set" / "work").exists()
    ran = run(*words(home, "num_images=7"))
    assert ran.code == 2 and "num_images: was 20, now 7" in ran.err
    again = run("retrieve", "--config-dir", str(home / "set"), "--config-name", "config",
                f"out={home / 'repeated'}")  # fmt: skip
    assert again.code == 0, again.err
    assert details(home, "repeated") == details(home)


def test_hostile_names_do_no_harm(home: Path) -> None:
    name = "<img src=x onerror=alert(1)>.png"
    picture(0, 777).save(home / "gallery" / name)
    ran = run(*words(home, "num_images=46"))
    assert ran.code == 0, ran.err
    page = (home / "set" / "contact_sheet.html").read_text()
    assert "<img src=x" not in page and "default-src 'none'" in page
    lines = (home / "set" / "manifest").glob("*.jsonl")
    records = [json.loads(line) for path in lines for line in path.read_text().splitlines()]
    assert any(record["detail"]["image"].startswith(name) for record in records)


def test_copies_of_the_data_are_told_and_never_retrieved(
    home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    splits = genkt.read_folder(home / "images", validation_fraction=0.1, seed=0)
    pool = home / "images" / "unlabelled"
    pool.mkdir()
    picture(1, 700).save(pool / "extra.png")
    shutil.copy(pool / "extra.png", home / "gallery" / "again.png")
    assert splits.test is not None
    for name, images in (("tested", splits.test), ("trained", splits.train)):
        path = home / "images" / images.ids[0].rpartition("#")[0]
        shutil.copy(path, home / "gallery" / f"{name}.png")
    ran = run(*words(home, "num_images=48", "on_shortage=all"))
    assert ran.code == 0, ran.err
    for part in ("test", "train", "unlabelled"):
        assert f"1 {part} image is also in gallery: 1 file left out of gallery" in caplog.text
    taken = {Path(each["image"]).name.partition("#")[0] for each in details(home)}
    assert not taken & {"again.png", "tested.png", "trained.png"} and len(taken) == 45
