"""What a test checks of an error: what it is about and what was given, not how it is worded."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest

from genkt.types import UserError

_ANY = object()


@contextlib.contextmanager
def refused(
    *named: object, key: object = _ANY, got: object = _ANY, kind: type[Exception] = UserError
) -> Iterator[pytest.ExceptionInfo[Exception]]:
    """A block that ends in an error.

    Args:
        named: values that its message has as words of their own: keys, file names, numbers.
        key, got: what it was told to be about, and what it was told was given (``UserError.of``).
        kind: its class.
    """
    with pytest.raises(kind) as caught:
        yield caught
    error, text = caught.value, str(caught.value)
    if key is not _ANY:
        assert getattr(error, "key", None) == key, text
    if got is not _ANY:
        assert getattr(error, "got", None) == got, text
    for value in named:
        assert names(text, value), f"{value} is not named in: {text}"


def names(text: str, value: object) -> bool:
    """Whether a text has a value as a word of its own.

    >>> names("a.png: no such file", "a.png"), names("12 rows", 2), names("2 of 4", 4)
    (True, False, True)
    """
    word = re.escape(str(value))
    return re.search(rf"(?<![A-Za-z0-9_]){word}(?![A-Za-z0-9_])", text) is not None
