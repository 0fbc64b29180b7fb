"""Retrievals that are killed, shared by processes, made from Python, or a draw's transfer set."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import Command, until
from refusals import refused
from retrieval_cases import OF_TIME, make_home, words, write_gallery
from tiny import picture, run, transfer_words, tree

import genkt
from genkt.config.read_config import read_config
from genkt.config.retrieval_settings import GlyphSettings
from genkt.config.set_command_settings import RetrieveConfig
from genkt.data.transform import ImageTransform
from genkt.readers.folders import read_unlabelled
from genkt.retrieval import encoders, prepare_retrieval
from genkt.retrieval.clip import ClipEncoder
from genkt.retrieval.glyph_gallery import glyph_gallery
from genkt.retrieval.prepare_retrieval import warn_of_characters


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return make_home(tmp_path)


def _environment() -> dict[str, str]:
    root = str(Path(genkt.__file__).parent.parent)
    return os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": root}


def test_two_processes_and_a_killed_run_give_the_bytes_of_one_process(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    homes = {}
    for name in ("alone", "killed", "ranks"):
        homes[name] = home / name
        homes[name].mkdir()
        for part in ("images", "gallery"):
            (homes[name] / part).symlink_to(home / part)
    crops = ["crops.per_image=8", "crops.size=20", "shard_size=2", "files.container=tar"]
    command = [word.replace(f"{home}/", "") for word in words(home, *crops)]
    killed = Command(command, cwd=homes["killed"])
    shards = homes["killed"] / "store"
    until(lambda: len(list(shards.glob("*/shards/*.json"))) >= 8, killed, pause=0.001)
    killed.kill()
    assert not (homes["killed"] / "set" / "transfer_set.json").exists()
    ranks = [
        Command(command, cwd=homes["ranks"], env={"RANK": str(rank), "WORLD_SIZE": "2"})
        for rank in (0, 1)
    ]
    said = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    assert [out.count("20 images asked") for out, _ in said] == [1, 0]  # one process speaks
    for name in ("alone", "killed"):
        monkeypatch.chdir(homes[name])
        ran = run(*command)
        assert ran.code == 0, ran.err
    trees = {}
    for name, folder in homes.items():
        files = tree(folder / "set") | tree(folder / "store")
        trees[name] = {  # a killed writer may leave a hidden file
            path: data for path, data in files.items()
            if path not in OF_TIME and not Path(path).name.startswith(".")
        }  # fmt: skip
    assert len(trees["alone"]) > 10 * 3 + 23 * 2
    assert trees["killed"] == trees["alone"]
    assert trees["ranks"] == trees["alone"]


def test_from_python(home: Path) -> None:
    images = genkt.read_folder(home / "images", test_fraction=0.0).train
    gallery = read_unlabelled([home / "gallery"])
    common: dict[str, Any] = {
        "num_images": 9, "device": "cpu", "store": str(home / "store"), "encoder": "pixels",
        "decontaminate": {"assume": "keep"},
    }  # fmt: skip
    sets = [
        genkt.retrieve("encoder.duplicates=null", data=data, gallery=where, out=home / name,
                       **common)
        for name, data, where in (
            ("a", images.select(range(4)), gallery),
            ("b", images.select(range(4)), str(home / "gallery")),
            ("c", genkt.Splits(images), genkt.TransferSet.of(gallery)),
        )
    ]  # fmt: skip
    assert [len(found) for found in sets] == [9, 9, 9]
    found = [{(r.detail or {})["image"] for r in each.records()} for each in sets[:2]]
    assert found[0] == found[1]
    card = (home / "a" / "README.md").read_text()
    assert "data=<ImageSet>" in card and "gallery=<ImageSet>" in card
    with refused("dry_run", kind=genkt.UserError):
        genkt.retrieve(data=images, gallery=gallery, dry_run=True, out=home / "x", **common)


def test_deduplicate(home: Path) -> None:
    gallery = read_unlabelled([home / "gallery"])
    picture(0, 500).save(home / "gallery" / "copy.tif")  # the pixels of a/00.png
    with_copy = read_unlabelled([home / "gallery"])
    assert len(with_copy) == len(gallery) + 1
    found = genkt.TransferSet.of(with_copy).concat(genkt.TransferSet.of(gallery))
    kept = genkt.deduplicate(found, threshold=0.99999, store=str(home / "store"))
    assert kept.images.ids == gallery.ids
    fewer = genkt.deduplicate(found, threshold=0.99, store=str(home / "store"))
    loose = genkt.deduplicate(found, threshold=0.99, mode="leader", store=str(home / "store"))
    assert 3 <= len(fewer) <= len(loose) < 45
    with refused(key="duplicates", got=1.5, kind=genkt.UserError):
        genkt.deduplicate(found, threshold=1.5, store=str(home / "store"))


def tiny_clip() -> ClipEncoder:
    """An open_clip model of a few weights."""
    import torch

    open_clip = pytest.importorskip("open_clip")
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg

    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=1, width=32, head_width=16, patch_size=8, image_size=16)
    text = CLIPTextCfg(context_length=16, vocab_size=49408, width=32, heads=2, layers=1)
    model = open_clip.CLIP(12, vision, text)
    tokenizer = open_clip.get_tokenizer("ViT-B-32", context_length=16)
    half = (0.5, 0.5, 0.5)
    return ClipEncoder(model, tokenizer, ImageTransform((16, 16), half, half), "open_clip:tiny")


def test_equal_weights_that_compute_something_else_are_another_encoder() -> None:
    open_clip = pytest.importorskip("open_clip")
    encoder = tiny_clip()
    before = encoder.fingerprint()
    assert before == tiny_clip().fingerprint()
    for block in encoder.model.transformer.resblocks:
        block.mlp.gelu = open_clip.transformer.QuickGELU()
    assert encoder.fingerprint() != before


def test_words_find_images(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "load_clip", lambda *_, **__: tiny_clip())

    more = ["strategy=text", "encoder=open_clip:ViT-B-32", "encoder.pretrained=false",
            "text.templates=['a {}.','the {}']", "encoder.leaks=null", "num_images=12"]  # fmt: skip
    plain = [word for word in words(home)[1:] if not word.startswith("encoder")]
    config = read_config(RetrieveConfig, "retrieve", [*plain, *more, "encoder.duplicates=null"])
    found = prepare_retrieval.retrieve(config, "genkt retrieve")
    parents = {record.parent for record in found.records()}
    texts = {f"text:{form.format(name)}" for name in ("cat", "dog", "elk")
             for form in ("a {}.", "the {}")}  # fmt: skip
    assert len(found) == 12 and parents <= texts
    assert max((record.detail or {})["rank"] for record in found.records()) >= 2
    page = (home / "set" / "contact_sheet.html").read_text()
    assert any(f"<b>{text}</b>" in page for text in texts)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["encoder=open_clip:ViT-B-33"], "no model of open_clip. Did you mean ViT-B-32"),
        (["encoder=open_clip:ViT-B-32"], "expected encoder.weights, a file or one of its tags"),
        (
            ["encoder=open_clip:ViT-B-32", "encoder.weights=/no/such.pt"],
            "its weights /no/such.pt cannot be loaded",
        ),
    ],
)
def test_clip_models_that_are_not_there(home: Path, more: list[str], message: str) -> None:
    pytest.importorskip("open_clip")
    plain = [word for word in words(home) if not word.startswith("encoder")]
    ran = run(*plain, *more, "strategy=text")
    assert ran.code == 2 and len(ran.lines) == 1 and message in ran.err, ran.err


def test_glyphs_begin_alike_and_hold_no_digit_of_the_data(tmp_path: Path) -> None:
    from genkt.data.builtin.digits import digits

    few = glyph_gallery(GlyphSettings(30, 0), tmp_path)
    more = glyph_gallery(GlyphSettings(520, 0), tmp_path)
    assert more.ids[:30] == few.ids and len(set(more.ids)) == 520
    assert few.load(3).size == (32, 32)
    real = [np.asarray(part.load(i)) for part in digits().parts.values() for i in range(20)]
    drawn = {np.asarray(more.load(i)).tobytes() for i in range(520)}
    assert not drawn & {each.tobytes() for each in real}


def test_what_ships_is_for_characters(home: Path, caplog: pytest.LogCaptureFixture) -> None:
    plain = [word for word in words(home) if not word.startswith(("encoder", "gallery"))]
    more = ["num_images=4", "decontaminate.assume=keep", f"gallery={home / 'gallery'}"]
    ran = run(*plain, *more)
    assert ran.code == 0, ran.err
    assert "genkt:digits_teacher knows small drawn characters only" in caplog.text
    assert "gallery: glyphs" not in caplog.text


def test_a_network_in_a_package_knows_more_than_characters(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for encoder, warned in (("genkt:efficientnet_lite0", False), ("genkt:digits_teacher", True)):
        given = [f"encoder={encoder}", "encoder.pretrained=false", "gallery=photos"]
        warn_of_characters(read_config(RetrieveConfig, "retrieve", given))
        assert bool(caplog.records) == warned


def test_the_shortest_way(tmp_path: Path) -> None:
    small = ["glyphs.num_images=60", "num_images=30", f"store={tmp_path / 'store'}"]
    ran = run("retrieve", *small, f"out={tmp_path / 'set'}", "device=cpu")
    assert ran.code == 0, ran.err
    header = genkt.read_transfer_set(tmp_path / "set").header
    assert header["num_images"] == 30 and header["gallery"]["location"] == "glyphs"
    assert [each["name"] for each in header["encoders"]] == ["genkt:digits_teacher", "pixels"]
    assert "the gallery is drawn" in (tmp_path / "set" / "README.md").read_text()
    finished = tree(tmp_path / "set")
    (tmp_path / "set" / "work" / "queries").mkdir(parents=True)  # of a process killed at the end
    assert run("retrieve", *small, f"out={tmp_path / 'set'}", "device=cpu").code == 0
    assert tree(tmp_path / "set").keys() == finished.keys()
    assert not (tmp_path / "set" / "work").exists()


def test_every_draw_retrieves_its_own_set(tmp_path: Path) -> None:
    write_gallery(tmp_path / "gallery")
    more = [
        "transfer_set=retrieved", f"transfer_set.gallery={tmp_path / 'gallery'}",
        "transfer_set.encoder.model=pixels", "transfer_set.encoder.shares=null", "draws=2",
        "transfer_set.encoder.duplicates=null", "transfer_set.encoder.leaks=null",
        "transfer_set.num_images=10", "transfer_set.num_views=2", "transfer_set.num_threads=1",
    ]  # fmt: skip
    dry = run(*transfer_words(tmp_path, *more, "dry_run=true"))
    assert dry.code == 0, dry.err
    assert "6 labelled, 10 transfer per draw, 10 of them retrieved" in dry.out
    assert not (tmp_path / "cache").exists() and not (tmp_path / "run").exists()
    ran = run(*transfer_words(tmp_path, *more))
    assert ran.code == 0, ran.err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["transfer_set"]["composition"] == {"real, labelled": 6, "retrieved": 10}
    assert next(iter(report["stages"])) == "retrieve"
    parents = []
    for draw in (0, 1):
        found = genkt.read_transfer_set(tmp_path / "run" / "transfer_sets" / str(draw))
        assert len(found) == 10 and found.header["source"] == "retrieved"
        parents.append({record.parent for record in found.records()})
    assert parents[0] != parents[1] and all(len(each) <= 6 for each in parents)
    page = (tmp_path / "run" / "report.html").read_text()
    assert "contact_sheet.html" in page and "Every draw retrieved its transfer images" in page
    (note,) = [note for note in report["notes"] if "Every draw retrieved" in note]
    assert "with its own labelled images as queries; images of the data: identical files" in note
    before = tree(tmp_path / "run" / "transfer_sets")
    assert run(*transfer_words(tmp_path, *more)).code == 0
    after = tree(tmp_path / "run" / "transfer_sets")
    assert {p for p in after if after[p] != before.get(p)} <= {"0/config.yaml", "1/config.yaml"}
