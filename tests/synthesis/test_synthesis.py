"""Synthesis: the same bytes whatever the batch size or interruption; provenance; refusals."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import CONTEXT
from refusals import refused
from synthesis_cases import DIGG, INVERSION, IRF, OF_SPEED, content, settings, sources
from tiny_generator import tiny_generator, tiny_vqgan

from genkt.config.synthesis_settings import SynthesisSettings
from genkt.data.images import ImageSet
from genkt.execution.ranks import Processes
from genkt.execution.tasks import ExecutorSettings
from genkt.generative.completer import Completion
from genkt.generative.decoding.sampling import Sampling
from genkt.generative.generator import Generator, fit_picture
from genkt.generative.latent_transformer import LatentTransformer, TransformerConfig
from genkt.generative.masks import MaskSettings
from genkt.synthesis.plan_images import ordered_sources
from genkt.synthesis.shard import Models
from genkt.synthesis.synthesize_set import Synthesis, run_synthesis
from genkt.synthesis.tokens import redecode
from genkt.transfer_set.composition import TransferSet, read_transfer_set
from genkt.transfer_set.set_files import ImageFiles
from genkt.types import UserError


def run(home: Path, name: str = "set", **changes: Any) -> TransferSet:
    generator = changes.pop("generator", None) or tiny_generator()
    return run_synthesis(settings(**changes), sources(home), home / name, generator=generator)


def test_digg_makes_what_the_plan_says(tmp_path: Path) -> None:
    found = run(tmp_path)
    assert len(found) == 2 * 7 * 3 and found.num_shards == 5  # shards of 9: whole groups
    assert found.header["funnel"] == {"asked": 42, "made": 42, "kept": 42, "dropped": {}}
    assert set(found.images.labels.tolist()) == {-1} and found.images.classes == (
        "cat",
        "dog",
        "elk",
    )
    parents = ordered_sources(sources(tmp_path), settings()).ids
    records = list(found.records())
    for index, record in enumerate(records):
        mask_round, rest = divmod(index, 21)
        assert record.parent == parents[rest // 3] and record.source == "synthesized"
        detail = dict(record.detail or {})
        assert (detail["round"], detail["sample"]) == (mask_round, rest % 3)
        assert detail["mask"] == "bottom" and 0.25 <= detail["hidden"] <= 0.75
    seeds = [(record.detail or {})["seed"] for record in records]
    assert len(set(seeds)) == 42
    arrays = [found.tokens(shard) for shard in range(5)]
    assert np.concatenate([part["seeds"] for part in arrays]).tolist() == seeds
    assert arrays[0]["tokens"].dtype == np.uint16 and arrays[0]["tokens"].shape == (9, 4, 4)
    drawn = sum(int(part["hidden"].sum()) for part in arrays)
    assert found.header["drawn_tokens"] == drawn > 0


def test_irf_reconstructs_each_source_with_its_label(tmp_path: Path) -> None:
    found = run(tmp_path, synthesis=IRF, max_sources=None)
    given, generator = sources(tmp_path), tiny_generator()
    assert len(found) == 12 and sorted(found.images.labels.tolist()) == sorted(given.labels)
    places = {sample_id: row for row, sample_id in enumerate(given.ids)}
    for row, record in enumerate(found.records()):
        place = places[record.parent or ""]
        assert record.label == given.labels[place]
        expected = generator.reconstruct([given.load(place)])[0].permute(1, 2, 0).numpy()
        difference = abs(np.asarray(found.images.load(row)).astype(int) - expected.astype(int))
        assert difference.max() <= 1


@pytest.mark.parametrize("container", ["folder", "tar"])
def test_the_speed_settings_change_no_byte(tmp_path: Path, container: Any) -> None:
    files = ImageFiles(container=container)
    one = content(run(tmp_path, "one", files=files).directory, OF_SPEED)
    for batch_size, num_threads in ((1, 1), (7, 3), (500, 2)):
        name = f"batch {batch_size}"
        run(tmp_path, name, files=files, batch_size=batch_size, num_threads=num_threads)
        assert content(tmp_path / name, OF_SPEED) == one


def test_a_longer_set_begins_with_the_shorter_one(tmp_path: Path) -> None:
    short, long = (run(tmp_path, str(n), digg={"num_images": n}) for n in (20, 50))
    for row in range(20):
        a, b = short.record(row), long.record(row)
        assert (a.id, a.parent, a.detail) == (b.id, b.parent, b.detail)
    assert len({record.parent for record in short.records()}) == 7  # mixed over the sources
    other = run(tmp_path, "other", digg={"num_images": 20}, seed=4)
    assert other.images.ids != short.images.ids


def test_the_order_of_the_sources_changes_nothing(tmp_path: Path) -> None:
    given = sources(tmp_path)
    backwards = given.select(np.arange(len(given))[::-1])
    for name, images in (("a", given), ("b", backwards)):
        run_synthesis(settings(), images, tmp_path / name, generator=tiny_generator())
    assert content(tmp_path / "a", OF_SPEED) == content(tmp_path / "b", OF_SPEED)


@pytest.mark.parametrize("changes", [
    {},
    {"files": ImageFiles("jpeg", 80, "tar")},
    {"synthesis": IRF},
    {"digg": {"keep_visible": True, "masks": MaskSettings(("rectangle", "left"))}},
], ids=["folder", "tar", "irf", "keep visible"])  # fmt: skip
def test_tokens_decode_to_the_same_bytes(tmp_path: Path, changes: dict[str, Any]) -> None:
    found = run(tmp_path, **changes)
    again = list(redecode(found.directory, tiny_generator(), sources(tmp_path)))
    assert [record for record, _ in again] == list(found.records())
    for row, (_, data) in enumerate(again):
        assert found.images.ids[row].endswith("#" + _hash(data))


def _hash(data: bytes) -> str:
    from genkt.data.images import content_hash

    return content_hash(data)


def test_what_cannot_be_decoded_again_is_refused(tmp_path: Path) -> None:
    found = run(tmp_path, digg={"keep_visible": True})
    with refused("set"):
        next(redecode(found.directory, tiny_generator(seed=1)))
    with refused("set"):
        next(redecode(found.directory, tiny_generator()))
    few = sources(tmp_path).select([0])
    with refused("dog/deep/0.jpg"):
        list(redecode(found.directory, tiny_generator(), few))


class Painter:
    """A completer without tokens: hidden pixels get a colour of the seed's."""

    size, name = 24, "painter"

    def complete_images(
        self, images: torch.Tensor, masks: torch.Tensor, seeds: Any, options: Any
    ) -> Completion:
        colours = torch.tensor([[seed % 251 for seed in own] for own in seeds])
        drawn = torch.where(masks[:, None, None], colours[:, :, None, None, None], images[:, None])
        return Completion(drawn.to(torch.uint8))

    def fingerprint(self) -> str:
        return "painter"


