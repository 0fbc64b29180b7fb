"""A run tells and shows near copies of its test pictures."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image
from tiny import CLASSES, run, transfer_words, write_images

from genkt.data.builtin.photos import DOWNSTREAM_PHOTOS, photo_crops


def test_a_test_picture_saved_again_among_the_training_ones_is_shown(tmp_path: Path) -> None:
    root = tmp_path / "images"
    write_images(root / "train", CLASSES, per_class=4)
    write_images(root / "test", CLASSES, per_class=2, first=5)
    photo = Image.fromarray(photo_crops(DOWNSTREAM_PHOTOS, 1, seed=3, size=96)[0])
    photo.save(root / "test" / "cat" / "photo.png")
    photo.resize((80, 80)).save(root / "train" / "dog" / "again.jpg", quality=80)
    (root / "unlabelled").mkdir()
    photo.resize((72, 72)).save(root / "unlabelled" / "third.jpg", quality=80)
    out = tmp_path / "run"
    ran = run(*transfer_words(tmp_path, f"out={out}", "data.labels_per_class=2"))
    assert ran.code == 0, ran.err
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    pairs = {(each["test"], each["image"]): each for each in report["near_copies"]["pairs"]}
    found = pairs["test/cat/photo.png", "train/dog/again.jpg"]
    assert found["part"] == "train" and 0.98 <= found["likeness"] <= 1
    assert pairs["test/cat/photo.png", "unlabelled/third.jpg"]["part"] == "unlabelled"
    (note,) = [note for note in report["notes"] if "near cop" in note]
    assert note in ran.err and "(1 in train, 1 in unlabelled)" in note
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "Near copies of test images" in page and "train/dog/again.jpg" in page
