"""A loop of steps with resumable states, for trainings that define their own step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from genkt.stopping import deferring, stop, stop_asked
from genkt.training.checkpoint import load_state, remove_leftovers, save_state
from genkt.training.stage import Record
from genkt.types import UserError

StepReport = Callable[[int, dict[str, float]], None]
"""Called with the steps done and what the last one measured."""


@dataclass
class Records:
    """What a training has logged so far; its states hold it, as a log on disk may be damaged.

    Args:
        whole: from the first step on; not where an older genkt, which kept none, began.
    """

    kept: list[Record] = field(default_factory=list)
    whole: bool = True


class Steps(Protocol):
    """What ``run_steps`` drives.

    Attributes:
        step: steps done.  seconds: of training so far, over all calls.
    """

    step: int
    seconds: float

    def run_step(self) -> dict[str, float]:
        """One step, which counts itself in ``step``; returns "loss" and other figures."""

    def state(self) -> dict[str, Any]:
        """Everything beside ``step`` and ``seconds`` that a continuation needs."""

    def restore(self, state: dict[str, Any]) -> None:
        """Take a state back."""


def run_steps(
    training: Steps,
    num_steps: int,
    path: Path,
    identity: str,
    *,
    save_seconds: float,
    report: StepReport | None = None,
    records: Records | None = None,
    stop_after: int | None = None,
) -> None:
    """Train to ``num_steps``; the same call continues an interrupted one from ``path``.

    Args:
        identity: fingerprint of all that decides the training; a state of another is refused.
        save_seconds: least time between two states; the last step always writes one.
        records: what ``report`` logs; those of a state are put there.
        stop_after: stop after so many steps of this call, with the state saved.

    Raises:
        UserError: ``path`` holds the state of other settings, or the loss is not finite.
    """
    state = load_state(path, identity)
    if state is not None:
        training.step, training.seconds = state["step"], state["seconds"]
        training.restore(state["training"])
        if records is not None:
            records.kept[:] = state.get("records", [])
            records.whole = "records" in state
    remove_leftovers(path.parent)
    begun = saved = time.monotonic()
    before, last = training.seconds, num_steps
    if stop_after is not None:
        last = min(last, training.step + stop_after)
    with deferring():
        while training.step < last:
            figures = training.run_step()
            if not math.isfinite(figures["loss"]):
                raise UserError(
                    f"the loss is {figures['loss']} at step {training.step}: try a smaller lr"
                )
            now = time.monotonic()
            training.seconds = before + now - begun
            if report:  # before the state: a double record can be dropped, a lost one not restored
                report(training.step, figures)
            stops = stop_asked()
            if training.step == last or stops or now - saved > save_seconds:
                kept = {"identity": identity, "step": training.step, "seconds": training.seconds}
                if records is not None and records.whole:
                    kept["records"] = records.kept
                save_state(path, {**kept, "training": training.state()})
                saved = now
            if stops and training.step < last:
                raise stop(f"at step {training.step} of {path.parent.name}, state saved")


def warmup_cosine(step: int, num_steps: int, warmup: float) -> float:
    """Factor of the learning rate: linear warm-up over a share of the steps, cosine to zero."""
    rising = max(1, round(warmup * num_steps))
    if step < rising:
        return (step + 1) / rising
    done = (step - rising) / max(1, num_steps - rising)
    return 0.5 * (1 + math.cos(math.pi * done))
