"""``genkt synthesize``: a transfer set made by a generative model, shard by shard."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from genkt.config.synthesis_settings import (
    DiggSettings,
    InversionSettings,
    IrfSettings,
    SynthesisSettings,
)
from genkt.data.images import ImageSet
from genkt.execution.ranks import Processes
from genkt.execution.run_tasks import run_tasks
from genkt.execution.tasks import HERE, IN_PROCESS, ExecutorSettings, processes_of
from genkt.generative.completer import ImageCompleter
from genkt.generative.generator import Generator
from genkt.generative.masks import draw_mask
from genkt.io import fingerprint_ids, write_text
from genkt.models.backbone import Backbone
from genkt.runs.run_folder import RunFolder
from genkt.runs.run_log import log_to_file
from genkt.synthesis.filter_images import measure_diversity, remove_duplicates
from genkt.synthesis.make_images import mask_grid
from genkt.synthesis.plan_images import ImagePlan, ordered_sources, plan_of
from genkt.synthesis.shard import ModelNames, Models, SynthesisTask
from genkt.synthesis.synthesis_card import card_text
from genkt.synthesis.synthesis_sheet import sheet_page, sheet_rows
from genkt.transfer_set.composition import TransferSet, read_transfer_set
from genkt.transfer_set.read_set import open_shards, write_header
from genkt.transfer_set.set_files import HEADER, remove_leftovers, shard_facts
from genkt.types import UserError

logger = logging.getLogger("genkt")

_POLL_SECONDS = 0.5
_SPEED_ALONE = ("batch_size", "num_threads")


def run_synthesis(
    settings: SynthesisSettings,
    sources: ImageSet,
    out: str | Path,
    *,
    generator: ImageCompleter | None = None,
    teacher: Backbone | None = None,
    names: ModelNames | None = None,
    executor: ExecutorSettings = HERE,
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
        generator, teacher: on the device that computes; each is needed only if the method or a
        filter uses it.
        names: the same models by name, for other processes; None: they have no names.
        executor: how the shards are made; without names always in this process.
        processes: those that share the work, all with the same arguments; None: as
            ``processes_of`` finds them.
        plain: the content of ``config.yaml``; by default the settings.
        command: how to repeat it, for the card.
        overwrite: replace another run in ``out``.

    Returns:
        The set.

    Raises:
        UserError: settings, models and sources that do not fit, before anything is written;
            a folder with another run; filters that leave no image.
    """
    check_models(settings, generator, teacher)
    if names is None and executor.name not in IN_PROCESS:
        logger.warning(
            "executor=%s: other processes cannot load models that were given as objects, "
            "so this process makes the set", executor.name,
        )  # fmt: skip
        executor = HERE
    processes = processes or processes_of(executor)
    if overwrite and processes.by_files:
        raise UserError(
            "overwrite=true: the processes of this launch cannot see when the old run is "
            f"removed; remove {out} before you start them"
        )
    folder = RunFolder(out, _plain(settings, plain), overwrite=overwrite, last=HEADER)
    sources = ordered_sources(sources, settings)
    models = Models(generator, teacher)
    work = Synthesis(settings, sources, folder.path, models, names, executor)
    _ = work.plan  # fails now if there are no sources
    processes.meet()  # no process reads the folder when the first one changes it
    if processes.rank == 0 or processes.by_files:
        folder.claim(command, _inputs(sources, generator, teacher))
    processes.meet()
    if folder.finished:
        return read_transfer_set(folder.path)
    with folder.one_command(processes):
        processes.meet()
        if not folder.finished:  # by another command
            _make(work, folder, processes, command)
    if processes.rank == 0:
        folder.end()
    return read_transfer_set(folder.path)


def _make(work: Synthesis, folder: RunFolder, processes: Processes, command: str) -> None:
    handler = log_to_file(folder.path / "synthesize.log" if processes.rank == 0 else None)
    try:
        work.make_shards(processes)
        if processes.rank == 0:
            work.finish(command)
        processes.meet()
        while not folder.finished:
            time.sleep(_POLL_SECONDS)
    finally:
        logger.removeHandler(handler)
        handler.close()


