"""``genkt synthesize``: a transfer set made by a generative model, shard by shard."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from genkt.data.images import ImageSet
from genkt.data.transfer_set import (
    TransferSet,
    open_shards,
    read_transfer_set,
    write_header,
)
from genkt.data.transfer_set_files import HEADER, remove_leftovers, shard_facts
from genkt.generative.completer import ImageCompleter
from genkt.generative.generator import Generator
from genkt.generative.masks import draw_mask
from genkt.io import fingerprint_ids, write_text
from genkt.models.backbone import Backbone
from genkt.recipes.run_folder import RunFolder, log_to_file
from genkt.recipes.synthesis.card import card_text
from genkt.recipes.synthesis.filters import measure_diversity, remove_duplicates
from genkt.recipes.synthesis.make import mask_grid
from genkt.recipes.synthesis.plan import Plan, ordered_sources, plan_of
from genkt.recipes.synthesis.settings import (
    DiggSettings,
    InversionSettings,
    IrfSettings,
    SynthesisSettings,
)
from genkt.recipes.synthesis.shard import Models, ShardTask, synthesize_shard
from genkt.recipes.synthesis.sheet import sheet_page, sheet_rows
from genkt.types import UserError

logger = logging.getLogger("genkt")

_POLL_SECONDS = 0.5
_SPEED_ALONE = ("batch_size", "num_threads")


@dataclass(frozen=True)
class Processes:
    """The processes that share the work; each takes shards rank, rank + world_size, ...

    Args:
        rank: 0 claims the folder and finishes the set.  world_size: how many there are.
        barrier: returns once every process has called it.
    """

    rank: int = 0
    world_size: int = 1
    barrier: Callable[[], None] = lambda: None


ALONE = Processes()
"""One process."""


def launched() -> Processes:
    """The processes of the torchrun launch that this one is part of, or this one alone."""
    group = torch.distributed
    if not (group.is_available() and group.is_initialized()):
        return ALONE
    barrier: Callable[[], None] = group.barrier  # type: ignore[assignment]
    return Processes(group.get_rank(), group.get_world_size(), barrier)


def run_synthesis(
    settings: SynthesisSettings,
    sources: ImageSet,
    out: str | Path,
    *,
    generator: ImageCompleter | None = None,
    teacher: Backbone | None = None,
    processes: Processes | None = None,
    plain: Mapping[str, Any] | None = None,
    command: str = "genkt.synthesize(...)",
    overwrite: bool = False,
) -> TransferSet:
    """Make a set, continue one that was interrupted, or open a finished one.

    Args:
        settings: what to make.
        sources: images to start from (for ``deep_inversion``: only their classes count).
        out: its folder.
        generator, teacher: on the device that computes; each only where the method or a filter
            needs it.
        processes: those that share the work, all with the same arguments; None: ``launched()``.
        plain: what ``config.yaml`` keeps; by default the settings.
        command: how to repeat it, for the card.
        overwrite: replace another run in ``out``.

    Returns:
        The set.

    Raises:
        UserError: settings, models and sources that do not fit, before anything is written;
            a folder that holds another run; a set of which the filters leave nothing.
    """
    check_models(settings, generator, teacher)
    processes = processes or launched()
    folder = RunFolder(out, _plain(settings, plain), overwrite=overwrite, last=HEADER)
    sources = ordered_sources(sources, settings)
    work = Synthesis(settings, sources, folder.path, Models(generator, teacher))
    _ = work.plan  # says now when there is nothing to start from
    processes.barrier()  # none still looks at the folder when the first one changes it
    if processes.rank == 0:
        folder.claim(command, _inputs(sources, generator, teacher))
        remove_leftovers(folder.path)
    processes.barrier()
    if folder.finished:
        return read_transfer_set(folder.path)
    handler = log_to_file(folder.path / "synthesize.log" if processes.rank == 0 else None)
    try:
        work.make_shards(processes)
        if processes.rank == 0:
            work.finish(command)
        processes.barrier()
    finally:
        logger.removeHandler(handler)
        handler.close()
    return read_transfer_set(folder.path)


def _plain(settings: SynthesisSettings, plain: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict(plain) if plain is not None else asdict(settings)


def _inputs(
    sources: ImageSet, generator: ImageCompleter | None, teacher: Backbone | None
) -> dict[str, str]:
    """Fingerprints of what the settings only name."""
    labels = map(str, sources.labels.tolist())
    found = {"images": fingerprint_ids([*sources.ids, *sources.classes, *labels])}
    if generator is not None:
        found["generator"] = generator.fingerprint()
    if teacher is not None:
        found["teacher"] = teacher.fingerprint()
    return found


def check_models(
    settings: SynthesisSettings, generator: ImageCompleter | None, teacher: Backbone | None
) -> None:
    """Refuse a method without the model it needs, and masks that cannot be drawn.

    Raises:
        UserError: what is missing.
    """
    method = settings.synthesis
    if teacher is None and (
        settings.filters.needs_teacher or isinstance(method, InversionSettings)
    ):
        raise UserError(f"synthesis={method.name}: its filters or method need a teacher, give one")
    if isinstance(method, InversionSettings):
        return
    if generator is None:
        raise UserError(f"synthesis={method.name}: expected a generator, got none")
    if isinstance(method, IrfSettings) and not isinstance(generator, Generator):
        raise UserError("synthesis=irf: expected a generator with a VQGAN, this one has none")
    if isinstance(method, DiggSettings):
        if isinstance(generator, Generator):
            generator.require_completer()
            if generator.needs_classes:
                raise UserError(
                    f"generator {generator.name}: its transformer must be told the upstream class "
                    "of every picture, which sources do not have; take one without classes, or "
                    "generator.complete(..., conditions=...) in Python"
                )
        for kind in method.masks.kinds:  # now, and not at the first unlucky draw
            draw_mask(replace(method.masks, kinds=(kind,)), mask_grid(generator), 0)


@dataclass
class Synthesis:
    """A set while it is made.

    Args:
        settings: of the synthesis.  sources: in their canonical order.
        out: its folder, claimed.  models: on their device.
    """

    settings: SynthesisSettings
    sources: ImageSet
    out: Path
    models: Models

    @property
    def plan(self) -> Plan:
        """What each shard holds."""
        if isinstance(self.settings.synthesis, InversionSettings):
            assert self.models.teacher is not None
            return plan_of(self.settings, self.models.teacher.num_classes)
        return plan_of(self.settings, len(self.sources))

    def task(self, shard: int) -> ShardTask:
        """What one shard needs to know."""
        plan = self.plan
        if isinstance(self.settings.synthesis, InversionSettings):
            rows: list[int] = []
        else:
            rows = sorted({group.source for group in plan.groups(shard)})
        return ShardTask(
            str(self.out), shard, plan, self.settings, self.sources.select(rows), tuple(rows),
            getattr(self.models.generator, "name", None),
        )  # fmt: skip

    def make_shards(self, processes: Processes, *, progress: bool = True) -> None:
        """Make this process's shards, then wait until all are there."""
        plan, started = self.plan, time.perf_counter()
        mine = [
            shard
            for shard in range(processes.rank, plan.num_shards, processes.world_size)
            if shard_facts(self.out, shard) is None
        ]
        total = sum(len(plan.shard_images(shard)) for shard in mine)
        done: Counter[str] = Counter()
        with tqdm(
            total=total, desc=f"synthesize {self.settings.synthesis.name}", unit="img",
            disable=None if progress and processes.rank == 0 else True,
        ) as bar:  # fmt: skip
            for shard in mine:
                facts = synthesize_shard(self.task(shard), self.models, bar.update)
                done.update(images=facts["made"], tokens=facts["drawn_tokens"])
        seconds = time.perf_counter() - started
        if mine and progress:
            logger.info(
                "%d images in %.1f s: %.1f images/s, %.0f tokens/s in this process",
                done["images"], seconds, done["images"] / seconds, done["tokens"] / seconds,
            )  # fmt: skip
        self._wait(plan)
        processes.barrier()

    def _wait(self, plan: Plan) -> None:
        """Until other processes are done: a barrier alone gives up after half an hour."""
        for shard in range(plan.num_shards):
            while shard_facts(self.out, shard) is None:
                time.sleep(_POLL_SECONDS)

    def finish(self, command: str) -> TransferSet:
        """Drop near copies, write contact sheet and card, and last the header."""
        plan, classes = self.plan, self.sources.classes
        if self.settings.filters.max_similarity is not None:
            remove_duplicates(self.out, plan.num_shards, self.settings, classes)
        header = self._header(plan)
        if not header["funnel"]["kept"]:
            dropped = ", ".join(f"{n} {why}" for why, n in header["funnel"]["dropped"].items())
            raise UserError(
                f"filters: none of {header['funnel']['made']} images is left ({dropped}); loosen "
                "them and give overwrite=true or another out="
            )
        found = open_shards(self.out, header)
        header["diversity"] = measure_diversity(found) if header["has_features"] else {}
        rows = sheet_rows(found, self.sources, self.settings, self.models.generator)
        write_text(self.out / "contact_sheet.html", sheet_page(header, rows, command))
        write_text(self.out / "README.md", card_text(header, command, str(self.out)))
        return write_header(self.out, header)

    def _header(self, plan: Plan) -> dict[str, Any]:
        made, dropped, tokens = 0, Counter[str](), 0
        kept = 0
        for facts in self._facts(plan):
            made, kept = made + facts["made"], kept + facts["num_images"]
            tokens += facts["drawn_tokens"]
            dropped.update(facts["dropped"])
        settings = {k: v for k, v in asdict(self.settings).items() if k not in _SPEED_ALONE}
        inversion = isinstance(self.settings.synthesis, InversionSettings)
        generator, teacher = self.models.generator, self.models.teacher
        num_sources = plan.num_sources if inversion else len(self.sources)
        return {
            "source": "synthesized",
            "num_images": kept,
            "num_shards": plan.num_shards,
            "files": settings["files"],
            "classes": list(self.sources.classes),
            "has_tokens": isinstance(generator, Generator) and not inversion,
            "has_features": self.settings.filters.needs_features,
            "settings": json.loads(json.dumps(settings)),
            "generator": _described(generator) if generator is not None else None,
            "teacher": _described(teacher) if teacher is not None else None,
            "sources": {
                "num_images": num_sources,
                "num_used": plan.num_used,
                "fingerprint": fingerprint_ids(self.sources.ids),
            },
            "funnel": {
                "asked": plan.num_images,
                "made": made,
                "kept": kept,
                "dropped": dict(sorted(dropped.items())),
            },
            "drawn_tokens": tokens,
            "diversity": {},
            "genkt": metadata.version("genkt"),
        }

    def _facts(self, plan: Plan) -> Iterator[dict[str, Any]]:
        for shard in range(plan.num_shards):
            facts = shard_facts(self.out, shard)
            assert facts is not None
            yield facts


def _described(model: ImageCompleter | Backbone) -> dict[str, Any]:
    """A model's name and fingerprint, and the side of a generator's pictures."""
    about = {"name": getattr(model, "name", type(model).__name__)}
    about["fingerprint"] = model.fingerprint()
    if not isinstance(model, Backbone):
        about["size"] = model.size
    return about
