"""A run whose settings are open: a pilot decides them, then it is opened with numbers."""

from __future__ import annotations

import logging
from dataclasses import replace

from genkt.config.transfer_settings import TransferConfig
from genkt.files import discard
from genkt.precision import threads
from genkt.runs.notices import announce
from genkt.settings.objects import has_objects
from genkt.transfers.make_sets import with_sets
from genkt.transfers.open_run import open_run
from genkt.transfers.phases import OpenedRun
from genkt.transfers.pilot import PilotRun
from genkt.transfers.pilot_file import (
    HOME,
    PILOT,
    Pilot,
    Values,
    read_pilot,
    with_values,
    write_pilot,
)
from genkt.transfers.pilot_rules import FEW_DRAWS, MOST_DRAWS
from genkt.transfers.side_by_side import threads_each

logger = logging.getLogger("genkt")


def provisional(config: TransferConfig) -> TransferConfig:
    """The settings with numbers to open a run by, until a pilot has found the right ones.

    One draw is enough for it, but where images are re-represented for all draws at once.
    """
    if not config.undecided:
        return config
    short = _with_numbers(config, config.pilot.least_steps, MOST_DRAWS)
    return short if config.re_represents else replace(short, draws=1)


def longest(config: TransferConfig) -> TransferConfig:
    """The settings of the longest run that a pilot may choose."""
    return _with_numbers(config, config.pilot.most_steps, MOST_DRAWS)


def shortest(config: TransferConfig) -> TransferConfig | None:
    """Those of the shortest one; None: nothing is open."""
    least = _with_numbers(config, config.pilot.least_steps, FEW_DRAWS)
    return least if config.undecided else None


def _with_numbers(config: TransferConfig, steps: int, draws: int) -> TransferConfig:
    """The settings with numbers for what is open, and only for that."""
    lr = config.pilot.rates[0]
    numbers: Values = {"train.steps": steps, "train.lr": lr, "plain.lr": lr, "draws": draws}
    return with_values(config, {k: v for k, v in numbers.items() if k in config.undecided})


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
        pilot = opened.fabric.broadcast(read_pilot(folder) if opened.is_first else None)
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
    wanted = ", ".join(config.undecided)
    announce(opened.fabric, f"A pilot before the run decides {wanted}; {PILOT} will say why")
    run = with_sets(opened)
    shared = not has_objects(config)
    with threads(threads_each(longest(config)) if shared else None):  # as the run's students have
        pilot = PilotRun(run, config, started).decide()
    pilot = opened.fabric.broadcast(pilot)
    for note in pilot.notes():
        announce(opened.fabric, note)
    return pilot
