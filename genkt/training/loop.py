"""The one training loop: any student, any objective, any mix of labelled and transfer images."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial

import torch
from torch import Tensor

from genkt.files import read_tensors
from genkt.io import derive_seed
from genkt.models.backbone import Backbone
from genkt.progress import Reporter, say
from genkt.stopping import Stopped, deferring, stop, stop_asked
from genkt.training.averages import AveragedWeights, MomentumWeights, SlowWeights
from genkt.training.batch_parts import split_batch, to_device
from genkt.training.checkpoint import (
    BEST,
    STATE,
    load_stage,
    remove_leftovers,
    save_state,
    save_weights,
)
from genkt.training.distiller import Distiller, teacher_outputs, trainable
from genkt.training.fabric import peak_memory
from genkt.training.identity import earlier_identity, stage_identity
from genkt.training.lightning import Fabric
from genkt.training.optim import build_optimizer, lr_factor, set_lr_factor
from genkt.training.rows import rows_fault, rows_for_batch_norm
from genkt.training.stage import Progress, Record, Stage
from genkt.types import Batch, Cost, UserError

_MOST_UNCHECKED = 100
_STEPS_BETWEEN_AGREEMENTS = 10
"""Each is a sync point of all processes of a launch."""


def train(fabric: Fabric, stage: Stage) -> tuple[Cost, list[Record]]:
    """Train ``stage.student`` in place; a repeated call continues an interrupted one.

    The state on disk is written every ``save_seconds`` and at the end, and every step depends
    only on that state, the seed and the step number: a run killed at any moment and started
    again ends with the same weights, bit for bit on CPU.

    Returns:
        What the stage cost, and its learning curve.

    Raises:
        UserError: a loss that is not finite, with the ids of the batch; a batch too small for
            the objective; too little memory; a state on disk that belongs to other settings.
    """
    cuda = [fabric.device] if fabric.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), trainable(stage.student, stage.head_only):
        return _Run(fabric, stage).run()


class _Run:
    """The state of one call of ``train``."""

    def __init__(self, fabric: Fabric, stage: Stage) -> None:
        self.fabric, self.stage, self.settings = fabric, stage, stage.settings
        plan = stage.batches.plan
        num_labelled, num_transfer = plan.counts
        images = plan.transfer if num_transfer else plan.labelled
        self.num_steps = self.settings.num_steps(len(images), num_transfer or num_labelled)
        _require_rows(stage, self.settings.accumulate)
        self.progress = Progress(accumulate=self.settings.accumulate)
        self.identity = stage_identity(stage, self.num_steps)
        self.state_path = stage.directory / STATE
        self.distiller = Distiller(stage.student, stage.objective).to(fabric.device)
        trained = [p for p in stage.student.parameters() if p.requires_grad]
        trained += stage.objective.parameter_groups()
        own = stage.objective.own_optimizer()
        self.optimizers = [build_optimizer(trained, self.settings), *([own] if own else [])]
        self.inner = own if stage.objective.num_inner_steps else None
        self.averaged = _slow_weights(stage)
        self._restore()
        compiled = torch.compile(self.distiller) if self.settings.compile else self.distiller
        outer = [optimizer for optimizer in self.optimizers if optimizer is not self.inner]
        setup = fabric.setup(compiled, *outer)  # type: ignore[arg-type]
        self.module, self.outer = setup[0], list(setup[1:])
        self.unchecked: list[tuple[int, dict[str, Tensor]]] = []

    def run(self) -> tuple[Cost, list[Record]]:
        progress, settings = self.progress, self.settings
        if self.fabric.is_global_zero:
            remove_leftovers(self.stage.directory)
            if self.stage.log:
                self.stage.log.begin(self.stage.name, progress.step, progress.curve)
        started = saved = time.perf_counter()
        before = progress.seconds
        pin_memory = self.fabric.device.type == "cuda"
        loader = self.stage.batches
        batches = loader.iterate(
            progress.step, self.num_steps, pin_memory=pin_memory, between=self._look_for_a_stop
        )
        self.module.train()
        with self._reporter() as reporter, deferring():
            while progress.step < self.num_steps:
                asked, filled = time.perf_counter(), loader.fill_seconds
                batch = next(batches)
                filled = loader.fill_seconds - filled
                progress.fill_seconds += filled
                progress.wait_seconds += time.perf_counter() - asked - filled
                self._step(batch)
                progress.step += 1
                progress.seconds = before + time.perf_counter() - started
                reporter.advance()
                if progress.step == self.stage.snapshot:
                    self._save_weights("snapshot")
                last = progress.step == self.num_steps
                if last or _due(progress.step, settings.log_every):
                    self._log(reporter)
                if self.stage.evaluate and (last or _due(progress.step, settings.eval_every)):
                    self._evaluate()
                now = time.perf_counter()
                progress.seconds = before + now - started
                stops = self._stops()
                if last or stops or now - saved > settings.save_seconds:
                    self._save()
                    saved = time.perf_counter()
                if stops and not last:
                    raise self._stopped()
        self._finish()
        return self._cost(), progress.curve

    def _look_for_a_stop(self) -> None:
        """While teachers answer, which may take minutes; the processes of a launch stay together.

        What was answered so far is kept.
        """
        if self.fabric.world_size == 1 and stop_asked():
            self._save()
            raise self._stopped()

    def _stopped(self) -> Stopped:
        return stop(f"at step {self.progress.step} of {self.stage.name}, state saved")

    def _stops(self) -> bool:
        """Whether a signal asks to stop here; the processes of a launch agree from time to time."""
        if self.fabric.world_size == 1:
            return stop_asked()
        step = self.progress.step
        if step % _STEPS_BETWEEN_AGREEMENTS and step < self.num_steps:
            return False
        asked = torch.tensor(float(stop_asked()), device=self.fabric.device)
        total = self.fabric.all_reduce(asked, reduce_op="sum")
        assert isinstance(total, Tensor)
        return bool(total.item() > 0)

    def _step(self, batch: Batch) -> None:
        """One optimizer step; when memory runs out, again with micro-batches half the size."""
        progress = self.progress
        set_lr_factor(
            self.optimizers,
            lr_factor(
                progress.step, self.num_steps, self.settings.warmup, steady=self.stage.is_steady
            ),
        )
        batch = to_device(batch, self.fabric.device)
        parts = self._attempt(batch)
        while parts is None:
            self._halve()
            parts = self._attempt(batch)
        if self.settings.clip_grad is not None:
            # A norm that is not finite must not raise here: the losses say which step it was, and
            # fp16's scaler skips such a step.
            self.fabric.clip_gradients(
                self.module,
                self.outer[0],
                max_norm=self.settings.clip_grad,
                error_if_nonfinite=False,
            )
        for optimizer in self.outer:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if self.averaged is not None:
            self.averaged.update(self.stage.student)
        self.unchecked.append((progress.step, parts))
        if len(self.unchecked) >= _MOST_UNCHECKED:
            self._check()

    def _attempt(self, batch: Batch) -> dict[str, Tensor] | None:
        """The losses, gradients in place, or None where memory ran out.

        Returns before anything is freed or tried again: the error's traceback holds the
        activations.
        """
        seed = derive_seed(self.stage.seed, "step", self.progress.step, self.fabric.global_rank)
        torch.default_generator.manual_seed(seed)
        if self.fabric.device.type == "cuda":
            torch.cuda.manual_seed(seed)
        try:
            return self._backward(batch)
        except torch.OutOfMemoryError:
            return None

    def _backward(self, batch: Batch) -> dict[str, Tensor]:
        num_rows = len(batch.labels)
        micro_batches = split_batch(batch, self.progress.accumulate)
        totals: dict[str, Tensor] = {}
        for index, micro in enumerate(micro_batches):
            share = len(micro.labels) / num_rows
            teachers = teacher_outputs(micro, self.stage.online, self.stage.objective.needs)
            more = index + 1 < len(micro_batches)
            with self.fabric.no_backward_sync(self.module, enabled=more):
                losses = self.module(
                    micro.images, micro.labels, micro.samples, teachers, self.inner
                )
                self.fabric.backward(losses["total"] * share if share < 1 else losses["total"])
            for name, value in losses.items():
                value = value.detach() * share
                totals[name] = totals[name] + value if name in totals else value
        return totals

    def _halve(self) -> None:
        """Twice as many micro-batches, or a clear error where that is impossible."""
        for optimizer in self.outer:
            optimizer.zero_grad(set_to_none=True)
        accumulate = self.progress.accumulate * 2
        if self.fabric.world_size > 1:  # the other processes wait for this one's rows
            raise UserError(
                "out of memory in one of several processes; start again with "
                f"train.accumulate={accumulate}"
            )
        num_rows = self.settings.batch_size
        student, smallest = self.stage.student, self.stage.objective.min_batch
        if not student.frozen:  # a linear probe's batch norm is frozen
            smallest = max(smallest, rows_for_batch_norm(student))
        if num_rows // accumulate < smallest:
            raise UserError(
                f"out of memory even with micro-batches of {num_rows // (accumulate // 2)} images "
                f"(at least {smallest} are needed); choose a smaller train.batch_size or model"
            )
        self.progress.accumulate = accumulate
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        say(
            f"{self.stage.name}: out of memory; continuing with micro-batches of "
            f"{num_rows // accumulate} images"
        )

    def _check(self) -> None:
        """Refuse losses that are not finite; add the others to those since the last record."""
        if not self.unchecked:
            return
        names = list(self.unchecked[0][1])
        rows = [torch.stack([parts[n].float() for n in names]) for _, parts in self.unchecked]
        for (step, _), row in zip(self.unchecked, torch.stack(rows).cpu(), strict=True):
            losses = dict(zip(names, row.tolist(), strict=True))
            if not torch.isfinite(row).all():
                self._refuse(f"the loss is not finite at step {step} ({losses})", step)
            for name, value in losses.items():
                self.progress.sums[name] = self.progress.sums.get(name, 0.0) + value
        self.progress.num_summed += len(self.unchecked)
        self.unchecked.clear()

    def _check_weights(self) -> None:
        """Refuse weights that are not finite, which a finite loss does not rule out."""
        self._check()
        state = self.distiller.state_dict().values()
        finite = [torch.isfinite(v).all() for v in state if v.is_floating_point()]
        if self.progress.step and not torch.stack(finite).all():
            step = self.progress.step - 1
            self._refuse(f"the weights are not finite after step {step}", step)

    def _refuse(self, what: str, step: int) -> None:
        ids = self.stage.batches.step_ids(step)
        shown = ", ".join(ids[:8]) + (" ..." if len(ids) > 8 else "")
        raise UserError(
            f"{self.stage.name}: {what}; its batch: {shown}. "
            "Try a smaller train.lr, train.clip_grad=1 or train.precision=fp32."
        )

    def _log(self, reporter: Reporter) -> None:
        """Record the mean losses of the steps since the last record."""
        self._check()
        progress = self.progress
        means = {name: value / progress.num_summed for name, value in progress.sums.items()}
        progress.sums, progress.num_summed = {}, 0
        lr = self.optimizers[0].param_groups[0]["lr"]
        self._record({"step": progress.step, "stage": self.stage.name, "lr": lr, **means})
        reporter.show(loss=f"{means['total']:.3f}", **progress.shares())

    def _evaluate(self) -> None:
        assert self.stage.evaluate is not None
        self._check_weights()
        share = self.stage.evaluate(self._evaluated())
        self.module.train()
        self._record(
            {"step": self.progress.step, "stage": self.stage.name, self.stage.measured: share}
        )
        if share > self.progress.best:
            self.progress.best = share
            self._save_weights("best")

    def _evaluated(self) -> Backbone:
        """The weights that are evaluated: the averaged ones, if there are any."""
        return self.stage.student if self.averaged is None else self.averaged.model

    def _record(self, record: Record) -> None:
        self.progress.curve.append(record)
        if self.stage.log and self.fabric.is_global_zero:
            self.stage.log.record(record)

    def _save_weights(self, name: str) -> None:
        if self.fabric.is_global_zero:
            path = self.stage.directory / f"{name}.safetensors"
            save_weights(path, self._evaluated().model.state_dict())

    def _save(self) -> None:
        """Write the resumable state, unless the losses or weights turn out not to be finite."""
        self._check_weights()
        if not self.fabric.is_global_zero:
            return
        state = {
            "identity": self.identity,
            "progress": asdict(self.progress),
            "distiller": self.distiller.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "averaged": None if self.averaged is None else self.averaged.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        save_state(self.state_path, state)

    def _restore(self) -> None:
        earlier = partial(earlier_identity, self.stage, self.num_steps)
        state = load_stage(self.state_path, self.identity, earlier)
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
        """Give the student its final weights, in memory and on disk."""
        if self.averaged is not None:
            self.stage.student.load_state_dict(self.averaged.model.state_dict())
        self._save_weights("last")
        self.fabric.barrier()
        if self.settings.select == "best" and self.progress.best >= 0:
            best = read_tensors(
                self.stage.directory / BEST,
                f"delete {self.state_path} to start this stage again",
            )
            self.stage.student.model.load_state_dict(best)
        self.stage.student.eval()

    def _reporter(self) -> Reporter:
        log = self.stage.log
        return Reporter(
            self.num_steps, self.stage.name, done=self.progress.step, unit="steps",
            where=log.place if log else "", announced=True, leave=False,
            shown=self.fabric.is_global_zero,
        )  # fmt: skip

    def _cost(self) -> Cost:
        return Cost(
            seconds=self.progress.seconds,
            samples=self.num_steps * self.settings.batch_size,
            steps=self.num_steps,
            fill_seconds=self.progress.fill_seconds,
            peak_memory_bytes=peak_memory(self.fabric.device),
        )


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _require_rows(stage: Stage, accumulate: int) -> None:
    """Refuse micro-batches that are too small for the objective or for batch norm."""
    rows, least = stage.settings.batch_size // accumulate, stage.objective.min_batch
    if rows < max(least, stage.batches.world_size):
        raise UserError(
            f"train.batch_size: this method needs at least {least} images in each of the "
            f"{accumulate} micro-batches (train.accumulate), got {rows}"
        )
    world_size = stage.batches.world_size
    key = f"{stage.name}: batch_size"
    if fault := rows_fault(key, stage.student, stage.settings, world_size, accumulate):
        raise UserError(fault)


def _slow_weights(stage: Stage) -> SlowWeights | None:
    settings, rule = stage.settings, stage.momentum
    if rule is not None:
        return MomentumWeights(stage.student, rule.decay, rule.every)
    if settings.ema is None:
        return None
    return AveragedWeights(stage.student, settings.ema, settings.ema_every)
