"""The one training loop: any student, any objective, any mix of labelled and transfer images."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm import tqdm

from genkt.io import derive_seed, fingerprint
from genkt.methods.base import Objective
from genkt.models.backbone import Backbone
from genkt.training.batches import Batches
from genkt.training.checkpoint import load_state, save_state, save_weights
from genkt.training.distiller import Distiller, teacher_outputs
from genkt.training.optim import build_optimizer, lr_factor, set_lr_factor
from genkt.training.settings import TrainSettings
from genkt.types import Batch, Cost, ModelOutput, UserError

Record = dict[str, float | int | str]


class Log(Protocol):
    """Where a stage's records go."""

    def begin(self, stage: str, step: int) -> None:
        """The stage starts, or resumes, at a step."""

    def record(self, record: Record) -> None:
        """One record: step, stage, and what was measured."""


@dataclass
class Stage:
    """One stage of training: who learns from what, and where its state is kept.

    Args:
        name: shown in logs, e.g. "distil".
        student, objective: what is trained.
        batches: the rows of every step.
        settings: optimizer, length and the rest.
        directory: holds ``state.pt`` while training, ``last`` and ``best.safetensors`` after.
        seed: of dropout and the like, by step.
        online: teachers run on the fly, in the order of ``batch.teacher_images``.
        evaluate: validation accuracy (0..1) of the student, or None where there is no such set.
        log: told where the stage starts and given every record (losses, accuracy), or None.
        head_only: train the classifier alone (linear probe); the backbone stays still.
    """

    name: str
    student: Backbone
    objective: Objective
    batches: Batches
    settings: TrainSettings
    directory: Path
    seed: int
    online: Sequence[Backbone] = ()
    evaluate: Callable[[Backbone], float] | None = None
    log: Log | None = None
    head_only: bool = False


@dataclass
class Progress:
    """Where a stage stands; everything here is saved and restored."""

    step: int = 0
    seconds: float = 0.0
    wait_seconds: float = 0.0
    accumulate: int = 1
    best: float = -1.0
    curve: list[Record] = field(default_factory=list)


def train(fabric: Fabric, stage: Stage) -> tuple[Cost, list[Record]]:
    """Train ``stage.student`` in place; a repeated call continues an interrupted one.

    The state on disk is written every ``save_seconds`` and at the end, and every step depends
    only on that state, the seed and the step number: a run killed at any moment and started
    again ends with the same weights, bit for bit on CPU.

    Returns:
        What the stage cost, and its learning curve.

    Raises:
        UserError: a loss that is not finite, with the ids of the batch; a batch too small for
            the objective; a state on disk that belongs to other settings.
    """
    return _Run(fabric, stage).run()


