"""``genkt prime``: train VQGAN and latent transformer on upstream pictures, measure, save."""

from __future__ import annotations

import datetime
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from genkt.config.prime_settings import (
    PerceptualSettings,
    PrimeConfig,
    TransformerSettings,
    VQGANSettings,
)
from genkt.earlier import without_added
from genkt.generative.generator import Generator, load_generator
from genkt.generative.vqgan import VQGAN
from genkt.io import fingerprint, fingerprint_tensors, write_json
from genkt.progress import Reporter
from genkt.readers.scan import left_out_notes
from genkt.report.kit.grid import save_grid
from genkt.runs.run_folder import RunFolder
from genkt.runs.run_log import RunLog, StageLog
from genkt.runs.versions import hardware
from genkt.training.averages import AVERAGE_RULE
from genkt.training.fabric import keep_freed_memory
from genkt.training.stage import Record
from genkt.training.steps import Records, StepReport, Steps, run_steps
from genkt.types import UserError
from genkt.upstream.generator.generator_card import write_card
from genkt.upstream.generator.generator_figures import (
    measure_generator,
    measure_transformer,
    measure_vqgan,
)
from genkt.upstream.generator.generator_sheets import completion_sheet, reconstruction_sheet
from genkt.upstream.generator.train_transformer import TransformerTraining
from genkt.upstream.generator.train_vqgan import VQGANTraining, given_vqgan
from genkt.upstream.upstream_pictures import GLYPHS, Upstream, open_upstream

logger = logging.getLogger("genkt")


def prime(config: PrimeConfig, command: str) -> dict[str, Any]:
    """Train, measure and save; the same call continues an interrupted run.

    Returns:
        What ``out/report.json`` holds: PSNR, codes in use, perplexity, Frechet distances, nats
        per token, seconds.

    Raises:
        UserError: settings that do not fit, ``out`` taken by another run, a loss that diverged.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UserError("genkt prime trains in one process: start it without torchrun")
    folder = RunFolder(config.out, asdict(config), overwrite=config.overwrite)
    run = _Run(config, folder.path)
    run.open()  # what cannot be read is refused before the folder belongs to this run
    folder.claim(command)
    with folder.at_work():
        return _primed(config, command, folder, run)


def _primed(config: PrimeConfig, command: str, folder: RunFolder, run: _Run) -> dict[str, Any]:
    """Both trainings and the measurements, in the run's own folder."""
    vqgan = run.vqgan()
    transformer = run.transformer(vqgan)
    home = folder.path / "generator"
    vqgan.save(home / "vqgan", half=True)
    if transformer is not None:
        transformer.save(home / "transformer", half=True)
    generator = load_generator(home, device=run.device)  # measure the weights as they are stored
    upstream = run.upstream(config.vqgan.batch_size)
    figures = measure_generator(generator, upstream, config.features)
    num_pictures = figures["upstream"]["num_pictures"]
    training = {**_facts(config, generator, run.seconds, command), "num_measured": num_pictures}
    figures["training"] = training
    write_card(home, generator, upstream, figures)
    write_json(folder.path / "report.json", figures)
    folder.end()
    return figures


def _facts(
    config: PrimeConfig, generator: Generator, seconds: dict[str, float], command: str
) -> dict[str, Any]:
    """What was trained, on what and how long, for the card."""
    transformer = generator.completer if isinstance(generator.completer, nn.Module) else None
    return {
        "name": "digits_generator" if config.upstream == GLYPHS else "generator",
        "command": command,
        "upstream": config.upstream,
        "size": config.size,
        "grid": generator.vqgan.grid,
        "num_codes": generator.vqgan.num_codes,
        "vqgan_parameters": _millions(generator.vqgan),
        "transformer_parameters": _millions(transformer),
        "condition": config.transformer.condition,
        "perceptual": _perceptual(config.vqgan.perceptual),
        "features": config.features,
        "vqgan_steps": config.vqgan.steps,
        "vqgan_batch": config.vqgan.batch_size,
        "vqgan_seconds": round(seconds.get("vqgan", 0)),
        "transformer_steps": config.transformer.steps,
        "transformer_batch": config.transformer.batch_size,
        "transformer_seconds": round(seconds.get("transformer", 0)),
        "seed": config.seed,
        "hardware": hardware(torch.device(generator.device)),
        "date": datetime.date.today().isoformat(),
        "torch": torch.__version__,
    }


def _perceptual(settings: PerceptualSettings) -> str:
    """What the perceptual loss compared, for the card."""
    if settings.kind == "teacher":
        weights = "" if settings.pretrained else ", with random instead of its trained weights"
        return f"features of `{settings.teacher}`{weights}"
    return settings.kind


def _millions(module: nn.Module | None) -> float:
    return 0.0 if module is None else sum(p.numel() for p in module.parameters()) / 1e6


