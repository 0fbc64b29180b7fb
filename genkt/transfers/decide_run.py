"""A run whose settings are open: a pilot decides them, then it is opened with numbers."""

from __future__ import annotations

import logging
from dataclasses import replace

from genkt.config.transfer_settings import TransferConfig
from genkt.files import discard
from genkt.runs.notices import announce
from genkt.transfers.make_sets import with_sets
from genkt.transfers.open_run import open_run
from genkt.transfers.phases import OpenedRun
from genkt.transfers.pilot import PilotRun
from genkt.transfers.pilot_file import HOME, Pilot, Values, read_pilot, with_values, write_pilot
from genkt.transfers.pilot_rules import MOST_DRAWS

logger = logging.getLogger("genkt")


def provisional(config: TransferConfig, steps: int | None = None) -> TransferConfig:
    """The settings with numbers to open a run by, until a pilot has found the right ones.

    One draw is enough for it, but where images are re-represented for all draws at once.

    Args:
        steps: in place of ``train.steps``; None: ``pilot.least_steps``.
    """
    open_, pilot = config.undecided, config.pilot
    if not open_:
        return config
    draws = MOST_DRAWS if config.draws == "auto" else config.draws
    numbers: Values = {
        "train.steps": steps or pilot.least_steps,
        "train.lr": pilot.rates[0],
        "plain.lr": pilot.rates[0],
    }
    values = {key: value for key, value in numbers.items() if key in open_}
    return with_values(config, {**values, "draws": draws if config.re_represents else 1})


def decided(config: TransferConfig, opened: OpenedRun, started: float) -> OpenedRun:
    """The run with a number for every setting, those of its ``pilot.json`` where it has one.

    Args:
        config: the settings with what is open.
        opened: by ``provisional`` settings, and claimed.
        started: of this process, by ``time.perf_counter``.

    Raises:
        UserError: ``minutes`` are too few.
    """
    if not config.undecided:
        return opened
    folder = opened.folder.path
    with opened.alone("pilot"):
        pilot = opened.fabric.broadcast(read_pilot(folder))
        if pilot is None:
            pilot = _new(config, opened, started)
            if opened.is_first:
                write_pilot(folder, pilot)
    if opened.is_first and (folder / HOME).exists():
        discard(folder / HOME)
    before, logger.disabled = logger.disabled, True  # the notes were told when it was first opened
    try:
        again = open_run(pilot.decided(config), opened.folder, opened.pool.splits)
    finally:
        logger.disabled = before
    return replace(again, pilot=pilot)


def _new(config: TransferConfig, opened: OpenedRun, started: float) -> Pilot:
    """Run the pilot, and say what it has found."""
    announce(opened.fabric, f"pilot: {', '.join(config.undecided)}")
    run = with_sets(opened)
    pilot = PilotRun(run, config, started).decide()
    pilot = opened.fabric.broadcast(pilot)
    for note in pilot.notes():
        announce(opened.fabric, note)
    return pilot
