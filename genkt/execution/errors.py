"""Exceptions on their way from one process to another."""

from __future__ import annotations

import os
import pickle
import traceback

from genkt.types import UserError


def portable(error: Exception, task: str) -> Exception:
    """The exception as another process may raise it, with where it came from as a note.

    One that does not come back from a pickle as it was is told by its message alone: to the user
    where it was meant for one, else with its type.
    """
    origin = f"in {task}, process {os.getpid()}:\n{traceback.format_exc()}"
    try:
        copied = pickle.loads(pickle.dumps(error))
        same = type(copied) is type(error) and str(copied) == str(error)
    except Exception:  # whatever its constructor or state refuses
        same = False
    if not same:
        name = type(error).__name__
        known = isinstance(error, UserError)
        error = UserError(str(error)) if known else RuntimeError(f"{name}: {error}")
    error.add_note(origin)
    return error
