"""Pictures that break after a set was opened: replaced, counted, told once, never mixed up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused
from source_cases import picture_folder, shard
from training_cases import TRANSFORM, tiny_teacher

from genkt.data.images import ImageSet, LostImage, path_of
from genkt.data.jitter import JitterSpec, JitterViews
from genkt.data.views import FIXED_VIEW, ViewDataset, ViewSpec
from genkt.readers.folders import read_unlabelled
from genkt.readers.tars import read_tars
from genkt.stores.teacher_outputs import OutputStore
from genkt.training.asked_outputs import outputs_on_demand
from genkt.training.batches import Batches, BatchPlan, TransferPart
from genkt.training.lost_images import LostImages, readable_rows
from genkt.training.predictions import predict
from genkt.training.teacher import cache_outputs
from genkt.training.view_pairs import PairPlan
from genkt.types import UserError

NUM, LABELLED = 24, 4
BROKEN = ("5.png", "9.png", "17.png")
VIEWS = ViewSpec(num_views=2, seed=1, crop_scale=(0.5, 1.0), hflip=True)


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    """Opened pictures 0.png .. 23.png, by number."""
    found = read_unlabelled(picture_folder(tmp_path / "pictures", range(NUM)), progress=False)
    order = np.argsort([int(path_of(each).removesuffix(".png")) for each in found.ids])
    return found.select(order)


def break_some(root: Path) -> None:
    """One is gone, one cut off, one another picture."""
    gone, cut, changed = (root / "pictures" / name for name in BROKEN)
    gone.unlink()
    cut.write_bytes(cut.read_bytes()[:-20])
    changed.write_bytes((root / "pictures" / "0.png").read_bytes())


def batches(
    images: ImageSet, size: int = 12, *, rank: int = 0, ranks: int = 1, workers: int = 0,
    stores: tuple[OutputStore, ...] = (), lost: LostImages | None = None, seed: int = 3,
    views: ViewSpec = VIEWS,
) -> Batches:  # fmt: skip
    rows = np.arange(len(images))
    plan = BatchPlan(rows[:LABELLED], rows[LABELLED:], size, 2, seed)
    return Batches(
        ViewDataset(images, views, [TRANSFORM]), np.where(rows < LABELLED, 0, -1), plan, stores,
        rank=rank, world_size=ranks, num_workers=workers, lost=lost or quiet(),
    )  # fmt: skip


def quiet(most: float = 0.5) -> LostImages:
    return LostImages(most, tell=lambda text: None)


def replaced(found: Batches, steps: int = 8) -> dict[str, str]:
    """What took the place of what, over the steps."""
    pairs: dict[str, str] = {}
    ids = found.dataset.images.ids
    for step in range(steps):
        rows = found.load(step)[0]
        for shown, _, asked in rows.tolist():
            if shown != asked:
                assert pairs.setdefault(path_of(ids[asked]), path_of(ids[shown])) == path_of(
                    ids[shown]
                )
    return pairs


def test_lost_pictures_are_replaced_the_same_way_everywhere(
    images: ImageSet, tmp_path: Path
) -> None:
    whole = [batch.ids for batch in batches(images).iterate(0, 6)]
    break_some(tmp_path)
    plain = list(batches(images).iterate(0, 6))
    spares = replaced(batches(images))
    assert set(spares) == set(BROKEN) and not set(spares.values()) & set(BROKEN)
    assert not any(int(name.removesuffix(".png")) < LABELLED for name in spares.values())
    for before, batch in zip(whole, plain, strict=True):
        # Only the lost ones are others; each picture is that of its id.
        names = [path_of(each) for each in before]
        assert [path_of(each) for each in batch.ids] == [spares.get(each, each) for each in names]
        for row, sample_id in enumerate(batch.ids):
            sample = images.ids.index(sample_id)
            own = [batches(images).dataset[sample, view][0] for view in range(2)]
            assert any(torch.equal(batch.images[row], each) for each in own)
    for workers in (0, 2):
        counted = quiet()
        again = batches(images, workers=workers, lost=counted).iterate(2, 6)
        for batch, expected in zip(again, plain[2:], strict=True):
            assert batch.ids == expected.ids and torch.equal(batch.images, expected.images)
        assert {Path(entry.path).name for entry in counted.entries()} <= set(BROKEN)
    halves = [list(batches(images, rank=rank, ranks=2).iterate(0, 6)) for rank in range(2)]
    for first, second, expected in zip(*halves, plain, strict=True):
        assert first.ids + second.ids == expected.ids
    assert replaced(batches(images, size=6), 16) == spares
    assert replaced(batches(images, seed=4)) != spares


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.sets(st.integers(LABELLED, NUM - 1), min_size=1, max_size=NUM - LABELLED - 1))
def test_whatever_is_lost_a_readable_transfer_image_takes_its_place(
    tmp_path_factory: pytest.TempPathFactory, gone: set[int]
) -> None:
    root = tmp_path_factory.mktemp("some") / "pictures"
    images = read_unlabelled(picture_folder(root, range(NUM)), progress=False)
    rows = np.arange(NUM)
    plan = BatchPlan(rows[:LABELLED], rows[LABELLED:], 10, 2, 0)
    for row in gone:
        (root / path_of(images.ids[row])).unlink()
    found = Batches(
        ViewDataset(images, VIEWS, [TRANSFORM]), np.full(NUM, -1), plan, lost=quiet(1.0)
    )
    for step in range(6):
        shown, _, asked = found.load(step)[0].numpy().T
        assert not gone & set(shown.tolist())
        assert np.array_equal(shown != asked, np.isin(asked, list(gone)))
        assert (shown[shown != asked] >= LABELLED).all()


def test_a_part_is_completed_by_images_of_the_part(images: ImageSet, tmp_path: Path) -> None:
    rows = np.arange(NUM)
    parts = (TransferPart(rows[4:8], 0.5), TransferPart(rows[8:], 0.5))
    plan = BatchPlan(rows[:0], rows[4:], 8, 0, 0, parts)
    break_some(tmp_path)
    dataset = ViewDataset(images, VIEWS, [TRANSFORM])
    spares = replaced(Batches(dataset, np.full(NUM, -1), plan, lost=quiet()), 12)
    assert {name: int(to.removesuffix(".png")) < 8 for name, to in spares.items()} == {
        "5.png": True, "9.png": False, "17.png": False
    }  # fmt: skip


def test_both_views_of_a_pair_show_the_same_image(images: ImageSet, tmp_path: Path) -> None:
    rows, spec = np.arange(NUM), JitterSpec(num_views=0, seed=0, color_jitter=0.5)
    plan = PairPlan(rows[:0], rows, 8, 0, 0)
    break_some(tmp_path)

    def opened() -> Batches:
        dataset = JitterViews(images, spec, [TRANSFORM])
        return Batches(dataset, np.full(NUM, -1), plan, lost=quiet(), labelled=rows[:4])

    for batch in opened().iterate(0, 6):
        assert batch.ids[::2] == batch.ids[1::2]
    (tmp_path / "pictures" / "2.png").unlink()
    with refused("2.png", "existed at the start", kind=LostImage):
        list(opened().iterate(0, 6))


def test_a_labelled_picture_is_never_replaced(images: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "pictures" / "1.png").unlink()
    for workers in (0, 1):
        with refused("1.png", "existed at the start", kind=LostImage):
            list(batches(images, workers=workers).iterate(0, 4))


def test_without_a_count_a_lost_picture_is_an_error(images: ImageSet, tmp_path: Path) -> None:
    break_some(tmp_path)
    rows = np.arange(NUM)
    plan = BatchPlan(rows[:0], rows, NUM, 0, 0)
    with pytest.raises(LostImage):
        Batches(ViewDataset(images, VIEWS, [TRANSFORM]), np.full(NUM, -1), plan).load(0)
    with refused("5.png", kind=LostImage):
        cache_outputs(tiny_teacher(), images, home=tmp_path / "cache", progress=False)
    with refused("5.png", kind=LostImage):
        predict(tiny_teacher(), ViewDataset(images, FIXED_VIEW, [TRANSFORM]))


def test_too_many_lost_pictures_stop_the_run(images: ImageSet, tmp_path: Path) -> None:
    break_some(tmp_path)
    with refused("max_skipped=0.1", "allows 2"):
        list(batches(images, lost=quiet(0.1)).iterate(0, 8))
    for each in (tmp_path / "pictures").glob("*.png"):
        if int(each.stem) >= LABELLED:
            each.unlink()
    with refused("nor can other transfer images be read"):
        batches(images, lost=quiet(1.0)).load(0)


def cached(
    images: ImageSet, home: Path, lost: LostImages | None = None, workers: int = 0
) -> OutputStore:
    return cache_outputs(
        tiny_teacher(), images, VIEWS, home, dtype="float32", batch_size=5, progress=False,
        lost=lost, num_workers=workers,
    )  # fmt: skip


def test_a_cache_has_no_outputs_of_lost_pictures(images: ImageSet, tmp_path: Path) -> None:
    whole = cached(images, tmp_path / "whole").rows(range(2 * NUM))
    break_some(tmp_path)
    counted = quiet()
    for place, workers in (("threads", 0), ("workers", 2)):
        store = cached(images, tmp_path / place, counted, workers)
        assert {row: Path(error.place).name for row, error in store.lost.items()} == {
            2 * int(name.removesuffix(".png")) + view: name for name in BROKEN for view in (0, 1)
        }
        kept = np.setdiff1d(np.arange(2 * NUM), list(store.lost))
        assert torch.equal(store.rows(kept).features, whole.features[kept])
        with refused("9.png", kind=LostImage):
            store.rows([0, 18])
        assert store.stored_rows(np.array([18, 19])).features.isnan().all()
    assert len(counted.entries()) == 3 and "3 images" in counted.notes()[0]
    again = quiet()
    cached(images, tmp_path / "threads", again)  # found, and counted anew
    assert again.entries() == counted.entries()
    with refused("5.png", kind=LostImage):
        cached(images, tmp_path / "threads")


def test_a_student_never_sees_a_picture_with_the_outputs_of_another(
    images: ImageSet, tmp_path: Path
) -> None:
    (tmp_path / "pictures" / "9.png").rename(tmp_path / "away")  # no teacher sees it
    counted = quiet()
    store = cached(images, tmp_path / "cache", counted)
    (tmp_path / "away").rename(tmp_path / "pictures" / "9.png")
    (tmp_path / "pictures" / "17.png").unlink()  # its teacher saw it
    teacher = tiny_teacher().eval()
    assert set(replaced(batches(images, stores=(store,)))) == {"9.png", "17.png"}
    for batch in batches(images, stores=(store,), lost=counted).iterate(0, 8):
        with torch.no_grad():
            expected = teacher(teacher.normalize(batch.images)).features
        torch.testing.assert_close(batch.teachers[0].features, expected)


def test_outputs_on_demand_are_those_of_the_picture_that_is_shown(
    images: ImageSet, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    (tmp_path / "pictures" / "9.png").rename(away)
    counted = quiet()
    teacher = tiny_teacher().eval()
    store = outputs_on_demand(
        teacher, images, VIEWS, tmp_path / "cache", dtype="float32", lost=counted
    )
    store.fill(np.arange(16, 20))
    assert set(store.lost) == {18, 19} and images.ids[9] in counted
    with refused("9.png", kind=LostImage):
        store.rows([18])
    away.rename(tmp_path / "pictures" / "9.png")  # a student could see it now
    (tmp_path / "pictures" / "17.png").unlink()  # no teacher has asked for it yet
    shown = set()
    for batch in batches(images, stores=(store,), lost=counted).iterate(0, 8):
        shown |= set(map(path_of, batch.ids))
        with torch.no_grad():
            expected = teacher(teacher.normalize(batch.images)).features
        torch.testing.assert_close(batch.teachers[0].features, expected)
    assert not shown & {"9.png", "17.png"} and len(counted.entries()) == 2
    later = outputs_on_demand(
        teacher, images, VIEWS, tmp_path / "cache", dtype="float32", lost=quiet()
    )
    assert later.rows([18, 19]).features.isfinite().all() and not later.lost


def test_a_mended_picture_is_seen_by_later_runs(images: ImageSet, tmp_path: Path) -> None:
    (tmp_path / "pictures" / "9.png").rename(tmp_path / "away")
    counted = quiet()
    cached(images, tmp_path / "cache", counted)
    (tmp_path / "away").rename(tmp_path / "pictures" / "9.png")
    # A run that has counted it goes on as it began.
    assert set(cached(images, tmp_path / "cache", counted).lost) == {18, 19}
    mended = cached(images, tmp_path / "cache", quiet())
    whole = cached(images, tmp_path / "whole")
    assert not mended.lost
    assert torch.equal(mended.rows([18, 19]).features, whole.rows([18, 19]).features)


def test_a_prediction_leaves_out_lost_pictures(images: ImageSet, tmp_path: Path) -> None:
    dataset = ViewDataset(images, FIXED_VIEW, [TRANSFORM], 0)
    whole = predict(tiny_teacher(), dataset, batch_size=5)
    break_some(tmp_path)
    counted = quiet()
    found = predict(tiny_teacher(), dataset, batch_size=5, lost=counted)
    kept = [row for row, each in enumerate(images.ids) if path_of(each) not in BROKEN]
    assert found.ids == tuple(images.ids[row] for row in kept) and len(found.labels) == 21
    assert torch.equal(found.probabilities, whole.probabilities[kept])
    assert len(counted.entries()) == 3


def test_pictures_of_a_tar_that_was_replaced_are_lost(tmp_path: Path) -> None:
    images = read_tars(shard(tmp_path / "0.tar", range(4)), progress=False)
    shard(tmp_path / "0.tar", range(1, 5))
    with refused("changed", kind=LostImage):
        images.load(0)


def test_rows_that_can_be_read(images: ImageSet, tmp_path: Path) -> None:
    break_some(tmp_path)
    counted = quiet()
    rows = np.array([20, 9, 3, 5])
    assert readable_rows(images, rows, counted).tolist() == [20, 3]
    assert [Path(entry.path).name for entry in counted.entries()] == ["5.png", "9.png"]


def lines() -> Iterator[tuple[str, LostImage]]:
    for number in range(3):
        yield f"{number}.png#0", LostImage(f"/data/{number}.png", "gone")


def test_processes_tell_each_picture_once(tmp_path: Path) -> None:
    told: list[str] = []
    path = tmp_path / "run" / "lost_images.jsonl"
    one, other = (LostImages(0.5, path, told.append) for _ in range(2))
    for sample_id, error in lines():
        for process in (one, other, one):
            process.add(sample_id, error, 10)
    later = LostImages(0.5, path, told.append)  # the run goes on after an interruption
    for sample_id, error in lines():
        later.add(sample_id, error, 10)
    assert len(told) == 1 and told[0].startswith("/data/0.png: gone")
    assert [entry.path for entry in later.entries()] == [f"/data/{n}.png" for n in range(3)]
    assert later.entries() == one.entries() == other.entries()
    with pytest.raises(UserError, match="allows 3"):
        LostImages(0.3, path, told.append).add("x#0", LostImage("/data/x.png", "gone"), 10)
