"""Exceptions on their way from one process to another."""

from __future__ import annotations

import os
import pickle
import traceback

from genkt.types import UserError


def portable(error: Exception, task: str) -> Exception:
    """The exception in a form that another process can raise, with its origin as a note.

    If pickling changes it, only its message is kept: a UserError stays one, others get their type
    as a prefix.
    """
    origin = f"in {task}, process {os.getpid()}:\n{traceback.format_exc()}"
    try:
        copied = pickle.loads(pickle.dumps(error))
        same = type(copied) is type(error) and str(copied) == str(error)
    except Exception:  # its constructor or state may raise anything
        same = False
    if not same:
        name = type(error).__name__
        known = isinstance(error, UserError)
        error = UserError(str(error)) if known else RuntimeError(f"{name}: {error}")
    error.add_note(origin)
    return error
