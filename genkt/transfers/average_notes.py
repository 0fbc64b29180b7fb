"""Notes before training on averages of the weights that a run has too few steps for."""

from __future__ import annotations

from collections.abc import Mapping

from genkt.config.transfer_settings import TransferConfig
from genkt.training.averages import newest_share, start_left
from genkt.training.train_settings import TrainSettings

_MOST_LEFT = 0.01
"""Harmless share of the first weights in momentum's slow copy."""


def average_notes(config: TransferConfig, lengths: Mapping[str, int]) -> list[str]:
    """One line for each average of weights that has too few steps; often none.

    Args:
        lengths: steps of every training, by name.
    """
    return [*_momentum_notes(config, lengths), *_window_notes(config.train, lengths)]


def _momentum_notes(config: TransferConfig, lengths: Mapping[str, int]) -> list[str]:
    """Notes on slow weights of a method that stay close to the student's first ones."""
    notes = []
    for name, stage in config.distil_stages.items():
        rule = (stage.method or config.method).weight_rule
        if rule is None or name not in lengths:
            continue
        left = start_left(rule.decay, rule.every, lengths[name])
        if left > _MOST_LEFT:
            key = "method" if stage.method is None else f"recipe.stages.{name}.method"
            notes.append(
                f"{key}.decay={rule.decay:g}: after the {lengths[name]:,} steps of {name}, the "
                f"slow weights that the method returns are still {100 * left:.3g} % the student's "
                f"first ones ({rule.decay:g}^{lengths[name] // rule.every}). A student that knows "
                "the task already may want that; any other needs more steps, a smaller "
                f"{key}.decay or a smaller {key}.every (now {rule.every})."
            )
    return notes


def _window_notes(train: TrainSettings, lengths: Mapping[str, int]) -> list[str]:
    """Notes on training that is too short for ``train.ema``."""
    if train.ema is None:
        return []
    every, notes = train.ema_every, []
    shown = {name: f"{name} ({steps:,} steps)" for name, steps in lengths.items()}
    none = [shown[name] for name, steps in lengths.items() if steps < every]
    short = [
        shown[name]
        for name, steps in lengths.items()
        if steps >= every and newest_share(steps // every, train.ema) > 1 - train.ema
    ]
    if none:
        notes.append(
            f"train.ema_every={every}: nothing is averaged, as the training has fewer steps: "
            f"{', '.join(none)}."
        )
    if short:
        window = round(every / (1 - train.ema))
        notes.append(
            f"train.ema={train.ema:g} averages about {window:,} steps where training has "
            f"{9 * window:,} or more; a shorter one averages about its last tenth: "
            f"{', '.join(short)}."
        )
    return notes
