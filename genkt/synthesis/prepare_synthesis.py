"""``genkt synthesize`` from its settings: sources and models, then the synthesis or an estimate."""

from __future__ import annotations

import logging
import os
import tempfile
from dataclasses import asdict, replace
from pathlib import Path

import torch

from genkt.config.data_settings import EmbeddedData
from genkt.config.set_command_settings import SynthesizeConfig
from genkt.config.synthesis_settings import DiggSettings, InversionSettings, SynthesisSettings
from genkt.data.images import ImageSet
from genkt.execution.ranks import ALONE, Processes, device_here
from genkt.execution.tasks import processes_of
from genkt.generative.completer import ImageCompleter
from genkt.generative.generator import SHIPPED
from genkt.io import derive_seed
from genkt.models.backbone import Backbone
from genkt.readers.folders import read_unlabelled
from genkt.runs.estimate import disk_row, estimate_text, memory_row, time_row, timed
from genkt.runs.model_factories import teacher_factories, teacher_specs
from genkt.runs.pool import chosen_images, load_splits
from genkt.runs.run_folder import RunFolder
from genkt.settings.objects import has_objects, name_in, object_in
from genkt.synthesis.plan_images import ordered_sources
from genkt.synthesis.shard import ModelNames, Models, load_completer
from genkt.synthesis.synthesize_set import Synthesis, check_models, run_synthesis
from genkt.training.fabric import keep_freed_memory, make_fabric, peak_memory
from genkt.training.teacher_shards import TeacherSource
from genkt.transfer_set.composition import TransferSet
from genkt.transfer_set.set_files import HEADER
from genkt.types import UserError

logger = logging.getLogger("genkt")

_TRIED_STEPS = 8


def synthesize(config: SynthesizeConfig, command: str) -> TransferSet:
    """Read the sources, load the models, and make or continue the set.

    Raises:
        UserError: every mistake in settings, data or models, before anything is written.
    """
    settings = config.settings
    folder = RunFolder(config.out, asdict(config), overwrite=config.overwrite, last=HEADER)
    device, processes = _joined(config)
    sources = read_sources(config)
    models = load_models(config, device)
    if processes.rank == 0:
        _warn(config, sources)
    return run_synthesis(
        settings,
        sources,
        folder.path,
        generator=models.generator,
        teacher=models.teacher,
        names=_names(config, models),
        executor=config.executor,
        processes=processes,
        plain=asdict(config),
        command=command,
        overwrite=config.overwrite,
    )


def _joined(config: SynthesizeConfig) -> tuple[torch.device, Processes]:
    """This process's device, and the processes that share the work.

    Processes of torchrun have a barrier; others, such as srun's, only see each other's files.
    """
    processes = processes_of(config.executor)
    if processes.world_size > 1 and "MASTER_ADDR" in os.environ:
        device = make_fabric("fp32", config.device).device
        return device, processes_of(config.executor)
    device = torch.device(device_here(config.device))
    if device.type == "cpu":
        keep_freed_memory()
    return device, processes


def _names(config: SynthesizeConfig, models: Models) -> ModelNames | None:
    """How other processes load the models; None if one was given as an object."""
    if has_objects(config.generator) or has_objects(config.teacher):
        return None
    teacher = None
    if models.teacher is not None:
        seed = derive_seed(config.seed, "teacher")
        teacher = TeacherSource(teacher_specs(config.teacher)[0], seed, config.device)
    generator = name_in(config.generator) if models.generator is not None else None
    return ModelNames(generator, teacher, config.device)


def _warn(config: SynthesizeConfig, sources: ImageSet) -> None:
    """Log warnings before the work starts."""
    for entry in sources.skipped:
        logger.warning("left out: %s: %s", entry.path, entry.reason)
    foreign = config.images is not None or not isinstance(config.data, EmbeddedData)
    used = not isinstance(config.synthesis, InversionSettings)
    if foreign and used and str(config.generator).startswith(SHIPPED):
        logger.warning(
            "generator: %s only knows small drawn characters and may not suit your "
            "images; genkt prime and genkt convert make others",
            config.generator,
        )