class _Run:
    """The two trainings of a run, with their logs, sheets and states."""

    def __init__(self, config: PrimeConfig, out: Path) -> None:
        self.config, self.out = config, out
        device = config.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        if self.device.type == "cpu":
            keep_freed_memory()
        self.log = RunLog(out)
        self.seconds: dict[str, float] = {}
        self.told: list[str] = []
        self._upstreams: dict[int, Upstream] = {}
        self._training: VQGANTraining | None = None

    def open(self) -> None:
        """Read the upstream pictures and build what is trained on them; nothing is written."""
        settings = self.config.vqgan
        self.upstream(settings.batch_size)
        if settings.steps:
            self._training = self._vqgan_training()
        elif settings.weights is not None:
            given_vqgan(settings.weights, self.config.size)

    def _vqgan_training(self) -> VQGANTraining:
        config, settings = self.config, self.config.vqgan
        upstream = self.upstream(settings.batch_size)
        return VQGANTraining(
            settings, upstream, size=config.size, seed=config.seed, device=self.device
        )

    def upstream(self, batch_size: int) -> Upstream:
        """The upstream pictures, opened once for a batch size."""
        if batch_size not in self._upstreams:
            self._upstreams[batch_size] = self._opened(batch_size)
        return self._upstreams[batch_size]

    def _opened(self, batch_size: int) -> Upstream:
        config = self.config
        labelled = config.transformer.condition == "class"
        upstream = open_upstream(
            config.upstream, batch_size, config.seed, config.size,
            labelled=labelled, device=self.device,
        )  # fmt: skip
        notes = [note for note in left_out_notes(upstream.skipped) if note not in self.told]
        for note in notes:
            logger.warning("upstream: %s", note)
        self.told += notes
        return upstream

    def vqgan(self) -> VQGAN:
        """The trained VQGAN; with no steps the given one."""
        config, settings = self.config, self.config.vqgan
        if not settings.steps:
            assert settings.weights is not None
            return given_vqgan(settings.weights, config.size).to(self.device)
        upstream = self.upstream(settings.batch_size)
        training, self._training = self._training or self._vqgan_training(), None
        held_out = upstream.sample(512, config.seed + 1)

        def evaluate(step: int) -> dict[str, float]:
            vqgan = training.vqgan()
            sheet = reconstruction_sheet(vqgan, held_out[:24])
            save_grid(self.out / "samples" / f"vqgan-{step:06d}.png", sheet)
            return measure_vqgan(vqgan, held_out, config.features)

        identity = self._identity(settings)
        self._train("vqgan", training, settings.steps, identity, evaluate)
        return training.vqgan().to(self.device)

    def transformer(self, vqgan: VQGAN) -> Any:
        """The trained transformer, or None where none is asked for."""
        config, settings = self.config, self.config.transformer
        if not settings.steps:
            return None
        upstream = self.upstream(settings.batch_size)
        training = TransformerTraining(
            settings, vqgan, upstream, seed=config.seed, device=self.device
        )
        held_out = upstream.sample(512, config.seed + 1)

        def evaluate(step: int) -> dict[str, float]:
            averaged = training.averaged()
            if settings.condition != "class":
                sheet = completion_sheet(Generator(vqgan, averaged), held_out[:6])
                save_grid(self.out / "samples" / f"transformer-{step:06d}.png", sheet)
                return measure_transformer(averaged, vqgan, held_out)
            return {}

        identity = self._identity(settings, fingerprint_tensors(vqgan.state_dict()), AVERAGE_RULE)
        self._train("transformer", training, settings.steps, identity, evaluate)
        return training.averaged()

    def _identity(self, settings: VQGANSettings | TransformerSettings, *more: str) -> str:
        """What decides a training: states of another are refused."""
        config = self.config
        group = "vqgan" if isinstance(settings, VQGANSettings) else "transformer"
        known = without_added(asdict(settings), group)
        return fingerprint(known, [config.upstream, config.size, config.seed], *more)

    def _train(
        self, name: str, training: Steps, num_steps: int, identity: str, evaluate: Any
    ) -> None:
        log, records = self.log.stage(0, "prime"), Records()
        path = self.out / name / "state.pt"
        with Reporter(num_steps, name, unit="steps", announced=True) as reporter:
            report = _told(self.config, log, records, name, num_steps, evaluate, reporter)
            run_steps(
                training, num_steps, path, identity,
                save_seconds=self.config.save_seconds, report=report, records=records,
            )  # fmt: skip
        if records.whole:
            log.begin(name, num_steps, records.kept)
        log.close()
        self.seconds[name] = training.seconds


def _told(
    config: PrimeConfig, log: StageLog, records: Records, name: str, num_steps: int, evaluate: Any,
    reporter: Reporter,
) -> StepReport:  # fmt: skip
    """Writes records, and sheets where they are due."""
    begun = False

    def record(figures: Record) -> None:
        records.kept.append(figures)
        log.record(figures)

    def report(step: int, figures: dict[str, float]) -> None:
        nonlocal begun
        if not begun:
            log.begin(name, step - 1, records.kept if records.whole else None)
            reporter.continue_at(step - 1)
            begun = True
        reporter.show(loss=f"{figures['loss']:.3f}")
        reporter.reach(step)
        if step % config.log_every == 0 or step == num_steps:
            record({"step": step, "stage": name, **figures})
        if step % config.eval_every == 0 or step == num_steps:
            record({"step": step, "stage": name, **evaluate(step)})

    return report
