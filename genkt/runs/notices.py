"""Warnings in the middle of a run that the user must see."""

from __future__ import annotations

import logging

from genkt.progress import say
from genkt.runs.run_log import StageLog
from genkt.training.lightning import Fabric

logger = logging.getLogger("genkt")


def announce(fabric: Fabric, text: str) -> None:
    """A message about the whole run: in its log, and on standard error."""
    if fabric.is_global_zero:
        logger.warning(text)
        say(text)


def tell(fabric: Fabric, text: str) -> None:
    """A message of the process that noticed something first, whichever that is."""
    if fabric.is_global_zero:
        logger.warning(text)
    say(text)


def warn(log: StageLog, stage: str, text: str) -> None:
    """A warning in the run's log, and above the progress bars on standard error.

    A dry run trains on a handful of images: its warnings would mean nothing.

    Args:
        log: of the student that it is about.
    """
    if not log.log.enabled:
        return
    logger.warning("%s, %s: %s", log.draw_text, stage, text)
    say(f"{log.draw_text}, {stage}: {text}")