def read_sources(config: SynthesizeConfig) -> ImageSet:
    """The source images of the settings, never test or validation images.

    Raises:
        UserError: no images, or labels that cannot be drawn.
    """
    given = config.data.given
    if isinstance(given, ImageSet):
        return given
    if config.images is not None:
        if config.sources != "train":
            raise UserError(f"images: replaces data; leave out sources={config.sources}")
        roots = [config.images] if isinstance(config.images, str) else config.images
        return read_unlabelled(roots, in_full=True)
    splits = load_splits(config.data, config.seed)
    for note in splits.notes if processes_of(config.executor).rank == 0 else ():
        logger.warning(note)
    return chosen_images(config.data, splits, config.sources, seed=config.seed, draw=config.draw)


def load_models(config: SynthesizeConfig, device: torch.device) -> Models:
    """The networks that the method and the filters need, on the device.

    Raises:
        UserError: a network is missing, or does not fit the method.
    """
    settings, inverts = config.settings, isinstance(config.synthesis, InversionSettings)
    generator: ImageCompleter | None = None
    teacher: Backbone | None = None
    if not inverts:
        given = object_in(config.generator)
        generator = load_completer(name_in(config.generator), device) if given is None else given
    if inverts or settings.filters.needs_teacher:
        teacher = teacher_factories(config.teacher)[0](None, derive_seed(config.seed, "teacher"))
        teacher = teacher.freeze().to(device)
    check_models(settings, generator, teacher)
    return Models(generator, teacher)


def estimate(config: SynthesizeConfig) -> str:
    """Estimate the cost from a small synthesis; nothing stays on disk.

    Raises:
        UserError: any error that would stop the real one at its start.
    """
    RunFolder(config.out, asdict(config), overwrite=config.overwrite, last=HEADER)
    device, processes = _joined(config)
    sources = read_sources(config)
    models = load_models(config, device)
    settings, few = config.settings, _few(config.settings)
    plan = Synthesis(settings, ordered_sources(sources, settings), Path(), models).plan
    ordered = ordered_sources(sources, few)
    with tempfile.TemporaryDirectory(prefix="genkt-") as temporary:

        def make(attempt: str) -> Synthesis:
            work = Synthesis(few, ordered, Path(temporary, attempt), models)
            work.make_shards(ALONE, progress=False)
            return work

        work, seconds = timed(make)
        tried = work.plan.num_images
        size = sum(p.stat().st_size for p in Path(temporary, "timed").rglob("*") if p.is_file())
    if isinstance(settings.synthesis, InversionSettings):
        seconds *= settings.synthesis.inversion.steps / _TRIED_STEPS
    total = seconds / tried * plan.num_images / processes.world_size
    disk = size / tried * plan.num_images
    what = "classes" if models.generator is None else "sources"
    return estimate_text([
        ("images", f"{plan.num_images} of {plan.num_sources} {what}"),
        ("shards", f"{plan.num_shards} of {plan.shard_size}"),
        time_row(
            total, f"on {device} x {processes.world_size}, {tried / seconds:.1f} images/s each"
        ),
        memory_row(peak_memory(device)),
        disk_row(config.out, disk, "the set"),
    ])  # fmt: skip


def _few(settings: SynthesisSettings) -> SynthesisSettings:
    """A batch or two of the same work."""
    method, count = settings.synthesis, 2 * settings.batch_size
    if isinstance(method, InversionSettings):
        count = min(method.num_images, method.inversion.batch_size)
        short = replace(method.inversion, steps=_TRIED_STEPS)
        method = replace(method, num_images=count, inversion=short)
    elif isinstance(method, DiggSettings):
        method = replace(method, num_images=count)
    most = min(settings.max_sources or count, count)
    filters = replace(settings.filters, max_similarity=None)
    return replace(settings, synthesis=method, max_sources=most, filters=filters)