def _plain(settings: SynthesisSettings, plain: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict(plain) if plain is not None else asdict(settings)


def _inputs(
    sources: ImageSet, generator: ImageCompleter | None, teacher: Backbone | None
) -> dict[str, str]:
    """Fingerprints of the images and models of the settings."""
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
        raise UserError(
            f"synthesis={method.name}: expected a teacher for its filters or method, got none"
        )
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
                    f"generator {generator.name}: its transformer needs the upstream class "
                    "of every picture, which sources do not have; use one without "
                    "classes, or "
                    "generator.complete(..., conditions=...) in Python"
                )
        for kind in method.masks.kinds:  # check now, not at the first unlucky draw
            draw_mask(replace(method.masks, kinds=(kind,)), mask_grid(generator), 0)


@dataclass
class Synthesis:
    """A set in progress.

    Args:
        settings: of the synthesis.  sources: in their canonical order.
        out: its folder, claimed.  models: on their device.
        names, executor: see ``run_synthesis``.
    """

    settings: SynthesisSettings
    sources: ImageSet
    out: Path
    models: Models
    names: ModelNames | None = None
    executor: ExecutorSettings = HERE

    @property
    def plan(self) -> ImagePlan:
        """The plan of the shards."""
        if isinstance(self.settings.synthesis, InversionSettings):
            assert self.models.teacher is not None
            return plan_of(self.settings, self.models.teacher.num_classes)
        return plan_of(self.settings, len(self.sources))

    def task(self, shard: int) -> SynthesisTask:
        """The task of one shard."""
        plan = self.plan
        if isinstance(self.settings.synthesis, InversionSettings):
            rows: list[int] = []
        else:
            rows = sorted({group.source for group in plan.groups(shard)})
        models = self.models if self.executor.name in IN_PROCESS else self.names
        assert models is not None
        return SynthesisTask(
            str(self.out), shard, plan, self.settings, self.sources.select(rows), tuple(rows),
            models,
        )  # fmt: skip

    def make_shards(self, processes: Processes, *, progress: bool = True) -> None:
        """Make this process's shards, then wait until all are there."""
        started = time.perf_counter()
        tasks = [self.task(shard) for shard in range(self.plan.num_shards)]
        missing = [task.shard for task in tasks if not task.is_done()]
        run_tasks(
            tasks, self.executor, description=f"synthesize {self.settings.synthesis.name}",
            processes=processes, on_gpu=self.names is not None and self.names.device != "cpu",
            progress=progress,
        )  # fmt: skip
        if missing and progress:
            seconds, made = time.perf_counter() - started, [self._facts(s) for s in missing]
            images, tokens = (sum(f[key] for f in made) for key in ("made", "drawn_tokens"))
            logger.info(
                "%d images in %.1f s: %.1f images/s, %.0f tokens/s",
                images, seconds, images / seconds, tokens / seconds,
            )  # fmt: skip
        processes.meet()

    def finish(self, command: str) -> TransferSet:
        """Drop near copies, write contact sheet and card, and last the header."""
        plan, classes = self.plan, self.sources.classes
        remove_leftovers(self.out)
        if self.settings.filters.max_similarity is not None:
            remove_duplicates(self.out, plan.num_shards, self.settings, classes)
        header = self._header(plan)
        if not header["funnel"]["kept"]:
            dropped = ", ".join(f"{n} {why}" for why, n in header["funnel"]["dropped"].items())
            raise UserError(
                f"filters: none of {header['funnel']['made']} images is left ({dropped}); "
                "loosen the filters and give overwrite=true or another out="
            )
        found = TransferSet.of_rows(open_shards(self.out, header))
        header["diversity"] = measure_diversity(found) if header["has_features"] else {}
        rows = sheet_rows(found, self.sources, self.settings, self.models.generator)
        write_text(self.out / "contact_sheet.html", sheet_page(header, rows, command))
        write_text(self.out / "README.md", card_text(header, command, str(self.out)))
        return TransferSet.of_rows(write_header(self.out, header))

    def _header(self, plan: ImagePlan) -> dict[str, Any]:
        made, dropped, tokens = 0, Counter[str](), 0
        kept = 0
        for facts in map(self._facts, range(plan.num_shards)):
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

    def _facts(self, shard: int) -> dict[str, Any]:
        facts = shard_facts(self.out, shard)
        assert facts is not None
        return facts


def _described(model: ImageCompleter | Backbone) -> dict[str, Any]:
    """A model's name and fingerprint, and the side of a generator's pictures."""
    about = {"name": getattr(model, "name", type(model).__name__)}
    about["fingerprint"] = model.fingerprint()
    if not isinstance(model, Backbone):
        about["size"] = model.size
    return about
