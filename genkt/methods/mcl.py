"""Momentum weight interpolation (``mcl``): XE-KL whose result is a slow copy of the student."""

from __future__ import annotations

from dataclasses import dataclass

from genkt.methods.base import WeightRule
from genkt.methods.kd import LogitKDOptions
from genkt.settings.bounds import Count, ShareAboveZero, ShareBelowOne


@dataclass(frozen=True)
class MCLOptions(LogitKDOptions):
    """Options of ``mcl``: the loss is ``logit_kd``'s, the weights that count are slow ones.

    Source: Roth et al., "Fantastic Gains and Where to Find Them", Eq. 2 and 3; Stojanovski et al.,
    "Momentum-based weight interpolation of strong zero-shot models for continual learning".
    See ``genkt.training.MomentumWeights`` for when they are updated.

    Args:
        decay: tau of slow = tau * slow + (1 - tau) * fast.
        every: optimizer steps from one such update to the next.
    """

    name: str = "mcl"
    kl_weight: ShareAboveZero = 0.7
    decay: ShareBelowOne = 0.9999
    every: Count = 2

    @property
    def weight_rule(self) -> WeightRule:
        """Slow weights that follow the trained ones."""
        return WeightRule(self.decay, self.every)
