"""Suspected leaks: who is one, the review page in a browser, decisions that fit or are refused."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from chromium import PROGRAM, Page
from PIL import Image
from retrieval_cases import add_leaks, make_home, words
from tiny import picture, run, tree

import genkt
from genkt.config.retrieval_settings import EncoderSettings
from genkt.retrieval.leaks import (
    Neighbour,
    Suspect,
    find_suspects,
    read_decisions,
    suspects_fingerprint,
)
from genkt.retrieval.review_page import ReviewRow, Shown, review_page

HOSTILE = "</script><img src=x onerror=\"alert(1)\">,=cmd|' /C'!A0\u202egnp"
PARTS = ("images/", "manifest/", "shards/")


def encoder(leaks: float | list[float | None] | None) -> EncoderSettings:
    return EncoderSettings(["a", "b"], None, True, None, {}, {}, False, None, leaks)


def rows(*values: list[float]) -> np.ndarray:
    array = np.array(values, dtype=np.float64)
    return (array / np.linalg.norm(array, axis=1, keepdims=True)).astype(np.float16)


def test_the_larger_similarity_over_encoders_and_crops_decides() -> None:
    reference = (rows([1, 0, 0], [0, 1, 0]), rows([1, 0, 0], [0, 0, 1]))
    whole = (
        rows([0, 0, 1], [0, 1, 0.1], [1, 1, 1]),
        rows([0, 1, 0], [0, 1, 0], [1, 1, 1]),
    )
    crops = (whole[0], rows([0, 1, 0], [0, 1, 0], [0, 0.05, 1]))
    ids = ["x#0", "y#1", "z#2"]
    found = find_suspects([whole], ids, reference, encoder(0.95), 5)
    assert [each.image_id for each in found] == ["y#1"]
    assert [near.row for near in found[0].neighbours] == [1, 0]
    assert found[0].neighbours[0].scores == pytest.approx((0.995, 0.0), abs=1e-3)
    found = find_suspects([whole, crops], ids, reference, encoder(0.95), 1)
    assert [each.image_id for each in found] == ["y#1", "z#2"]
    assert [near.row for near in found[1].neighbours] == [1]
    found = find_suspects([whole, crops], ids, reference, encoder([None, 0.95]), 1)
    assert [each.image_id for each in found] == ["z#2"]
    assert find_suspects([whole], ids, reference, encoder(None), 5) == []


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A retrieval that waits for decisions on suspects, one of which has a hostile name."""
    home = make_home(tmp_path_factory.mktemp("home"))
    add_leaks(home)
    name = HOSTILE.replace("/", "\u2215") + ".png"
    Image.open(home / "images" / "elk" / "5.png").resize((40, 40)).save(home / "gallery" / name)
    ran = run(*asked(home))
    assert ran.code == 2, ran.out
    assert len(ran.lines) == 1 and str(home / "set" / "review.html") in ran.err
    return home


def asked(home: Path, *more: str) -> list[str]:
    """Pixels compare; the copies are above the threshold and nothing else is."""
    plain = [word for word in words(home) if not word.startswith("encoder")]
    return [*plain, "encoder=pixels", "encoder.duplicates=null", "encoder.leaks=0.999",
            "num_images=100", "on_shortage=all", *more]  # fmt: skip


def suspects(home: Path) -> tuple[str, list[str]]:
    """Fingerprint and ids that the page holds."""
    import html

    text = (home / "set" / "review.html").read_text(encoding="utf-8")
    found = re.findall(r'data-id="([^"]*)"', text)
    fingerprints = re.findall(r'data-suspects="([0-9a-f]{32})"', text)
    return fingerprints[0], [html.unescape(each) for each in found]


def shown(image_id: str) -> str:
    """An id as the page holds it: without what turns text around."""
    return image_id.replace("\u202e", "\ufffd")