def test_a_completer_without_tokens(tmp_path: Path) -> None:
    found = run(tmp_path, generator=Painter(), digg={"num_masks": 1})
    for row, record in enumerate(found.records()):
        detail = record.detail or {}
        made = np.asarray(found.images.load(row))
        assert made.shape == (24, 24, 3)
        assert set(made[-1].ravel().tolist()) == {detail["seed"] % 251}
        assert detail["mask"] == "bottom"
    assert found.header["drawn_tokens"] == 0
    with refused("set"):
        next(redecode(found.directory, tiny_generator()))
    with refused("VQGAN"):
        run(tmp_path, "irf", generator=Painter(), synthesis=IRF)
    again = run(tmp_path, "again", generator=Painter(), digg={"num_masks": 1}, batch_size=1)
    assert content(again.directory, OF_SPEED) == content(found.directory, OF_SPEED)


def test_visible_pixels_are_kept_where_asked(tmp_path: Path) -> None:
    found = run(tmp_path, digg={"keep_visible": True, "num_masks": 1})
    given = sources(tmp_path)
    for row, record in enumerate(found.records()):
        rows = round(16 * (1 - (record.detail or {})["hidden"]))
        source = fit_picture(given.load(given.ids.index(record.parent or "")), 16)
        made = np.asarray(found.images.load(row))
        assert np.array_equal(made[:rows], source[:rows])
        assert not np.array_equal(made[rows:], source[rows:])


