"""Caches, sets and comparisons of which a file is damaged: made again and told, or one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from compare_cases import compare_words
from prime_cases import prime_words
from refusals import refused
from test_cache import IDENTITY, finished
from test_transfer_set import write_set
from tiny import CLASSES, run, write_images

from genkt.comparison.train_arms import work_in
from genkt.data.images import ImageSet
from genkt.data.views import FIXED_VIEW, ImageTransform, ViewDataset
from genkt.execution.ranks import ALONE
from genkt.io import read_json
from genkt.readers.folders import read_unlabelled
from genkt.runs.represented import seconds_file, timed_set
from genkt.stores.embeddings import EmbeddingStore, embedding_identity
from genkt.stores.teacher_outputs import OutputStore
from genkt.training.loading import loaded
from genkt.training.row_pictures import RowPictures
from genkt.training.store_job import found_store
from genkt.transfer_set.composition import read_transfer_set
from genkt.transfer_set.set_files import ImageFiles
from genkt.transfers.upstream_distance import _is_measured, _read
from genkt.types import UserError

DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "foreign": lambda path: path.write_text('{"a": [1]}'),
    "no text": lambda path: path.write_bytes(b"\xff\xfe"),
    "number": lambda path: path.write_text("3"),
    "folder": lambda path: (path.unlink(), path.mkdir()),
}
EVERY = pytest.mark.parametrize("damage", DAMAGES)


def altered(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@EVERY
def test_what_a_set_took_is_noted_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    def make() -> None:
        return None

    first = timed_set(make, tmp_path / "0", ALONE)  # type: ignore[arg-type]
    took = seconds_file(tmp_path / "0")
    assert timed_set(make, tmp_path / "0", ALONE) == first  # type: ignore[arg-type]
    DAMAGES[damage](took)
    again = timed_set(make, tmp_path / "0", ALONE)  # type: ignore[arg-type]
    assert again.seconds >= 0 and "0.json: damaged" in caplog.text
    took.write_text('{"seconds": 2.5}')  # of an older genkt
    assert timed_set(make, tmp_path / "0", ALONE).seconds == 2.5  # type: ignore[arg-type]


@EVERY
def test_a_distance_is_measured_again(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "frechet.json"
    facts = {"before": 2.0, "after": 1.0, "num_images": 3, "upstream": "x", "model": "y"}
    path.write_text(json.dumps(facts))
    assert _is_measured(path) and _read(path).before == 2.0
    DAMAGES[damage](path)
    assert not _is_measured(path) and not path.exists()
    path.write_text(json.dumps(facts | {"after": float("nan")}))
    assert not _is_measured(path)


@EVERY
def test_the_times_of_a_comparison_count_anew(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "work.json"
    path.write_text('{"wall_seconds": 2.0, "task_seconds": 3.0}')
    assert work_in(tmp_path).task_seconds == 3.0
    DAMAGES[damage](path)
    assert work_in(tmp_path).task_seconds == 0.0
    assert path.is_file()  # though nothing may be trained now


def test_notes_of_a_killed_comparison_that_were_half_written_go_away(tmp_path: Path) -> None:
    """The next start may have nothing to note."""
    (tmp_path / "work.json").write_text('{"wall_seconds": 2.0, "task_seconds": 3.0}')
    code = "from genkt.io import temporary_prefix; print(temporary_prefix('work.json'))"
    dead = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    left = tmp_path / f"{dead.stdout.strip()}abcdefgh.json"
    left.write_text("{")
    assert work_in(tmp_path).task_seconds == 3.0 and not left.exists()


@EVERY
def test_a_plan_of_embeddings_is_made_again(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    identity = embedding_identity(encoder="a", width=2, transform={}, crops=None)
    store, ids = EmbeddingStore(str(tmp_path), identity), ["x#0", "y#1", "z#2"]
    planned = [shard.name for shard in store.plan(ids, 2)]
    (plan,) = (store.path / "plans").glob("*.json")
    DAMAGES[damage](plan)
    assert [shard.name for shard in store.plan(ids, 2)] == planned
    assert "planned anew" in caplog.text


@EVERY
def test_a_shard_of_embeddings_is_made_again(tmp_path: Path, damage: str) -> None:
    identity = embedding_identity(encoder="a", width=2, transform={}, crops=None)
    store, ids = EmbeddingStore(str(tmp_path), identity), ["x#0", "y#1"]
    (shard,) = store.plan(ids, 2)
    for suffix in (".json", ".npy"):
        store.write(shard.name, ids, np.ones((2, 2)))
        assert store.known(ids) == set(ids)
        DAMAGES[damage]((store.path / "shards" / shard.name).with_suffix(suffix))
        assert store.known(ids) == set() and not store.is_done(shard.name)


def test_a_file_in_place_of_a_teachers_outputs_goes(tmp_path: Path) -> None:

    store = finished(tmp_path)
    shutil.rmtree(store.path)
    store.path.write_text("no store")
    assert found_store(tmp_path, IDENTITY) is None and not store.path.exists()
    assert isinstance(finished(tmp_path), OutputStore)


@pytest.mark.parametrize("name", ["transfer_set.json", "shards/00000.json"])
@EVERY
def test_a_set_with_a_damaged_file_is_one_line(tmp_path: Path, name: str, damage: str) -> None:

    write_set(tmp_path, ImageFiles())
    DAMAGES[damage](tmp_path / name)
    with pytest.raises(UserError) as caught:
        read_transfer_set(tmp_path)
    assert "\n" not in str(caught.value)
    assert Path(name).name in str(caught.value) or damage == "folder"


@pytest.mark.parametrize("name", ["transfer_set.json", "shards/00000.json"])
def test_a_changed_word_of_a_set_is_found_and_old_sets_open(tmp_path: Path, name: str) -> None:

    before = write_set(tmp_path, ImageFiles())
    path = tmp_path / name
    stored = read_json(path)
    stored.pop("digest")
    path.write_text(json.dumps(stored))  # as an older genkt wrote it
    assert read_transfer_set(tmp_path).images.ids == before.images.ids
    path.write_text(json.dumps(stored | {"digest": "0" * 32}))
    with refused(path.name):
        read_transfer_set(tmp_path)


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_that_is_gone_is_one_line(tmp_path: Path, num_workers: int) -> None:
    write_images(tmp_path, per_class=2)
    images: ImageSet = read_unlabelled([str(tmp_path)])
    transform = ImageTransform((8, 8), (0.5,) * 3, (0.5,) * 3, "bilinear", 1.0)
    rows = RowPictures(
        ViewDataset(images, replace(FIXED_VIEW), [transform], 0), range(len(images)), 2
    )
    (tmp_path / CLASSES[1] / "1.png").unlink()
    with pytest.raises(UserError) as caught:
        list(loaded(rows, range(0, len(images), 2), num_workers))
    assert "\n" not in str(caught.value) and "1.png" in str(caught.value)


def test_a_command_that_cannot_read_its_pictures_takes_no_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    ran = run("prime", *prime_words(out), f"upstream={tmp_path / 'nope'}")
    assert ran.code == 2 and len(ran.lines) == 1 and not out.exists()


def test_a_comparison_heals(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    words = compare_words(tmp_path)
    assert run(*words).code == 0
    home = tmp_path / "comparison"
    table = (home / "compare.md").read_text()
    (home / "outcomes" / "real.json").write_text("")
    altered(home / "work.json", "wall_seconds", "well_seconds")
    altered(home / "arms" / "stl" / "report.json", "schema", "skema")
    (home / "arms" / "real" / "draws" / "1" / "logit_kd" / "result.json").write_text("{}")
    ran = run(*words)
    assert ran.code == 0, ran.err
    told = caplog.text + "".join(path.read_text() for path in (home / "logs").glob("*.log"))
    for name in ("real.json: damaged", "work.json: damaged", "draw 1, logit_kd: trained again"):
        assert name in told
    accuracies = [line for line in table.splitlines() if "Plain fine-tuning" in line]
    assert accuracies and accuracies[0] in (home / "compare.md").read_text()


@pytest.mark.parametrize("name", ["logs", "outcomes"])
def test_a_file_in_the_place_of_a_folder_is_one_line(tmp_path: Path, name: str) -> None:
    home = tmp_path / "comparison"
    home.mkdir()
    (home / "arms").mkdir()
    (home / name).write_text("")
    ran = run(*compare_words(tmp_path))
    assert ran.code == 2 and len(ran.lines) == 1 and str(home / name) in ran.lines[0]