class _Run:
    """The moving parts of one call of ``train``."""

    def __init__(self, fabric: Fabric, stage: Stage) -> None:
        self.fabric, self.stage, self.settings = fabric, stage, stage.settings
        self.num_steps = stage.settings.num_steps(_num_samples(stage.batches))
        self.progress = Progress(accumulate=stage.settings.accumulate)
        self.identity = _identity(stage, self.num_steps)
        if stage.head_only:
            _train_head_only(stage.student)
        distiller = Distiller(stage.student, stage.objective).to(fabric.device)
        own = stage.objective.own_optimizer()
        shared = [p for p in stage.student.parameters() if p.requires_grad]
        shared += list(stage.objective.parameter_groups())
        optimizers = [build_optimizer(shared, self.settings), *([own] if own else [])]
        self.inner = own if stage.objective.num_inner_steps else None
        self.state_path = stage.directory / "state.pt"
        self.averaged = _averaged(stage.student, self.settings.ema)
        self.optimizers = optimizers
        self.distiller = distiller
        self._restore()
        outer = [o for o in optimizers if o is not self.inner]
        compiled: nn.Module = torch.compile(distiller) if self.settings.compile else distiller  # type: ignore[assignment]
        setup = fabric.setup(compiled, *outer)
        self.module, self.outer = setup[0], list(setup[1:])
        self.pending: list[tuple[int, tuple[str, ...], dict[str, Tensor]]] = []

    def run(self) -> tuple[Cost, list[Record]]:
        progress, fabric = self.progress, self.fabric
        started = saved = time.perf_counter()
        before = progress.seconds
        bar = tqdm(
            total=self.num_steps,
            initial=progress.step,
            desc=self.stage.name,
            disable=None if fabric.is_global_zero else True,
            leave=False,
        )
        if self.stage.log and fabric.is_global_zero and progress.step < self.num_steps:
            self.stage.log.begin(self.stage.name, progress.step)
        batches = self.stage.batches.iterate(progress.step, self.num_steps)
        while progress.step < self.num_steps:
            asked = time.perf_counter()
            batch = next(batches)
            progress.wait_seconds += time.perf_counter() - asked
            self._step(batch)
            progress.step += 1
            bar.update()
            last = progress.step == self.num_steps
            if last or _due(progress.step, self.settings.log_every):
                self._log(bar)
            if self.stage.evaluate and (last or _due(progress.step, self.settings.eval_every)):
                self._evaluate()
            now = time.perf_counter()
            progress.seconds = before + now - started
            if last or now - saved > self.settings.save_seconds:
                self._save()
                saved = time.perf_counter()
        bar.close()
        self._finish()
        return self._cost(), progress.curve

    def _step(self, batch: Batch) -> None:
        """One optimizer step; when memory runs out, again with micro-batches half the size."""
        torch.manual_seed(derive_seed(self.stage.seed, "step", self.progress.step))
        factor = lr_factor(self.progress.step, self.num_steps, self.settings.warmup)
        set_lr_factor(self.optimizers, factor)
        batch = _to_device(batch, self.fabric.device)
        self.module.train()
        while True:
            try:
                parts = self._backward(batch)
                break
            except torch.OutOfMemoryError:
                self._halve(len(batch.labels))
        if self.settings.clip_grad is not None:
            self.fabric.clip_gradients(self.module, self.outer[0], max_norm=self.settings.clip_grad)
        for optimizer in self.outer:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.averaged is not None:
            self.averaged.update_parameters(self.stage.student)
        self.pending.append((self.progress.step, batch.ids, parts))

    def _backward(self, batch: Batch) -> dict[str, Tensor]:
        teachers = teacher_outputs(batch, self.stage.online)
        micro = _split(batch, teachers, self.progress.accumulate)
        totals: dict[str, Tensor] = {}
        for index, (images, labels, outputs) in enumerate(micro):
            with self.fabric.no_backward_sync(self.module, enabled=index + 1 < len(micro)):
                losses = self.module(images, labels, outputs, self.inner)
                self.fabric.backward(losses["total"] / len(micro))
            for name, value in losses.items():
                totals[name] = totals.get(name, 0) + value.detach() / len(micro)
        return totals

    def _halve(self, batch_size: int) -> None:
        for optimizer in self.outer:
            optimizer.zero_grad(set_to_none=True)
        accumulate = self.progress.accumulate * 2
        smallest = max(1, self.stage.objective.min_batch)
        if batch_size // accumulate < smallest:
            raise UserError(
                f"out of memory even with micro-batches of {batch_size // self.progress.accumulate} "
                f"images (the method needs {smallest}); choose a smaller train.batch_size or model"
            )
        self.progress.accumulate = accumulate
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        tqdm.write(
            f"{self.stage.name}: out of memory; continuing with micro-batches of "
            f"{batch_size // accumulate} images",
            file=sys.stderr,
        )

    def _log(self, bar: tqdm[Any]) -> None:
        """Check that the steps since the last call were finite, then record their mean."""
        names = list(self.pending[0][2])
        values = torch.stack(
            [torch.stack([p[name].float() for name in names]) for *_, p in self.pending]
        )
        values = values.cpu()
        for (step, ids, _), row in zip(self.pending, values, strict=True):
            if not torch.isfinite(row).all():
                shown = ", ".join(ids[:8]) + (" ..." if len(ids) > 8 else "")
                raise UserError(
                    f"{self.stage.name}: the loss is not finite at step {step} "
                    f"({dict(zip(names, row.tolist(), strict=True))}); its batch: {shown}. "
                    "Try a smaller train.lr, train.clip_grad=1 or train.precision=fp32."
                )
        means = dict(zip(names, values.mean(dim=0).tolist(), strict=True))
        self.pending.clear()
        lr = self.optimizers[0].param_groups[0]["lr"]
        self._record({"step": self.progress.step, "stage": self.stage.name, "lr": lr, **means})
        bar.set_postfix(loss=f"{means['total']:.3f}", refresh=False)

    def _evaluate(self) -> None:
        assert self.stage.evaluate is not None
        accuracy = self.stage.evaluate(self._evaluated())
        self._record(
            {"step": self.progress.step, "stage": self.stage.name, "validation_accuracy": accuracy}
        )
        if accuracy > self.progress.best:
            self.progress.best = accuracy
            self._save_weights("best")

    def _evaluated(self) -> Backbone:
        """The weights that count: the averaged ones where there are such."""
        return self.stage.student if self.averaged is None else self.averaged.module

    def _record(self, record: Record) -> None:
        self.progress.curve.append(record)
        if self.stage.log and self.fabric.is_global_zero:
            self.stage.log.record(record)

    def _save_weights(self, name: str) -> None:
        if self.fabric.is_global_zero:
            path = self.stage.directory / f"{name}.safetensors"
            save_weights(path, self._evaluated().model.state_dict())

    def _save(self) -> None:
        """Write the resumable state, unless the newest steps turn out not to be finite."""
        if self.pending and not all(p["total"].isfinite() for *_, p in self.pending):
            return
        state = {
            "identity": self.identity,
            "progress": asdict(self.progress),
            "distiller": self.distiller.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        if self.fabric.is_global_zero:
            save_state(self.state_path, state)

    def _restore(self) -> None:
        state = load_state(self.state_path, self.identity)
        if state is None:
            return
        self.progress = Progress(**state["progress"])
        self.distiller.load_state_dict(state["distiller"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.fabric.strategy.precision.load_state_dict(state["precision"])

    def _finish(self) -> None:
        """Leave the student with the weights that count, in memory and on disk."""
        if self.averaged is not None:
            self.stage.student.load_state_dict(self.averaged.module.state_dict())
        self._save_weights("last")
        best = self.stage.directory / "best.safetensors"
        self.fabric.barrier()
        if self.settings.select == "best" and best.is_file():
            from safetensors.torch import load_file

            self.stage.student.model.load_state_dict(load_file(best))
        if self.stage.head_only:
            self.stage.student.requires_grad_(True)
            self.stage.student.frozen = False
        self.stage.student.eval()

    def _cost(self) -> Cost:
        return Cost(
            seconds=self.progress.seconds,
            samples=self.num_steps * self.settings.batch_size,
            steps=self.num_steps,
            peak_memory_bytes=_peak_memory(self.fabric.device),
        )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _num_samples(batches: Batches) -> int:
    """Images a pass goes over: the transfer images, or the labelled ones where there are none."""
    return len(batches.plan.transfer) or len(batches.plan.labelled)


def _identity(stage: Stage, num_steps: int) -> str:
    """What a saved state must match: weights at the start, rows, settings, objective."""
    changing = {"save_seconds", "num_workers", "log_every", "compile"}
    settings = {k: v for k, v in asdict(stage.settings).items() if k not in changing}
    plan = stage.batches.plan
    return fingerprint(
        stage.student.fingerprint(),
        repr(stage.objective),
        settings,
        f"{stage.name}|{stage.seed}|{num_steps}|{stage.head_only}|{torch.__version__}",
        "\0".join(stage.batches.dataset.images.ids),
        stage.batches.labels.tobytes() + plan.labelled.tobytes() + plan.transfer.tobytes(),
        f"{plan.batch_size}|{plan.labelled_per_batch}|{plan.seed}|{stage.batches.dataset.spec}",
    )


def _train_head_only(student: Backbone) -> None:
    student.freeze()
    for parameter in student.classifier_parameters():
        parameter.requires_grad_(True)


def _averaged(student: Backbone, decay: float | None) -> AveragedModel | None:
    if decay is None:
        return None
    return AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def _to_device(batch: Batch, device: torch.device) -> Batch:
    def move(tensor: Tensor) -> Tensor:
        return tensor.to(device, non_blocking=True)

    return Batch(
        images=move(batch.images),
        labels=move(batch.labels),
        ids=batch.ids,
        teachers=tuple(
            ModelOutput(move(t.features), None if t.logits is None else move(t.logits))
            for t in batch.teachers
        ),
        teacher_images=tuple(move(images) for images in batch.teacher_images),
    )


def _split(
    batch: Batch, teachers: tuple[ModelOutput, ...], parts: int
) -> list[tuple[Tensor, Tensor, tuple[ModelOutput, ...]]]:
    """Micro-batches of almost equal size, in order."""
    if parts == 1:
        return [(batch.images, batch.labels, teachers)]
    bounds = [round(i * len(batch.labels) / parts) for i in range(parts + 1)]
    return [
        (
            batch.images[low:high],
            batch.labels[low:high],
            tuple(
                ModelOutput(t.features[low:high], None if t.logits is None else t.logits[low:high])
                for t in teachers
            ),
        )
        for low, high in zip(bounds, bounds[1:], strict=False)
    ]


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
