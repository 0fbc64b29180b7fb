"""``genkt inspect``: what is there is told, what is wrong is named, nobody's folder is touched."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from composition_cases import CLASSES, drawn, plain, retrieved
from PIL import Image
from refusals import refused
from tiny import Ran, run, tree, write_images

from genkt.data.images import ImageSet
from genkt.inference import inspect_images
from genkt.inference.inspect_images import inspect
from genkt.report.kit.families import Family, SheetPage, families_html, funnel_text, sheet_page
from genkt.runs.set_card import families_of
from genkt.transfer_set.composition import TransferSet
from genkt.transfer_set.set_files import ImageFiles, Record

FUNNEL = {"asked": 9, "found": 9, "duplicates": 1, "leaks": 1, "kept": 7}
HOSTILE = '<script>alert("x")</script>\x1b[2J\nquery'


def looked_at(*words: str | Path) -> Ran:
    return run("inspect", *map(str, words))


@pytest.mark.parametrize("container", ["folder", "tar"])
def test_a_retrieved_set(container: str, tmp_path: Path) -> None:
    files = ImageFiles("png", container=container)  # type: ignore[arg-type]
    found = retrieved("a", 7)
    header = {"funnel": {**FUNNEL, "dropped": {"too dark": 2}}}
    found.save(tmp_path / "set", files=files, shard_size=3, header=header)
    kept = tree(tmp_path / "set")
    ran = looked_at(tmp_path / "set", "check=true", "examples=2")
    assert ran.code == 0, ran.err
    assert "9 images asked, 9 found, 1 duplicates, 1 leaks, 7 kept (left out: 2 too" in ran.out
    for expected in ("7 retrieved", "7 no label", "6 x 6 pixels", "3 shards, png in", "score 0.5"):
        assert expected in ran.out
    page = (tmp_path / "set" / "contact_sheet.html").read_text()
    assert page.count("<figure>") == 2 and "q/0.png" in page and "0.500 · 0.520" in page
    assert "http" not in page.replace("http-equiv", "")
    card = (tmp_path / "set" / "README.md").read_text()
    assert f"TransferSet.open({str(tmp_path / 'set')!r})" in card and "1 duplicates" in card
    # What the set has already stays as it is.
    (tmp_path / "set" / "README.md").write_text("mine")
    assert looked_at(tmp_path / "set").out == looked_at(tmp_path / "set", "examples=3").out
    now = tree(tmp_path / "set")
    assert now["README.md"] == b"mine" and kept.items() <= now.items()


def test_a_mix_and_its_copies(tmp_path: Path) -> None:
    mixed = TransferSet.mix({"made": (plain("a", 4), 3), "again": (plain("a", 4), 1)})
    mixed.save(tmp_path / "set", files=ImageFiles("png"))
    ran = looked_at(tmp_path / "set")
    assert (
        "75 % made (4), 25 % again (4)" in ran.out and "4 images have the same content" in ran.out
    )
    assert "2 cat, 2 <b>dög, 4 no label" in ran.out


def test_a_plain_folder_is_left_alone(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", ("x", "y"), 4)
    Image.new("RGB", (300, 200)).save(tmp_path / "photos" / "wide.png")
    (tmp_path / "photos" / "bad.png").write_bytes(b"no picture")
    before = tree(tmp_path)
    ran = looked_at(tmp_path / "photos")
    assert ran.code == 0 and tree(tmp_path) == before, ran.err
    assert "9 real" in ran.out and "20 x 20 to 300 x 200 pixels" in ran.out
    assert "bad.png" in ran.out and "give out=FOLDER" in ran.out
    ran = looked_at(tmp_path / "photos", f"out={tmp_path / 'seen'}")
    assert ran.code == 0, ran.err
    assert {path.name for path in (tmp_path / "seen").iterdir()} == {
        "contact_sheet.html", "README.md", "inspection.json",
    }  # fmt: skip
    facts = json.loads((tmp_path / "seen" / "inspection.json").read_text())
    assert facts["sources"] == "9 real"
    again = tree(tmp_path / "seen")
    assert looked_at(tmp_path / "photos", f"out={tmp_path / 'seen'}").code == 0
    assert tree(tmp_path / "seen") == again


def test_an_inspection_killed_while_it_writes_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "photos", ("x",), 3)
    words, seen = (tmp_path / "photos", f"out={tmp_path / 'seen'}"), tmp_path / "seen"
    write = inspect_images.write_text

    def killed(path: Path, text: str) -> None:
        write(path, text)
        raise KeyboardInterrupt

    monkeypatch.setattr(inspect_images, "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        inspect(str(words[0]), out=seen)
    monkeypatch.undo()
    assert (seen / "contact_sheet.html").is_file() and not (seen / "README.md").exists()
    assert looked_at(*words).code == 0
    assert (seen / "README.md").is_file()


def test_nothing_is_written_into_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", ("x",), 3)
    for out in ("photos", "photos/x/1.png"):
        before = tree(tmp_path)
        ran = looked_at(tmp_path / "photos", f"out={tmp_path / out}")
        assert ran.code == 2 and len(ran.lines) == 1 and tree(tmp_path) == before
        assert "holds no inspection" in ran.err or "got a file" in ran.err


def test_other_places(tmp_path: Path) -> None:
    plain("a", 5).save(tmp_path / "set", files=ImageFiles("png", container="tar"), shard_size=2)
    ran = looked_at(tmp_path / "set" / "images" / "*.tar")
    assert ran.code == 0 and "5 real" in ran.out, ran.err
    assert "200 real" in looked_at("torchvision:fake::test").out
    ran = looked_at(tmp_path / "nothing")
    assert ran.code == 2 and len(ran.lines) == 1 and "nothing" in ran.err
    ran = looked_at()
    assert ran.code == 2 and "set: required" in ran.err


@pytest.mark.parametrize(
    ("file", "damage", "fault"),
    [
        ("shards/00001.json", None, "shard 1 is missing"),
        ("shards/00001.json", b"{", "00001.json: damaged, expected the marker of a shard"),
        ("manifest/00001.jsonl", b"{}\n", "00001.jsonl: damaged"),
        ("images/00001/000001.png", None, "images/00001: expected 2 images, found 1"),
        ("images/00001/000001.png", b"x", "000001.png: not the image that the manifest names"),
    ],
)
def test_damage_is_named_with_what_to_do(
    file: str, damage: bytes | None, fault: str, tmp_path: Path
) -> None:
    images = drawn("a", 5)
    save = TransferSet.of(images).save
    save(tmp_path / "set", files=ImageFiles("png"), shard_size=2, progress=False)
    whole, path = tree(tmp_path / "set"), tmp_path / "set" / file
    path.unlink() if damage is None else path.write_bytes(damage)
    ran = looked_at(tmp_path / "set", "check=true")
    assert ran.code == 2 and fault in ran.err, ran.err
    assert len(ran.lines) == 1 and not (tmp_path / "set" / "README.md").exists()
    assert "remove transfer_set.json and shards/00001.json" in ran.err
    for name in ("transfer_set.json", "shards/00001.json"):  # and that is what helps
        (tmp_path / "set" / name).unlink(missing_ok=True)
    save(tmp_path / "set", files=ImageFiles("png"), shard_size=2, progress=False)
    assert tree(tmp_path / "set") == whole


def test_a_set_that_is_not_finished(tmp_path: Path) -> None:
    plain("a", 5).save(tmp_path / "set", shard_size=2)
    (tmp_path / "set" / "transfer_set.json").unlink()
    ran = looked_at(tmp_path / "set")
    assert ran.code == 2 and "3 finished" in ran.out
    assert "not finished; repeat its command to continue it: TransferSet.save(...)" in ran.err
    (tmp_path / "set" / "transfer_set.json").write_text('{"format": 7}')
    with refused(7, 1):
        inspect(str(tmp_path / "set"))


def test_hostile_texts_stay_texts(tmp_path: Path) -> None:
    images = drawn("a", 3)
    named = ImageSet(images.ids, [0, 1, -1], (HOSTILE, "b"), images.items, images.open_item)

    def record(row: int) -> Record:
        parent = None if row < 2 else f"{HOSTILE}#0"
        detail = {"method": HOSTILE, "score": 1.0}
        return Record(named.ids[row], int(named.labels[row]), "retrieved", parent, None, detail)

    found = TransferSet.of(named, "retrieved", records=record)
    found.save(
        tmp_path / "set", header={"funnel": {"asked": 3, "kept": 2, "dropped": {HOSTILE: 1}}}
    )
    ran = looked_at(tmp_path / "set")
    assert ran.code == 0 and "\x1b" not in ran.out and "\nquery" not in ran.out, ran.err
    for name in ("contact_sheet.html", "README.md"):
        text = (tmp_path / "set" / name).read_text()
        assert "<script" not in text and "\x1b" not in text


def test_families_lead_with_their_originals_where_these_are_at_hand() -> None:
    queries = drawn("q", 2)
    source = plain("a", 6, "retrieved")
    found = TransferSet.of(
        source.images, "retrieved",
        records=lambda row: Record(source.images.ids[row], source.record(row).label, "retrieved",
                                   queries.ids[row % 2], None, {"score": row / 10}),
    )  # fmt: skip
    families = families_of(found, queries, each=2)
    assert [family.title for family in families] == ["q/0", "q/1"]
    assert [len(family.leading) for family in families] == [1, 1]
    assert [family.captions for family in families] == [("0.000", "0.200"), ("0.100", "0.300")]
    assert not any(family.leading for family in families_of(found))
    by_class = families_of(plain("b", 50), each=16)
    assert [family.title for family in by_class] == [
        "real, no label (1)", CLASSES[0], CLASSES[1], "real, no label (2)",
    ]  # fmt: skip
    assert [len(family.pictures) for family in by_class] == [16, 16, 16, 1]


def test_what_an_image_found_is_no_family_of_what_was_made_from_it() -> None:
    found, images = retrieved("a", 4), drawn("b", 2).without_labels()
    made = TransferSet.of(
        images, "synthesized",
        records=lambda row: Record(images.ids[row], -1, "synthesized", found.record(row).parent),
    )  # fmt: skip
    families = families_of(found.concat(made))
    assert [family.title for family in families] == ["q/0.png", "q/1.png"] * 2
    assert [len(family.pictures) for family in families] == [2, 2, 1, 1]
    assert [family.detail.split(",")[0] for family in families[1:3]] == [
        "found by it", "made from it",
    ]  # fmt: skip


def test_a_page_of_families() -> None:
    shown = tuple(np.asarray(drawn("a", 3, side).load(0)) for side in (8, 200))
    family = Family(HOSTILE, HOSTILE, shown[:1], shown, (HOSTILE, "0.5"))
    page = sheet_page(
        SheetPage(HOSTILE, (HOSTILE, HOSTILE), [(HOSTILE, HOSTILE)], FUNNEL, HOSTILE, HOSTILE,
                  [family], HOSTILE, "0")
    )  # fmt: skip
    assert "<script" not in page and "\x1b" not in page and page.count("<img") == 1
    assert 'aria-label="78 % kept"' in page
    assert 'class="rows"' in families_html([]) and funnel_text({}) == ""