def decisions(path: Path, fingerprint: str, words: list[str]) -> Path:
    lines = [f"{number},{word},x,{fingerprint}\n" for number, word in enumerate(words)]
    path.write_text("suspect,decision,id,suspects\n" + "".join(lines))
    return path


def test_the_page_shows_suspects_and_their_neighbours(reviewed: Path) -> None:
    _, ids = suspects(reviewed)
    text = (reviewed / "set" / "review.html").read_text(encoding="utf-8")
    assert any(each.startswith("again.webp#") for each in ids) and len(ids) < 12
    assert text.count('class="suspect"') == len(ids)
    assert text.count("<figure>") == 6 * len(ids)  # itself and five neighbours
    for part in ("train", "test", "validation"):
        assert f"<b>{part}</b>" in text
    assert "http" not in text.replace("http-equiv", "") and "<img src=x" not in text
    assert "\u202e" not in text


def test_decisions_are_applied_and_others_refused(reviewed: Path, tmp_path: Path) -> None:
    fingerprint, ids = suspects(reviewed)
    path, count = tmp_path / "decisions.csv", len(ids)
    for words_given, print_given, message in (
        (["drop"] * (count - 1), fingerprint, f"1 of {count} suspects are not decided"),
        (["drop"] * (count - 1) + ["perhaps"], fingerprint, "are not decided (keep or drop)"),
        (["drop"] * count, "0" * 32, "was saved for other suspects"),
        ([], fingerprint, "expected columns suspect, decision, id, suspects"),
    ):
        decisions(path, print_given, words_given)
        ran = run(*asked(reviewed, f"decontaminate.decisions={path}"))
        assert ran.code == 2 and len(ran.lines) == 1 and message in ran.err, ran.err
    ran = run(*asked(reviewed, f"decontaminate.decisions={tmp_path / 'none.csv'}"))
    assert ran.code == 2 and "none.csv" in ran.err
    words_given = ["drop" if each.startswith("again") else "keep" for each in ids]
    assert set(words_given) == {"drop", "keep"}
    decisions(path, fingerprint, words_given)
    ran = run(*asked(reviewed, f"decontaminate.decisions={path}"))
    assert ran.code == 0, ran.err
    found = genkt.read_transfer_set(reviewed / "set")
    images = {shown((record.detail or {})["image"]) for record in found.records()}
    assert set(ids) - images == {each for each in ids if each.startswith("again")}
    assert found.header["funnel"]["dropped"]["leak"] == 1
    assert "reviewed by eye" in (reviewed / "set" / "README.md").read_text()
    decisions(path, fingerprint, ["drop"] * count)
    ran = run(*asked(reviewed, f"decontaminate.decisions={path}"))
    assert ran.code == 2 and "finished with other decisions" in ran.err


