"""What an average of the weights cannot do in the steps that a run has, said before it trains."""

from __future__ import annotations

from genkt.config.recipe_settings import BASELINE, IrfRecipe
from genkt.runs.session import Session
from genkt.stages.distil import distil_steps, stage_rows
from genkt.stages.stage_kinds import baseline_steps
from genkt.training.averages import newest_share, start_left
from genkt.transfers.own_sets import planned_draw

_MOST_LEFT = 0.01
"""Share of the first weights that does no harm in momentum's slow copy."""


def average_notes(session: Session) -> list[str]:
    """One line for each thing that averages of this run's weights cannot do; often none."""
    lengths = _lengths(session)
    return [*_momentum_notes(session, lengths), *_window_notes(session, lengths)]


def _lengths(session: Session) -> dict[str, int]:
    """Steps of every distillation, and of the baseline; on the first draw."""
    config, draw = session.config, planned_draw(session)
    if isinstance(config.recipe, IrfRecipe):
        return {arm: config.recipe.steps for arm in config.arms}
    found = {
        name: distil_steps(*stage_rows(session, draw, stage))
        for name, stage in config.distil_stages.items()
    }
    if BASELINE in config.arms:
        found["plain fine-tuning"] = baseline_steps(session, draw, config.recipe)
    return {name: steps for name, steps in found.items() if steps}


def _momentum_notes(session: Session, lengths: dict[str, int]) -> list[str]:
    """Where a method's slow weights stay close to the student's first ones."""
    notes = []
    for name, stage in session.config.distil_stages.items():
        rule = (stage.method or session.config.method).weight_rule
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


def _window_notes(session: Session, lengths: dict[str, int]) -> list[str]:
    """Where training is too short for the average that ``train.ema`` asks for."""
    train = session.config.train
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
            f"train.ema_every={every}: nothing is averaged in fewer steps than that: "
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
