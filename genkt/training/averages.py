"""Slow weights that follow the trained ones: an average over the steps, or momentum (MCL)."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from genkt.models.backbone import Backbone


class SlowWeights:
    """slow = decay * slow + (1 - decay) * fast, every so many steps of the student.

    The slow copy is cloned from the student as it is, before its first step, and shares no memory
    with it. Parameters and floating buffers (batch-norm statistics) are interpolated, integer
    buffers (batch-norm counters) copied; the student is only read. Source: Roth et al.,
    "Fantastic Gains and Where to Find Them", Eq. 3, after Stojanovski et al., "Momentum-based
    weight interpolation of strong zero-shot models for continual learning". ``every`` = 1 is the
    usual exponential moving average, started at the first weights.

    Args:
        student: whose weights are followed.
        decay: tau, from 0 to below 1.
        every: steps from one update to the next, at least 1.

    Attributes:
        model: the student with the slow weights, frozen.
    """

    def __init__(self, student: Backbone, decay: float, every: int) -> None:
        assert 0 <= decay < 1 and every >= 1, "the settings have checked them"
        self.decay, self.every = decay, every
        self.num_steps = 0
        self.model = copy.deepcopy(student).freeze()

    @torch.no_grad()
    def update(self, student: Backbone) -> None:
        """Count one step of the student; every ``every``-th moves the slow weights."""
        self.num_steps += 1
        if self.num_steps % self.every:
            return
        slow, fast = list[Tensor](), list[Tensor]()
        for mine, theirs in zip(_tensors(self.model), _tensors(student), strict=True):
            if mine.is_floating_point():
                slow.append(mine)
                fast.append(theirs)
            else:
                mine.copy_(theirs)
        # slow + (1 - decay) * (fast - slow): a frozen weight, equal in both, keeps its bits.
        torch._foreach_lerp_(slow, fast, 1 - self.decay)

    def state_dict(self) -> dict[str, Any]:
        """What a continuation needs."""
        return {"num_steps": self.num_steps, "model": self.model.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back."""
        self.num_steps = state["num_steps"]
        self.model.load_state_dict(state["model"])


def _tensors(model: nn.Module) -> list[Tensor]:
    """Every parameter and buffer once; a state dict names those that layers share twice."""
    return [*model.parameters(), *model.buffers()]
