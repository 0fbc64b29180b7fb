"""Transfer sets composed of one another: an algebra on rows, saved and opened unchanged."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from composition_cases import CLASSES, drawn, plain, retrieved, stopping
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from tiny import tree, write_images

import genkt
from genkt.data.images import ImageSet
from genkt.transfer_set.composition import TransferSet
from genkt.transfer_set.parts import Part
from genkt.transfer_set.set_files import ImageFiles, Record
from genkt.types import UserError

fast = settings(max_examples=30, deadline=None)
few = settings(max_examples=6, deadline=None)


@st.composite
def sets(draw: st.DrawFn, most: int = 9) -> TransferSet:
    """A set of one kind, or one made of others."""
    count = draw(st.integers(1, most))
    kind = draw(st.sampled_from(["real", "synthesized", "retrieved", "concat", "select"]))
    if kind == "retrieved":
        return retrieved(f"r{count}", count).without_labels()
    if kind == "concat":
        return draw(sets(4)).without_labels().concat(draw(sets(4)).without_labels())
    if kind == "select":
        found = draw(sets(6))
        return found.select(draw(st.lists(st.integers(0, len(found) - 1), min_size=1)))
    return plain(f"{kind}{count}", count, kind)  # type: ignore[arg-type]


def rows_of(found: TransferSet) -> list[tuple[str, int, str, str | None]]:
    return [(r.id, r.label, r.source, r.parent) for r in found.records()]


@fast
@given(st.lists(sets(), min_size=1, max_size=4), st.data())
def test_concat_and_select_are_those_of_lists(members: list[TransferSet], data: Any) -> None:
    members = [member.without_labels() for member in members]
    whole = members[0].concat(*members[1:])
    expected = [row for member in members for row in rows_of(member)]
    assert rows_of(whole) == expected and len(whole) == len(expected)
    assert sum(whole.counts().values()) == len(whole)
    rows = data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=12))
    part = whole.select(rows)
    assert rows_of(part) == [expected[row] for row in rows]
    assert part.read(range(len(part))) == whole.read(rows)
    again = data.draw(st.lists(st.integers(0, max(0, len(rows) - 1)), max_size=6 if rows else 0))
    assert rows_of(part.select(again)) == [expected[rows[row]] for row in again]
    for place, row in enumerate(rows[:2]):
        assert np.array_equal(part.images.load(place), whole.images.load(row))


@fast
@given(sets(), st.integers(0, 12), st.integers(0, 12), st.integers(0, 3))
def test_fewer_are_among_more_in_the_order_of_the_set(
    found: TransferSet, one: int, other: int, seed: int
) -> None:
    found = found.deduplicate()
    small, large = (found.cap(n, seed).images.ids for n in sorted((one, other)))
    assert len(small) == min(one, other, len(found))
    assert [each for each in large if each in set(small)] == list(small)
    assert [each for each in found.images.ids if each in set(large)] == list(large)
    turned = found.select(range(len(found))[::-1])
    assert set(turned.cap(one, seed).images.ids) == set(found.cap(one, seed).images.ids)


@fast
@given(sets(), st.floats(0, 1), st.integers(0, 3))
def test_a_split_is_disjoint_and_complete(found: TransferSet, share: float, seed: int) -> None:
    numbered = found.deduplicate()
    one, other = numbered.split(share, seed)
    ids = numbered.images.ids
    assert len(one) == round(share * len(ids))
    assert not set(one.images.ids) & set(other.images.ids)
    assert sorted([*one.images.ids, *other.images.ids]) == sorted(ids)
    assert [x for x in ids if x in set(one.images.ids)] == list(one.images.ids)
    assert rows_of(numbered.split(share, seed)[1]) == rows_of(other)


@fast
@given(st.lists(st.integers(1, 5), min_size=1, max_size=9), st.floats(0, 1), st.integers(0, 3))
def test_copies_stand_on_one_side_of_a_split(counts: list[int], share: float, seed: int) -> None:
    found = plain("a", len(counts)).select(np.repeat(np.arange(len(counts)), counts))
    one, other = found.split(share, seed)
    assert not set(one.images.ids) & set(other.images.ids)
    assert sorted([*one.images.ids, *other.images.ids]) == sorted(found.images.ids)
    assert 2 * abs(len(one) - round(share * len(found))) <= max(counts)


@fast
@given(sets(), st.data())
def test_deduplication_keeps_the_first_of_each_content(found: TransferSet, data: Any) -> None:
    again = found.concat(found.select(data.draw(st.permutations(range(len(found))))))
    once = again.deduplicate()
    assert list(once.images.ids) == list(dict.fromkeys(found.images.ids))
    assert rows_of(once.deduplicate()) == rows_of(once)


def test_a_mix_keeps_names_and_shares_and_divides_those_of_a_mix_in_it() -> None:
    inner = TransferSet.mix({"digg": (plain("a", 3), 3), "irf": (plain("b", 2), 1)})
    mixed = TransferSet.mix({"made": (inner, 0.8), "found": (retrieved("c", 4), 0.2)})
    assert mixed.parts == (Part("made/digg", 0.6), Part("made/irf", 0.2), Part("found", 0.2))
    assert mixed.part_counts() == {"made/digg": 3, "made/irf": 2, "found": 4}
    assert repr(mixed) == (
        "TransferSet(9 images: 5 real, 4 retrieved; "
        "60 % made/digg (3), 20 % made/irf (2), 20 % found (4))"
    )
    fewer = mixed.select([8, 0])
    assert fewer.part_of.tolist() == [2, 0] and fewer.parts == mixed.parts
    assert mixed.flat().parts == () and rows_of(mixed.flat()) == rows_of(mixed)


def test_labelled_images_beside_a_set() -> None:
    few_images = drawn("few", 3)
    assert plain("a", 4).with_labelled(few_images).counts() == {"real": 7}
    mixed = plain("a", 4).with_labelled(few_images, 0.25)
    assert mixed.parts == (Part("set", 0.75), Part("labelled", 0.25))
    assert (mixed.images.labels == -1).all()  # a draw brings the labels
    with refused(key="with_labelled", got=1):
        mixed.with_labelled(few_images, 1)


@pytest.mark.parametrize(
    ("action", "named"),
    [
        (lambda: TransferSet.mix({}), "mix"),
        (lambda: TransferSet.mix({"a": (plain("a", 2), 0)}), 0),
        (lambda: TransferSet.mix({"a": (plain("a", 2), float("nan"))}), "nan"),
        (lambda: TransferSet.mix({"a": (plain("a", 2).select([]), 1)}), "mix: a"),
        (
            lambda: TransferSet.mix({"a": plain("a", 2)}),  # type: ignore[dict-item]
            "TransferSet(2 real images)",
        ),
        (lambda: plain("a", 2).cap(-1), -1),
        (
            lambda: TransferSet.mix({"a": (plain("a", 2), 1)}).concat(plain("b", 2)),
            "shares",
        ),
        (lambda: plain("a", 2).split(1.5), 1.5),
        (lambda: plain("a", 2).directory, "save(...)"),
        (lambda: plain("a", 2).tokens(0), "save(...)"),
        (lambda: TransferSet.open([]), "place"),
        (
            lambda: plain("a", 2).concat(TransferSet.of(ImageSet(["x#1"], [0], ["elk"], [0], _no))),
            "classes",
        ),
    ],
)
def test_what_cannot_be_composed_is_told(action: Any, named: object) -> None:
    with refused(named) as caught:
        action()
    assert "\n" not in str(caught.value)


def _no(sample_id: str, item: int) -> Any:
    raise AssertionError("nothing is opened before it is loaded")


def test_nothing_is_opened_by_composing(tmp_path: Path) -> None:
    images = drawn("a", 6)
    shut = TransferSet.of(ImageSet(images.ids, images.labels, images.classes, images.items, _no))
    mixed = TransferSet.mix({"a": (shut.cap(4), 1), "b": (shut.split(0.5)[0], 1)})
    assert len(mixed.deduplicate().without_labels().select([0])) == 1
    assert len(list(mixed.records())) == 7


@few
@given(
    st.lists(sets(), min_size=1, max_size=3),
    st.sampled_from(["folder", "tar"]),
    st.integers(1, 7),
    st.booleans(),
)
def test_what_is_saved_is_opened(
    members: list[TransferSet], container: Literal["folder", "tar"], size: int, mixes: bool
) -> None:
    members = [member.without_labels() for member in members]
    found = members[0].concat(*members[1:])
    if mixes:
        found = TransferSet.mix({f"p{n}": (member, n + 1) for n, member in enumerate(members)})
    with tempfile.TemporaryDirectory() as home:
        files = ImageFiles("png", container=container)
        saved = found.save(Path(home) / "set", files=files, shard_size=size, progress=False)
        read = TransferSet.open(Path(home) / "set")
        assert saved.num_shards == -(-len(found) // size) == read.num_shards
        assert read.parts == found.parts and read.part_of.tolist() == found.part_of.tolist()
        assert read.counts() == found.counts()
        for row, (old, new) in enumerate(zip(found.records(), read.records(), strict=True)):
            assert (old.label, old.source, old.parent) == (new.label, new.source, new.parent)
            detail = dict(new.detail or {})
            assert detail.pop("original") == old.id
            assert detail.pop("part", None) == (
                found.parts[found.part_of[row]].name if mixes else None
            )
            assert detail == dict(old.detail or {})
            assert np.array_equal(found.images.load(row), read.images.load(row))
        again = read.select(range(len(read))[::-1]).save(Path(home) / "again", progress=False)
        first = (again.record(len(again) - 1).detail or {})["original"]
        assert first == found.images.ids[0]  # the id it had first, however often it is saved


def test_labels_and_classes_are_saved(tmp_path: Path) -> None:
    found = plain("a", 5).save(tmp_path / "set", header={"funnel": {"asked": 5, "kept": 5}})
    assert found.images.classes == CLASSES and found.images.labels.tolist() == [-1, 0, 1, -1, 0]
    assert found.header["funnel"] == {"asked": 5, "kept": 5} and found.header["source"] == "real"
    assert found.without_labels().record(1).label == -1
    assert pickle.loads(pickle.dumps(found)).record(4) == found.record(4)


def save(found: TransferSet, path: Path) -> None:
    found.save(path, files=ImageFiles("png"), shard_size=4, progress=False)


def test_an_interrupted_save_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    images, flag = drawn("a", 11), tmp_path / "flag"
    save(TransferSet.of(images), tmp_path / "once")
    flag.touch()
    found = TransferSet.of(stopping(images, 9, flag))
    with pytest.raises(KeyboardInterrupt):
        save(found, tmp_path / "set")
    assert len(list((tmp_path / "set" / "shards").iterdir())) == 2
    with refused("set"):
        genkt.TransferSet.open(tmp_path / "set")
    flag.unlink()
    before = (tmp_path / "set" / "shards" / "00001.json").stat().st_mtime_ns
    save(found, tmp_path / "set")
    assert (tmp_path / "set" / "shards" / "00001.json").stat().st_mtime_ns == before
    assert tree(tmp_path / "set") == tree(tmp_path / "once")
    save(found, tmp_path / "set")  # a finished one is opened
    assert tree(tmp_path / "set") == tree(tmp_path / "once")


def in_processes(jobs: list[tuple[TransferSet, Path]]) -> list[int]:
    context = multiprocessing.get_context("spawn")
    running = [context.Process(target=save, args=job) for job in jobs]
    for process in running:
        process.start()
    for process in running:
        process.join(60)
    return [process.exitcode or 0 for process in running]


def test_a_killed_save_goes_on_and_two_at_once_lose_nothing(tmp_path: Path) -> None:
    images, flag = drawn("a", 11), tmp_path / "flag"
    save(TransferSet.of(images), tmp_path / "once")
    flag.touch()
    killed = TransferSet.of(stopping(images, 6, flag, kill=True))
    at_once = (TransferSet.of(images), tmp_path / "two")
    assert in_processes([(killed, tmp_path / "set"), at_once, at_once]) == [-9, 0, 0]
    assert tree(tmp_path / "two") == tree(tmp_path / "once")
    flag.unlink()
    save(TransferSet.of(images), tmp_path / "set")
    assert tree(tmp_path / "set") == tree(tmp_path / "once")


def test_a_set_is_not_written_over_anything_else(tmp_path: Path) -> None:
    found = plain("a", 4).save(tmp_path / "set")
    kept = tree(tmp_path / "set")
    for other, message in (
        (plain("b", 4), "holds another run or transfer set"),
        (found.without_labels(), "the set is stored there"),
        (plain("a", 4).without_labels(), "holds another run or transfer set"),
        (plain("a", 4, "synthesized"), "holds another run or transfer set"),
    ):
        with pytest.raises(UserError, match=message):
            other.save(tmp_path / "set")
    with refused("set"):
        plain("a", 4).save(tmp_path / "set", shard_size=2)
    assert tree(tmp_path / "set") == kept
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.txt").write_text("x")
    with refused("mine"):
        found.save(tmp_path / "mine")
    assert tree(tmp_path / "mine") == {"a.txt": b"x"}
    with refused("a.txt"):
        found.save(tmp_path / "mine" / "a.txt")
    with refused("none"):
        found.select([]).save(tmp_path / "none")


def test_an_image_that_is_gone_stops_a_save_that_can_go_on(tmp_path: Path) -> None:
    first = plain("a", 6).save(tmp_path / "one", files=ImageFiles("png"), shard_size=3)
    victim = first.directory / first.record(4).file
    data = victim.read_bytes()
    victim.unlink()
    with refused("000001.png") as caught:
        save(first, tmp_path / "two")
    assert "\n" not in str(caught.value) and not (tmp_path / "two" / "transfer_set.json").exists()
    victim.write_bytes(data)
    save(first, tmp_path / "two")
    assert len(TransferSet.open(tmp_path / "two")) == 6


def test_records_of_a_set_that_changed_after_it_was_opened(tmp_path: Path) -> None:
    found = plain("a", 4).save(tmp_path / "set")
    path = tmp_path / "set" / "manifest" / "00000.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0][:-20] + "\n", *lines[1:]]))
    with refused("00000.jsonl"):
        found.record(0)
    path.write_text("".join([lines[3], *lines[1:]]))
    with refused("images/00000/000000.webp", "images/00000/000003.webp"):
        list(found.records())
    path.unlink()
    with refused("00000.jsonl"):
        found.record(1)


def test_the_same_ids_twice_are_two_rows(tmp_path: Path) -> None:
    found = plain("a", 3)
    twice = found.concat(found).save(tmp_path / "set", files=ImageFiles("png"))
    assert len(twice) == 6 and len(twice.deduplicate()) == 3
    assert [(r.detail or {})["original"] for r in twice.records()] == 2 * list(found.images.ids)


def test_any_place_of_images_is_opened(tmp_path: Path) -> None:
    write_images(tmp_path / "photos", ("x",), 5)
    saved = retrieved("a", 3).save(tmp_path / "set", files=ImageFiles(container="tar"))
    assert TransferSet.open(tmp_path / "photos").counts() == {"real": 5}
    both = TransferSet.open([str(tmp_path / "photos"), str(saved.directory)])
    assert both.counts() == {"real": 5, "retrieved": 3}
    assert TransferSet.open(str(tmp_path / "set" / "images" / "*.tar")).counts() == {"real": 3}
    with refused("photoz"):
        TransferSet.open(str(tmp_path / "photoz"))


OLD_LINE = {
    "id": "images/00000/000000.png#HASH", "file": "images/00000/000000.png", "label": -1,
    "source": "synthesized", "parent": "a/1.png#22", "offset": None, "detail": {"seed": 3},
}  # fmt: skip


def test_a_set_of_the_first_genkt_is_opened(tmp_path: Path) -> None:
    saved = plain("a", 1).save(tmp_path, files=ImageFiles("png"))
    digest = saved.images.ids[0].rpartition("#")[2]
    line = json.dumps(OLD_LINE).replace("HASH", digest) + "\n"
    (tmp_path / "manifest" / "00000.jsonl").write_text(line)
    from genkt.transfer_set.set_files import digest_of

    marker = {"made": 1, "num_images": 1, "files": {"manifest": digest_of(line.encode())}}
    (tmp_path / "shards" / "00000.json").write_text(json.dumps(marker))
    header = {"format": 1, "num_images": 1, "source": "synthesized", "num_shards": 1,
              "files": {"format": "png", "quality": 90, "container": "folder"},
              "classes": []}  # fmt: skip
    (tmp_path / "transfer_set.json").write_text(json.dumps(header))
    found = genkt.read_transfer_set(tmp_path)
    assert found.record(0) == Record(
        f"images/00000/000000.png#{digest}", -1, "synthesized", "a/1.png#22", None, {"seed": 3}
    )
    assert found.images.load(0).size == (6, 6) and found.parts == ()