def _synthesize(home: Path, name: str, pause: float, most: int | None = None) -> None:
    """One process of its own, slowed down so that it can be killed anywhere.

    Args:
        most: sources of which it begins with no other: there it waits to be killed.
    """
    from genkt.synthesis import shard as synthesis_shard

    torch.set_num_threads(1)
    fitted, begun = synthesis_shard._fitted, itertools.count(1)

    def slow(images: ImageSet, place: int, size: int) -> Any:
        time.sleep(600 if next(begun) == most else pause)
        return fitted(images, place, size)

    synthesis_shard._fitted = slow
    os.chdir(home)  # the same out, whatever the home: it is written into the card
    run_synthesis(_KILLED, sources(home), name, generator=tiny_generator())


_KILLED = settings(
    shard_size=6, files=ImageFiles("png", container="tar"), num_threads=1, batch_size=3
)


def test_killed_again_and_again_it_ends_with_the_same_bytes(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for home in (killed, whole):
        home.mkdir()
        sources(home)
    markers: list[int] = []  # finished shards, kill after kill
    for wanted in (1, 3, 5):
        most = 2 * (wanted - max(markers, default=0)) + 2  # two sources a shard
        process = CONTEXT.Process(target=_synthesize, args=(killed, "set", 0.02, most))
        process.start()
        shards = killed / "set" / "shards"
        deadline = time.monotonic() + 600
        while len(list(shards.glob("[0-9]*.json")) if shards.is_dir() else []) < wanted:
            assert time.monotonic() < deadline and process.is_alive()
            time.sleep(0.002)
        time.sleep(0.013 * wanted)  # somewhere inside the next shard
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        markers.append(len(list(shards.glob("[0-9]*.json"))))
        assert not (killed / "set" / "transfer_set.json").exists()
    assert markers == sorted(markers)
    kept = {path: path.stat().st_mtime_ns for path in shards.glob("[0-9]*.json")}
    for home in (killed, whole):
        process = CONTEXT.Process(target=_synthesize, args=(home, "set", 0.0))
        process.start()
        process.join()
        assert process.exitcode == 0
    assert content(killed / "set") == content(whole / "set")
    assert not list((killed / "set").rglob(".*"))
    for path, written in kept.items():  # what was finished was not made again
        assert path.stat().st_mtime_ns == written


def test_a_finished_set_is_opened_and_another_is_refused(tmp_path: Path) -> None:
    first = run(tmp_path)
    stamps = {p: p.stat().st_mtime_ns for p in first.directory.rglob("*") if p.is_file()}
    assert run(tmp_path).images.ids == first.images.ids
    assert run(tmp_path, batch_size=3).images.ids == first.images.ids  # the speed may change
    changed = [p.name for p, at in stamps.items() if p.stat().st_mtime_ns != at]
    assert changed == ["config.yaml"]
    with refused(3, 4):
        run(tmp_path, seed=4)
    with refused("set"):
        run(tmp_path, generator=tiny_generator(seed=1))
    other = run_synthesis(
        settings(seed=4), sources(tmp_path), tmp_path / "set", generator=tiny_generator(),
        overwrite=True,
    )  # fmt: skip
    assert other.header["settings"]["seed"] == 4


def test_models_given_as_objects_stay_in_their_process(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = run(tmp_path, "one").directory
    run_synthesis(
        settings(), sources(tmp_path), tmp_path / "two", generator=tiny_generator(),
        executor=ExecutorSettings("pool", 2, None),
    )  # fmt: skip
    assert content(tmp_path / "two", OF_SPEED) == content(one, OF_SPEED)
    assert "executor=pool: other processes cannot load models" in caplog.text


def test_a_shard_that_another_made_meanwhile_is_left_alone(tmp_path: Path) -> None:
    """As after a node that Ray thought dead: both make the shard, one puts it in its place."""
    images = ordered_sources(sources(tmp_path), settings())
    work = Synthesis(settings(), images, tmp_path / "set", Models(tiny_generator(), None))
    stamps: list[int] = []

    def meanwhile(count: int) -> None:
        if not stamps:
            stamps.append(0)
            work.task(1).run(lambda _: None)
            stamps[0] = (tmp_path / "set" / "shards" / "00001.json").stat().st_mtime_ns

    work.task(1).run(meanwhile)
    assert (tmp_path / "set" / "shards" / "00001.json").stat().st_mtime_ns == stamps[0]
    assert not list((tmp_path / "set").rglob(".*"))


def test_ranks_take_turns_and_rank_zero_finishes(tmp_path: Path) -> None:
    calls: list[str] = []
    given = sources(tmp_path)
    images = ordered_sources(given, settings())
    other = Synthesis(settings(), images, tmp_path / "two", Models(tiny_generator(), None))

    def barrier() -> None:
        calls.append("barrier")
        if len(calls) == 2:  # claimed: the other process works while this one does
            for shard in (1, 3):
                other.task(shard).run(lambda _: None)

    run_synthesis(
        settings(), given, tmp_path / "two", generator=tiny_generator(),
        processes=Processes(0, 2, barrier),
    )  # fmt: skip
    run(tmp_path, "one")
    assert content(tmp_path / "two", OF_SPEED) == content(tmp_path / "one", OF_SPEED)
    assert len(calls) == 5


def class_conditional() -> Generator:
    """A generator whose transformer knows two upstream classes."""
    vqgan = tiny_vqgan()
    config = TransformerConfig.of(
        vqgan.num_codes, vqgan.grid, num_layers=1, num_heads=2, width=16, num_conditions=2,
        condition="class",
    )  # fmt: skip
    return Generator(vqgan, LatentTransformer.build(config), "classes")


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    given = sources(tmp_path)

    def not_begun(message: str, change: SynthesisSettings, **models: Any) -> None:
        with pytest.raises(UserError, match=message) as caught:
            run_synthesis(change, models.pop("images", given), tmp_path / "set", **models)
        assert "\n" not in str(caught.value) and not (tmp_path / "set").exists()

    tiny = tiny_generator()
    not_begun("expected a generator, got none", settings())
    not_begun(
        "has no latent transformer", settings(), generator=Generator(tiny_vqgan(), None, "half")
    )
    not_begun("needs the upstream class", settings(), generator=class_conditional())
    not_begun("expected a teacher", settings(INVERSION))
    not_begun("found none", settings(), generator=tiny, images=given.select([]))
    narrow = MaskSettings(("bottom", "rectangle"), 0.3, 0.3)
    not_begun("no bottom mask of whole tokens", settings(digg={"masks": narrow}), generator=tiny)
    with_filter = dataclasses.replace(settings().filters, min_confidence=0.5)
    not_begun("expected a teacher", settings(filters=with_filter), generator=tiny)
    with refused("deep_inversion"):
        settings(INVERSION, filters=dataclasses.replace(with_filter, agreement=True))


def test_a_batch_that_is_too_large_for_the_memory_is_halved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = content(run(tmp_path, "one").directory, OF_SPEED)
    draw = Generator.draw

    def small(self: Generator, tokens: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(tokens) > 1:
            raise torch.OutOfMemoryError
        return draw(self, tokens, *rest)

    monkeypatch.setattr(Generator, "draw", small)
    assert content(run(tmp_path, "two").directory, OF_SPEED) == expected


def test_a_source_that_vanishes_is_named_and_the_rest_goes_on_later(tmp_path: Path) -> None:
    given = sources(tmp_path)
    victim = tmp_path / "images" / given.ids[0].rpartition("#")[0]
    data = victim.read_bytes()
    victim.unlink()
    with refused("1.png"):
        run_synthesis(
            settings(max_sources=None), given, tmp_path / "set", generator=tiny_generator()
        )
    assert not list((tmp_path / "set").rglob(".0*"))
    with refused("set"):
        read_transfer_set(tmp_path / "set")
    victim.write_bytes(data)
    found = run_synthesis(
        settings(max_sources=None), given, tmp_path / "set", generator=tiny_generator()
    )
    assert len(found) == 72


def test_sheet_and_card_tell_what_was_made(tmp_path: Path) -> None:
    found = run(tmp_path, digg={"sampling": Sampling(temperature=0.5, top_k=4)})
    page = (found.directory / "contact_sheet.html").read_text()
    assert "<b>42 images</b> drawn anew from 7 sources" in page
    assert page.count("<figure>") == 14 and page.count("data:image/webp;base64") == 14
    assert "http" not in page.replace("http-equiv", "")
    card = (found.directory / "README.md").read_text()
    for expected in ("top_k 4", "7 images of 3 classes", tiny_generator().fingerprint(), "Licence"):
        assert expected in card
    header = json.loads((found.directory / "transfer_set.json").read_text())
    assert header["settings"]["synthesis"]["sampling"]["temperature"] == 0.5
    assert "images/s" in (found.directory / "synthesize.log").read_text()
    assert DIGG.options.dilation == 1