@pytest.mark.parametrize(("separator", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-16")])
def test_decisions_that_a_spreadsheet_saved_again(
    separator: str, encoding: str, tmp_path: Path
) -> None:
    rows = ["suspect,decision,id,suspects", '0,keep,"a, b#1",f', "1,drop,c#2,f"]
    text = "\r\n".join(rows).replace(",", separator).replace(f"a{separator}", "a,")
    (tmp_path / "d.csv").write_text(text, encoding=encoding, newline="")
    found = [Suspect(place, name, ()) for place, name in enumerate(["a, b#1", "c#2"])]
    assert read_decisions(tmp_path / "d.csv", found, "f") == [False, True]


def test_decisions_on_another_crop_are_others() -> None:
    """The id of its image and its neighbours may be the same: their similarity is not."""
    one, other = (
        [Suspect(0, "gallery/a.png#1", (Neighbour(0, (score,)),))] for score in (0.991, 0.997)
    )
    ids = ["data/b.png#2"]
    assert suspects_fingerprint(one, ids) == suspects_fingerprint(list(one), list(ids))
    assert suspects_fingerprint(one, ids) != suspects_fingerprint(other, ids)
    assert suspects_fingerprint(one, ids) != suspects_fingerprint(one, ["data/c.png#3"])


@pytest.mark.parametrize("word", ["leak", "keep"])
def test_without_anyone_to_ask(reviewed: Path, tmp_path: Path, word: str) -> None:
    _, ids = suspects(reviewed)
    ran = run(*asked(reviewed, f"decontaminate.assume={word}", f"out={tmp_path / 'set'}"))
    assert ran.code == 0, ran.err
    found = genkt.read_transfer_set(tmp_path / "set")
    images = {shown((record.detail or {})["image"]) for record in found.records()}
    assert len(images & set(ids)) == (0 if word == "leak" else len(ids))
    assert (tmp_path / "set" / "review.html").is_file()


def test_a_continued_run_keeps_to_its_last_decisions(reviewed: Path, tmp_path: Path) -> None:
    trees = []
    for name, word in (("fresh", "leak"), ("killed", "keep"), ("killed", "leak")):
        ran = run(*asked(reviewed, f"decontaminate.assume={word}", f"out={tmp_path / name}",
                         "shard_size=15"))  # fmt: skip
        assert ran.code == 0, ran.err
        files = tree(tmp_path / name)
        trees.append({path: data for path, data in files.items() if path.startswith(PARTS)})
        if word == "keep":
            (tmp_path / name / "transfer_set.json").unlink()  # it was killed before the last step
    fresh, kept, continued = trees
    assert "shards/00003.json" in kept and "shards/00003.json" not in fresh
    assert continued == fresh


def sample_page() -> str:
    """A page of four suspects."""
    made = [
        ReviewRow(
            f"{name}.png#0{number}",
            "largest similarity: pixels 0.991",
            (Shown(picture(number % 3, number, 90), "retrieved", "90 x 90"),),
            tuple(Shown(picture(number % 3, near, 90), "test", "0.97") for near in range(5)),
        )
        for number, name in enumerate(("one", HOSTILE, "three", "four"))
    ]
    return review_page(made, "f" * 32, "genkt retrieve num_images=9", "Similar.")


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium here")
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    path = tmp_path / "review.html"
    path.write_text(sample_page(), encoding="utf-8")
    with Page(path, tmp_path) as page:
        count = "document.getElementById('count').textContent"
        here = "cards.findIndex(card => card.classList.contains('here'))"
        assert page.value(count) == "0 of 4 decided"
        assert page.value("document.getElementById('save').disabled") is True
        for key in ("j", "ArrowDown", "j", "j", "k", "ArrowUp"):
            page.press(key)
        assert page.value(here) == 1
        for key in ("d", "s", "u", "d"):
            page.press(key)
        assert page.value(count) == "2 of 4 decided" and page.value(here) == 3
        page.press("s")
        assert page.value("document.getElementById('save').disabled") is True
        page.value("cards[0].querySelector('[data-set=keep]').click()")
        assert page.value(count) == "4 of 4 decided"
        page.call("Page.reload")
        page._wait(lambda: page.value(count) == "4 of 4 decided")  # it remembers
        page.value("document.getElementById('save').click()")
        saved = list(csv.DictReader(io.StringIO(page.saved("decisions.csv"))))
        assert page.messages() == []
        assert page.value("document.querySelectorAll('img[src=x]').length") == 0
    assert [row["decision"] for row in saved] == ["keep", "drop", "drop", "keep"]
    assert {row["suspects"] for row in saved} == {"f" * 32}
    assert saved[0]["id"] == "one.png#00"


@pytest.mark.skipif(PROGRAM is None, reason="no Chromium here")
def test_no_other_script_runs(tmp_path: Path) -> None:
    path = tmp_path / "review.html"
    page_text = sample_page().replace("<main>", "<main><script>window.bad = 1</script>"
                                      '<img src="data:," onerror="window.bad = 2">')  # fmt: skip
    path.write_text(page_text, encoding="utf-8")
    with Page(path, tmp_path) as page:
        assert page.value("window.bad") is None
        assert any("Content Security Policy" in message for message in page.messages())
