"""Slow weights that follow the trained ones: an average over the last steps, or momentum (MCL)."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genkt.models.backbone import Backbone

AVERAGE_RULE = "share of the newest: max(1 - decay, 9 / (n + 8))"
"""Name of the rule of ``newest_share``; a saved state of another rule is refused."""


def newest_share(num_updates: int, decay: float) -> float:
    """What share of an average its newest weights get at its n-th update, n from 1 on.

    max(1 - decay, 9 / (n + 8)). The first share is 1, so whatever the average held before is
    forgotten exactly, and the shares of all updates add up to 1 after any number of them. As long
    as the second term is the larger one, the average covers about the last tenth of all updates;
    from n = 9 / (1 - decay) on it is the usual exponential average.

    That is the warm-up min(decay, (1 + n) / (10 + n)) of TensorFlow's ExponentialMovingAverage, two
    updates further on, so that nothing of the start remains: TensorFlow's keeps 18 % of it after
    one update. An exact bias correction, (1 - decay) / (1 - decay^n), forgets the start too, but
    where decay^n is not small it is the plain mean of all updates, and the first ones spoil it.
    Karras et al., "Analyzing and Improving the Training Dynamics of Diffusion Models", Section 3.1,
    let the average cover a fixed share of the training so far for the same reason.

    >>> [round(newest_share(n, 0.999), 3) for n in (1, 2, 10, 240, 100_000)]
    [1.0, 0.9, 0.5, 0.036, 0.001]
    """
    return max(1 - decay, 9 / (num_updates + 8))


def average_lists(
    decay: float,
) -> Callable[[Sequence[Tensor], Sequence[Tensor], Tensor | int], None]:
    """The same average for ``torch.optim.swa_utils.AveragedModel``, as its ``multi_avg_fn``.

    torch copies the first weights itself, and gives the number of those that went before.
    """

    @torch.no_grad()
    def update(slow: Sequence[Tensor], fast: Sequence[Tensor], num_before: Tensor | int) -> None:
        _approach(slow, fast, newest_share(int(num_before) + 1, decay))

    return update


class SlowWeights(ABC):
    """A frozen copy of the student that moves towards it every so many steps.

    slow + share * (fast - slow): a weight that is equal in both keeps its bits. The copy shares no
    memory with the student, which is only read. Parameters and floating buffers (batch-norm
    statistics) move alike, integer buffers (batch-norm counters) are copied.

    Args:
        student: whose weights are followed; the copy is made of it as it is now.
        decay: from 0 to below 1.
        every: steps from one update to the next, at least 1.

    Attributes:
        model: the student with the slow weights, frozen.
    """

    def __init__(self, student: Backbone, decay: float, every: int) -> None:
        assert 0 <= decay < 1 and every >= 1, "the settings have checked them"
        self.decay, self.every = decay, every
        self.num_steps = 0
        self.model = copy.deepcopy(student).freeze()

    @abstractmethod
    def share(self) -> float | None:
        """How far the slow weights move after ``num_steps`` steps, 0..1; None: not at all."""

    @torch.no_grad()
    def update(self, student: Backbone) -> None:
        """Count one step of the student, and follow it where this step is one to do so."""
        self.num_steps += 1
        share = self.share()
        if share is None:
            return
        _approach(_tensors(self.model), _tensors(student), share)

    def state_dict(self) -> dict[str, Any]:
        """What a continuation needs; the share follows from the number of steps."""
        return {"num_steps": self.num_steps, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back."""
        self.num_steps = state["num_steps"]
        self.model.load_state_dict(state["model"])


class AveragedWeights(SlowWeights):
    """``train.ema``: the average of the trained weights by ``newest_share``.

    Before the first of its updates (fewer steps than ``every``) it is the trained weights.
    """

    def share(self) -> float | None:
        """By the number of updates; 1 up to the first."""
        if self.num_steps < self.every:
            return 1.0
        updates, rest = divmod(self.num_steps, self.every)
        return None if rest else newest_share(updates, self.decay)


class MomentumWeights(SlowWeights):
    """``method=mcl``: slow = decay * slow + (1 - decay) * fast, started at the first weights.

    After n updates decay^n of the start is left (``start_left``). Source: Roth et al., "Fantastic
    Gains and Where to Find Them", Eq. 3, after Stojanovski et al., "Momentum-based weight
    interpolation of strong zero-shot models for continual learning". Eq. 3 leaves open when an
    update is due: here after the optimizer's steps ``every``, 2 ``every``, ... of a stage, never
    before the first one; micro-batches of one step count once. Batch-norm statistics follow like
    weights, and counters are copied.

    Example:
        >>> from genkt.models.load import ModelSpec, load_model
        >>> student = load_model(ModelSpec("genkt:digits_teacher_small"))
        >>> slow = MomentumWeights(student, decay=0.9999, every=2)
        >>> slow.update(student)  # after each step of the optimizer; slow.model is what counts
    """

    def share(self) -> float | None:
        """The same at every update."""
        return None if self.num_steps % self.every else 1 - self.decay


def start_left(decay: float, every: int, num_steps: int) -> float:
    """Share of the first weights in ``MomentumWeights`` after a training, 0..1.

    >>> round(start_left(0.9999, 2, 240), 3)
    0.988
    """
    return float(decay ** (num_steps // every))


def _approach(slow: Iterable[Tensor], fast: Iterable[Tensor], share: float) -> None:
    """slow + share * (fast - slow) in place; what counts (integers) is copied."""
    means, targets = list[Tensor](), list[Tensor]()
    for mine, theirs in zip(slow, fast, strict=True):
        if mine.is_floating_point():
            means.append(mine)
            targets.append(theirs)
        else:
            mine.copy_(theirs)
    if means:
        torch._foreach_lerp_(means, targets, share)


def _tensors(model: nn.Module) -> list[Tensor]:
    """Every parameter and buffer once; a state dict names those that layers share twice."""
    return [*model.parameters(), *model.buffers()]
