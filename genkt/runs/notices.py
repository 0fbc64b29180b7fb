"""What happens in the middle of a run and must not go unseen."""

from __future__ import annotations

import logging

from genkt.progress import say
from genkt.runs.session import Session

logger = logging.getLogger("genkt")


def announce(session: Session, text: str) -> None:
    """Something that holds for the whole run: in its log, and on standard error."""
    if session.fabric.is_global_zero:
        logger.warning(text)
        say(text)


def warn(session: Session, draw: int, stage: str, text: str) -> None:
    """A warning in the run's log, and above the progress bars on standard error.

    A dry run trains on a handful of images: what it would warn of says nothing.
    """
    if session.config.dry_run or not session.fabric.is_global_zero:
        return
    logger.warning("draw %d, %s: %s", draw, stage, text)
    say(f"draw {draw}, {stage}: {text}")
